import { isUtf8 } from "node:buffer";
import type { StoreEntry } from "../../../bus/store.js";
import { type Administration, type GuestEntry, loadKvmHost } from "../../../services.js";
import { callOptions, UsageError } from "../../context.js";
import { entryJson, jsonText, visible, visibleKey, writeData, writeError, writeJson } from "../../output.js";
import { type HostAction, stateOf } from "./host.js";

/** `pvbus host get KEY`: the value as it is and a line end; exit 1 when the key is missing. */
export function getAction(action: HostAction): Promise<number> {
  const { stdout, options } = action.context;
  const [key = ""] = action.args;
  return administer(action, async (administration) => {
    const value = await administration.get(guestOf(action), key, callOptions(action.context));
    if (value === undefined) return missing(action, key);
    if (options.json === true) writeJson(stdout, entryJson(storeEntry({ key, value })));
    else {
      writeData(stdout, value);
      stdout.write("\n");
    }
    return 0;
  });
}

/** `pvbus host set KEY VALUE`: stores a value; `-` takes it from standard input, as it is. */
export async function setAction(action: HostAction): Promise<number> {
  const { stdout, options, readInput } = action.context;
  const [key = "", text = ""] = action.args;
  const guest = guestOf(action);
  const value = text === "-" ? await readInput() : Buffer.from(text);
  return administer(action, async (administration) => {
    await administration.set(guest, key, value, callOptions(action.context));
    if (options.json === true) writeJson(stdout, { key, written: true });
    return 0;
  });
}

/** `pvbus host rm KEY`: removes a key; exit 1 when it was not there. */
export function rmAction(action: HostAction): Promise<number> {
  const { stdout, options } = action.context;
  const [key = ""] = action.args;
  return administer(action, async (administration) => {
    if (!(await administration.delete(guestOf(action), key, callOptions(action.context))))
      return missing(action, key);
    if (options.json === true) writeJson(stdout, { key, removed: true });
    return 0;
  });
}

/** `pvbus host ls [PREFIX]`: one `key=value` a line, or a JSON array; without a guest the names of the guests. */
export function lsAction(action: HostAction): Promise<number> {
  const { context, own, args } = action;
  const { stdout, options } = context;
  const json = options.json === true;
  return administer(action, async (administration) => {
    if (own.guest === undefined) {
      if (args.length > 0) throw new UsageError("host ls: a prefix needs --guest NAME");
      const names = await administration.guests(callOptions(context));
      if (json) writeJson(stdout, names);
      else for (const name of names) stdout.write(`${name}\n`);
      return 0;
    }
    let front = "[";
    for await (const entry of administration.list(guestOf(action), args[0], callOptions(context))) {
      if (json) stdout.write(`${front}\n  ${jsonText(entryJson(storeEntry(entry)))}`);
      else stdout.write(`${visibleKey(entry.key)}=${visible(Buffer.from(entry.value).toString("utf8"))}\n`);
      front = ",";
    }
    if (json) stdout.write(front === "[" ? "[]\n" : "\n]\n");
    return 0;
  });
}

async function administer(
  action: HostAction,
  work: (administration: Administration) => Promise<number>,
): Promise<number> {
  const { openAdministration } = await loadKvmHost();
  const administration = await openAdministration(stateOf(action), callOptions(action.context));
  try {
    return await work(administration);
  } finally {
    await administration.close();
  }
}

function guestOf({ own: { guest = [] } }: HostAction): string {
  const [name] = guest;
  if (guest.length !== 1 || !name) throw new UsageError("host: name one guest with --guest NAME");
  return name;
}

function storeEntry({ key, value }: GuestEntry): StoreEntry {
  const text = Buffer.from(value).toString("utf8");
  return isUtf8(value) ? { key, value: text } : { key, value: text, bytes: value };
}

/** Says that there is no such key. @returns the exit code */
function missing({ context: { stderr, options } }: HostAction, key: string): number {
  if (options.json === true) writeError(stderr, { code: null, message: "no such key", interface: null, key });
  else stderr.write(`pvbus: no such key: ${visible(key)}\n`);
  return 1;
}
