import { isUtf8 } from "node:buffer";
import { callOptions, UsageError } from "../../../src/cli/io/context.js";
import {
  entryJson,
  visible,
  visibleKey,
  writeData,
  writeEach,
  writeError,
  writeJson,
} from "../../../src/cli/io/output.js";
import type { StoreEntry } from "../../../src/contract/store.js";
import { type Administration, type GuestEntry, loadKvmHost } from "../../../src/services.js";
import { usage } from "./documents.js";
import { type HostAction, stateOf } from "./host.js";

/** `pvbus host get KEY`: the value as it is and a line end; exit 1 when the key is missing. */
export function getAction(action: HostAction): Promise<number> {
  const { stdout, options } = action.context;
  const [key = ""] = action.args;
  return administer(action, async (administration) => {
    const value = await administration.get(await guestOf(action), key, callOptions(action.context));
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
  const guest = await guestOf(action);
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
    if (!(await administration.delete(await guestOf(action), key, callOptions(action.context))))
      return missing(action, key);
    if (options.json === true) writeJson(stdout, { key, deleted: true });
    return 0;
  });
}

/**
 * `pvbus host ls [PREFIX]`: one `key=value` a line, or a JSON array; without a guest the names of the guests. Exit 1 where a log was
 * damaged, which is said on standard error.
 */
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
      return tellDamage(action, administration);
    }
    const guest = await guestOf(action);
    await writeEach(stdout, administration.list(guest, args[0], callOptions(context)), {
      json: json ? (entry: GuestEntry) => entryJson(storeEntry(entry)) : undefined,
      line: ({ key, value }) => `${visibleKey(key)}=${visible(Buffer.from(value).toString("utf8"))}`,
    });
    return tellDamage(action, administration, guest);
  });
}

/** Says what is wrong with the logs of all guests, or of one. @returns the exit code */
async function tellDamage(
  { context }: HostAction,
  administration: Administration,
  only?: string,
): Promise<number> {
  const { stderr, options } = context;
  const damages = (await administration.damages(callOptions(context))).filter(
    ({ guest }) => only === undefined || guest === only,
  );
  for (const { guest, message } of damages) {
    const text = `guest ${guest}: ${message}`;
    if (options.json === true)
      writeError(stderr, { code: "ERR_CORRUPT", message: text, interface: null, key: null });
    else stderr.write(`pvbus: ${visible(text)}\n`);
  }
  return damages.length === 0 ? 0 : 1;
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

async function guestOf({ own: { guest = [] } }: HostAction): Promise<string> {
  const [name] = guest;
  if (guest.length !== 1 || !name) throw new UsageError("host: name one guest with --guest NAME");
  const { checkGuestName } = await loadKvmHost();
  return usage(() => checkGuestName(name));
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
