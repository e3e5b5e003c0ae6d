export { Bus } from "./bus/bus.js";
export type { CallOptions } from "./bus/call.js";
export { Call } from "./bus/call.js";
export type { Capabilities, Limits, Verbs } from "./bus/capabilities.js";
export type { Diagnosis } from "./bus/diagnosis.js";
export {
  AbortedError,
  FormatError,
  LimitError,
  PvbusError,
  type PvbusErrorCode,
  type PvbusErrorDetails,
  pvbusError,
  RefusedError,
  RetryableError,
  UnavailableError,
} from "./bus/errors.js";
export { type InterfaceParts, PvInterface, type WatchOptions } from "./bus/interface.js";
export { type KernelErrno, KernelError, type KernelStore } from "./bus/kernel-store.js";
export { PortableView } from "./bus/portable-keys.js";
export type { Provider, ProviderClass, StoreTarget } from "./bus/provider.js";
export type {
  MachineFacts,
  PortableLayout,
  ProviderStore,
  RawEntry,
  StoreChange,
  StoreEntry,
  WatchHooks,
} from "./bus/store.js";
export { HOST, PROVIDER, type Token } from "./bus/tokens.js";
export type { SnapshotDocument } from "./detect/capture.js";
export type { DetectedInterface, DetectionReport, Evidence, EvidenceSource } from "./detect/report.js";
export type { FileKind, FileOpening, HostFiles } from "./host/files.js";
export type { Clock, Host, Logger } from "./host/host.js";
export { type NodeHostOptions, nodeHost } from "./host/node-host.js";
export type { Held, HeldName } from "./host/tree.js";
export { type InterfaceRequest, type OpenOptions, openPvbus } from "./open.js";
export { captureSnapshot, type SnapshotOptions } from "./snapshot.js";
