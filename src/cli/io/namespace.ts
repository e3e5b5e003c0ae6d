import { isUtf8 } from "node:buffer";
import { pvbusError } from "../../base/errors.js";
import type { Bus } from "../../bus/bus.js";
import type { PortableView } from "../../bus/portable/view.js";
import type { CommandOption } from "../../contract/command.js";
import type { KeyValues } from "../../contract/key-values.js";
import type { PortableEntry } from "../../contract/portable.js";
import { type Context, withBus } from "./context.js";
import type { ListedEntry, WatchedKeys } from "./keys.js";

/** Keys are portable names of a namespace. */
export const NAMESPACE: CommandOption = {
  name: "namespace",
  short: "n",
  value: "NS",
  description: "keys are portable names of this namespace, the same on every hypervisor",
};

/**
 * Runs an action on the portable view of all interfaces, or of the one that `-i` or `-t` names.
 * @param check looks at what was detected before
 */
export function withPortable<T>(
  context: Context,
  namespace: unknown,
  action: (view: PortableView) => Promise<T>,
  check?: (bus: Bus) => void,
): Promise<T> {
  const { interface: name, type } = context.options;
  const onBus = (bus: Bus): Promise<T> => {
    check?.(bus);
    return action(bus.portable(String(namespace), { interface: name, type }));
  };
  return withBus(context, onBus, { detect: check !== undefined });
}

/** Returns a namespace as keys that are read, written and printed as any others. @param side whose values are read */
export function namedKeys(view: PortableView, side: "host" | "guest" = "host"): KeyValues & WatchedKeys {
  return {
    readBytes: (name, options) =>
      side === "guest" ? view.publishedBytes(name, options) : view.getBytes(name, options),
    write: (name, value, options) => view.publish(name, textOf(value), options),
    delete: (name, options) => view.unpublish(name, options),
    list: async function* (prefix = "", options) {
      for await (const { entry } of namedEntries(view.list(options), prefix)) yield entry;
    },
    watch: async function* (name = "", options) {
      for await (const { name: key, ...change } of view.watch(name === "" ? undefined : name, options))
        yield { key, ...change };
    },
  };
}

/** Returns what is listed of a namespace, with who has put it there. @param prefix beginning of the names */
export async function* namedEntries(
  entries: AsyncIterable<PortableEntry>,
  prefix: string,
): AsyncGenerator<ListedEntry, void, undefined> {
  for await (const { name: key, direction, ...value } of entries)
    if (key.startsWith(prefix)) yield { entry: { key, ...value }, direction };
}

function textOf(value: string | Uint8Array): string {
  if (typeof value === "string") return value;
  if (!isUtf8(value))
    throw pvbusError(
      "ERR_VALUE_INVALID",
      "a portable value is text, and this is not valid UTF-8; encode it (base64)",
    );
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(value);
}
