export type {
  ConformanceHost,
  ConformanceKeys,
  ConformanceOptions,
  ConformanceRunner,
  ConformanceSubject,
  ConformanceTrait,
  MakeConformanceSubject,
} from "../src/testing/conformance/subject.js";
export { describeProviderConformance } from "../src/testing/conformance/suite.js";
export { manifestOf } from "../src/testing/manifest.js";
export { MemoryProvider, type MemorySettings, memoryManifest } from "../src/testing/memory-provider.js";
export { MemoryStore } from "../src/testing/memory-store.js";
export type { KvpIpInfo } from "./hyperv/protocol/messages.js";
export { HypervHostSimulator, KvpHostError, type KvpItem } from "./hyperv/testing/host.js";
export type { HostFailure } from "./hyperv/testing/kvp-device/driver.js";
export {
  type HostIpInfo,
  type HostRecord,
  KvpDeviceSimulator,
  type KvpDeviceSimulatorOptions,
  KvpDriverAnswer,
} from "./hyperv/testing/kvp-device/simulator.js";
export type { KvmHostFault } from "./kvm/testing/faults.js";
export { type KvmHostDialect, type KvmHostSettings, KvmHostSimulator } from "./kvm/testing/simulator.js";
export type { LxdFaults, LxdRequest } from "./lxd/testing/faults.js";
export { LxdSimulator, type LxdSimulatorOptions } from "./lxd/testing/simulator.js";
export type { CallerMemory, RunningRequest, SimulatedDriver } from "./virtualbox/testing/driver.js";
export type {
  PendingWait,
  PropertyService,
  ServiceAnswer,
  ServiceMemory,
  ServiceNumber,
  ServiceParameter,
  SimulatedProperty,
  VirtualBoxFaults,
} from "./virtualbox/testing/service.js";
export { VirtualBoxSimulator, type VirtualBoxSimulatorOptions } from "./virtualbox/testing/simulator.js";
export {
  VmxBackdoor,
  type VmxBackdoorOptions,
  type VmxFault,
  type VmxStep,
  type VmxTrap,
} from "./vmware/testing/backdoor.js";
export type { DataSetAccess, SimulatedDataSets } from "./vmware/testing/data-sets.js";
export {
  type SimulatedNamespaces,
  VmxHost,
  type VmxHostOptions,
  type VmxPeer,
} from "./vmware/testing/host.js";
export { VmxListener, type VmxListenerOptions, type VmxStreamFault } from "./vmware/testing/listener.js";
export type { XenStoreFaults, XsMessage } from "./xen/testing/faults.js";
export type { XenStoreQuotas } from "./xen/testing/operations.js";
export {
  type DomainDescription,
  XenStoreSimulator,
  type XenStoreSimulatorOptions,
} from "./xen/testing/simulator.js";
