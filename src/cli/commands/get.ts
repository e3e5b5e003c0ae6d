import type { CallOptions } from "../../base/flow/call.js";
import type { Bus } from "../../bus/bus.js";
import type { Command } from "../../contract/command.js";
import { type Context, withInterface } from "../io/context.js";
import { entryOf } from "../io/keys.js";
import { NAMESPACE, namedKeys, withPortable } from "../io/namespace.js";
import { TRUST_HOST, trustOf } from "../io/trust.js";

/**
 * `pvbus get KEY`: the value as it is and a line end; on a terminal its control characters are shown as escapes. Exit 1
 * when the key is missing. With `-n` what the host gave under a portable name; with `--wait` when it is there.
 */
export const get: Command<Context> = {
  name: "get",
  args: ["<key>"],
  description: "print the value of a key",
  options: [
    NAMESPACE,
    { name: "published", description: "with -n: what the guest published, not what the host gave" },
    { name: "wait", description: "wait until the key is there, for --timeout seconds or for ever" },
    TRUST_HOST,
  ],
  load:
    async () =>
    async (context, [key = ""], own) => {
      const { namespace, published, wait } = own;
      const isPublished = published === true;
      if (isPublished && namespace === undefined) throw context.usage("--published needs -n NS");
      if (isPublished && wait === true)
        throw context.usage("--wait waits for what the host gives; leave out --published");
      if (wait === true) return waitFor(context, key, own);
      if (namespace === undefined) return withInterface(context, (target) => context.keys.get(target, key));
      return withPortable(context, namespace, (view) =>
        context.keys.get(namedKeys(view, isPublished ? "guest" : "host"), key),
      );
    },
};

/** Waits for a value, also while the machine shows no interface yet, and says once what it waits for. */
async function waitFor(
  context: Context,
  key: string,
  own: Readonly<Record<string, unknown>>,
): Promise<number> {
  const { untilThere } = await import("../../tools/wait.js");
  const { checkTrust } = await import("../../tools/trust.js");
  const { namespace } = own;
  const check = ({ detection }: Bus): void => checkTrust(detection, trustOf(own));
  const said = new Set<string>();
  const attempt = (limits: CallOptions): Promise<Uint8Array> =>
    namespace === undefined
      ? withInterface(context, (target) => target.waitBytes(key, limits), undefined, check)
      : withPortable(context, namespace, (view) => view.waitBytes(key, limits), check);
  const bytes = await untilThere(attempt, {
    ...context.call,
    waiting: ({ message }) => {
      if (!said.has(message)) context.say(`waiting: ${message}`, { waiting: message });
      said.add(message);
    },
  });
  context.keys.printValue(entryOf(key, bytes));
  return 0;
}
