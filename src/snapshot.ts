import type { CaptureOptions, SnapshotDocument } from "./detect/capture.js";
import { nodeHost } from "./host/node-host.js";

/** Options of {@link captureSnapshot}. */
export interface SnapshotOptions extends CaptureOptions {
  /** Directory that stands for `/`; default: this machine. */
  readonly sysroot?: string | undefined;
}

/**
 * Records all facts of a machine that detection reads as one JSON document, for `openPvbus({ snapshot })` anywhere.
 * Serial numbers, UUIDs and asset tags are redacted unless `includeIdentifiers` is set.
 * @throws PvbusError `ERR_CORRUPT` when a sysroot holds a malformed snapshot already
 */
export async function captureSnapshot(options: SnapshotOptions = {}): Promise<SnapshotDocument> {
  const { recordMachine } = await import("./detect/capture.js");
  return recordMachine(nodeHost({ sysroot: options.sysroot }), options);
}
