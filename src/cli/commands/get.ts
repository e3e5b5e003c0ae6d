import { isUtf8 } from "node:buffer";
import type { PvInterface } from "../../bus/interface/interface.js";
import { type Context, callOptions, withInterface } from "../io/context.js";
import { entryJson, visible, writeData, writeError, writeJson } from "../io/output.js";

/**
 * `pvbus get KEY`: the value as it is and a line end; on a terminal its control characters are shown as escapes. Exit 1
 * when the key is missing.
 */
export function getCommand(context: Context, key: string): Promise<number> {
  return withInterface(context, async (target) => {
    const bytes = await target.readBytes(key, callOptions(context));
    if (bytes === undefined) return missing(context, target, key);
    const { stdout } = context;
    const value = Buffer.from(bytes).toString("utf8");
    if (context.options.json === true)
      writeJson(stdout, entryJson(isUtf8(bytes) ? { key, value } : { key, value, bytes }));
    else {
      writeData(stdout, bytes);
      stdout.write("\n");
    }
    return 0;
  });
}

/** Says that there is no such key. @returns the exit code */
export function missing({ stderr, options }: Context, target: PvInterface, key: string): number {
  if (options.json === true)
    writeError(stderr, { code: null, message: "no such key", interface: target.name, key });
  else stderr.write(`pvbus: no such key: ${visible(key)}\n`);
  return 1;
}
