import type { CommandAction } from "../../contract/command.js";
import type { TakeOptions } from "../../contract/key-values.js";
import { type Delivered, deliverOnce, type TakeSource } from "../../tools/take.js";
import { type Context, withInterface } from "../io/context.js";
import { entryJson, entryOf, missing } from "../io/keys.js";
import { withPortable } from "../io/namespace.js";
import { jsonText, visible } from "../io/output.js";

/** Takes a key of an interface, or a portable value. */
export const takeAction: CommandAction<Context> = (context, [key = ""], own) => {
  const { namespace, erase } = own;
  const options: TakeOptions = {
    ...context.call,
    erase: erase as TakeOptions["erase"],
    requireErase: own["require-erase"] === true,
  };
  const run = (source: TakeSource, name?: string): Promise<number> =>
    taken(context, source, key, options, name);
  return namespace === undefined
    ? withInterface(context, (target) => run(target, target.name))
    : withPortable(context, namespace, (view) => run(view));
};

async function taken(
  context: Context,
  source: TakeSource,
  key: string,
  options: TakeOptions,
  name: string | undefined,
): Promise<number> {
  const found = await deliverOnce(source, key, async (value) => print(context, key, value), options);
  if (found === undefined) return missing(context, { name }, key);
  const { erased, failure } = found;
  if (context.json) context.write(`${jsonText({ key, erased })}\n`);
  if (failure !== undefined) throw failure;
  if (!context.json && (erased === "no" || erased === "local")) warn(context, key, erased);
  return 0;
}

/** A kill behind this loses nothing: the value stands where standard output leads. */
function print(context: Context, key: string, value: Uint8Array): void {
  const entry = entryOf(key, value);
  if (context.json) context.write(`${jsonText(entryJson(entry))}\n`);
  else context.keys.printValue(entry);
  context.stdout.flush?.();
}

function warn(context: Context, key: string, erased: Delivered["erased"]): void {
  const what = erased === "local" ? "the host keeps its own copy" : "it cannot be erased from here";
  context.say(`the value of ${visible(key)} was read, and ${what}`, { key, erased });
}
