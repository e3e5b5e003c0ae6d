import { nodeHost } from "./base/host/node-host.js";
import type { CaptureOptions, SnapshotDocument } from "./detect/capture.js";

/** Options of {@link captureSnapshot}. */
export interface SnapshotOptions extends CaptureOptions {
  /** Directory that stands for `/`; default: this machine. */
  readonly sysroot?: string | undefined;
}

/**
 * Records all facts of a machine that detection reads as one JSON document, for `openPvbus({ snapshot })` anywhere.
 * It keeps what the decision needs and the firmware's texts of maker, model and version; all else that was read, such as serial
 * numbers, UUIDs, names and boot messages, only with `includeIdentifiers`.
 * @throws PvbusError `ERR_CORRUPT` when a sysroot holds a malformed snapshot already
 */
export async function captureSnapshot(options: SnapshotOptions = {}): Promise<SnapshotDocument> {
  const { recordMachine } = await import("./detect/capture.js");
  return recordMachine(nodeHost({ sysroot: options.sysroot }), options);
}
