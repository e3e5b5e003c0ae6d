import { isUtf8 } from "node:buffer";
import { type Context, callOptions, withInterface } from "../context.js";
import { entryJson, visible, writeJson } from "../output.js";

/** `pvbus get KEY`: the value and a line end; exit 1 without one when the key is missing. */
export function getCommand(context: Context, key: string): Promise<number> {
  return withInterface(context, async (target) => {
    const bytes = await target.readBytes(key, callOptions(context));
    if (bytes === undefined) return missing(context, key);
    const { stdout } = context;
    const value = Buffer.from(bytes).toString("utf8");
    if (context.options.json === true)
      writeJson(stdout, entryJson(isUtf8(bytes) ? { key, value } : { key, value, bytes }));
    else if (stdout.isTTY === true) stdout.write(`${value.split("\n").map(visible).join("\n")}\n`);
    else {
      stdout.write(bytes);
      stdout.write("\n");
    }
    return 0;
  });
}

/** Says that there is no such key. @returns the exit code */
export function missing({ stderr, options }: Context, key: string): number {
  if (options.json === true) writeJson(stderr, { error: { code: null, message: "no such key", key } });
  else stderr.write(`pvbus: no such key: ${visible(key)}\n`);
  return 1;
}
