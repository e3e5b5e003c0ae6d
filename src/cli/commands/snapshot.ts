import { captureSnapshot } from "../../snapshot.js";
import type { Context } from "../io/context.js";
import { writeJson } from "../io/output.js";

/** `pvbus snapshot`: all facts of this machine as one JSON document that `pvbus detect --snapshot` takes. */
export async function snapshotCommand(context: Context, own: { identifiers?: boolean }): Promise<number> {
  const { sysroot } = context.options;
  writeJson(context.stdout, await captureSnapshot({ sysroot, includeIdentifiers: own.identifiers }));
  return 0;
}
