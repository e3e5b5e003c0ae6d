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
} from "./base/errors.js";
export { Call, type CallOptions } from "./base/flow/call.js";
export type { FileKind, FileOpening, HostFiles } from "./base/host/files.js";
export type { Clock, Host, Logger } from "./base/host/host.js";
export { type NodeHostOptions, nodeHost } from "./base/host/node-host.js";
export type { Held, HeldName } from "./base/host/tree.js";
export { type HostctlErrno, HostctlError } from "./base/hostctl-error.js";
export type {
  BooleanOption,
  CheckedOptions,
  ChoiceOption,
  Defaulted,
  EntryOf,
  GivenOptions,
  ListOption,
  NumberOption,
  OptionEntry,
  OptionSchema,
  TextOption,
  ValueOf,
} from "./base/options.js";
export { Bus } from "./bus/bus.js";
export { type InterfaceParts, PvInterface } from "./bus/interface/interface.js";
export type { InterfaceRequest, OpenOptions } from "./bus/open.js";
export { joinFromHost, splitForHost } from "./bus/portable/host-tool.js";
export { PortableView } from "./bus/portable/view.js";
export { openPvbus } from "./composition.js";
export type * from "./contract/boot-data.js";
export type { Capabilities, Limits, Verbs } from "./contract/capabilities.js";
export type * from "./contract/command.js";
export type * from "./contract/demo.js";
export type { Diagnosis } from "./contract/diagnosis.js";
export type { HostctlStore } from "./contract/hostctl.js";
export type * from "./contract/key-values.js";
export type * from "./contract/manifest.js";
export type * from "./contract/portable.js";
export type * from "./contract/portable-host.js";
export type * from "./contract/provider.js";
export type * from "./contract/report.js";
export type * from "./contract/store.js";
export { HOST, PROVIDER, type Token } from "./contract/tokens.js";
export type { SnapshotDocument } from "./detect/capture.js";
export { captureSnapshot, type SnapshotOptions } from "./snapshot.js";
