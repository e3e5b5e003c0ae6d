export type { KvpIpInfo } from "../../providers/hyperv/kvp-message.js";
export type { ConformanceRunner } from "./conformance/runner.js";
export type {
  ConformanceKeys,
  ConformanceOptions,
  ConformanceSubject,
  MakeConformanceSubject,
} from "./conformance/subject.js";
export { describeProviderConformance } from "./conformance/suite.js";
export type { ConformanceTrait } from "./conformance/trait.js";
export { HypervHostSimulator, KvpHostError, type KvpItem } from "./hyperv-host.js";
export type { KvmHostFault } from "./kvm-host/faults.js";
export { type KvmHostDialect, type KvmHostSettings, KvmHostSimulator } from "./kvm-host/simulator.js";
export type { HostFailure } from "./kvp-device/driver.js";
export {
  type HostIpInfo,
  type HostRecord,
  HypervKernelSimulator,
  type KernelSimulatorOptions,
  KvpDriverAnswer,
} from "./kvp-device/simulator.js";
export { MemoryProvider, type MemorySettings } from "./memory-provider.js";
export { MemoryStore } from "./memory-store.js";
export {
  VmxBackdoor,
  type VmxBackdoorOptions,
  type VmxFault,
  type VmxStep,
  type VmxTrap,
} from "./vmx/backdoor.js";
export type { DataSetAccess, SimulatedDataSets } from "./vmx/data-sets.js";
export { VmxHost, type VmxHostOptions, type VmxPeer } from "./vmx/host.js";
export { VmxListener, type VmxListenerOptions, type VmxStreamFault } from "./vmx/listener.js";
export type { SimulatedNamespaces } from "./vmx/namespaces.js";
export type { XenStoreFaults, XsMessage } from "./xenstore/faults.js";
export type { XenStoreQuotas } from "./xenstore/operations.js";
export {
  type DomainDescription,
  XenStoreSimulator,
  type XenStoreSimulatorOptions,
} from "./xenstore/simulator.js";
