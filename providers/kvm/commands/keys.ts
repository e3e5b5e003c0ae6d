import { isUtf8 } from "node:buffer";
import type { CommandIo } from "../../../src/contract/command.js";
import type { KeyValues } from "../../../src/contract/key-values.js";
import { type Administration, checkGuestName, openAdministration } from "../host/index.js";
import { type HostOptions, stateOf, usage } from "./documents.js";

type Arguments = readonly string[];

export const getAction = onGuestKeys((io, keys, [key = ""]) => io.keys.get(keys, key));

export async function setAction(
  io: CommandIo,
  [key = "", text = ""]: Arguments,
  own: HostOptions,
): Promise<number> {
  const guest = guestOf(io, own);
  // Read before: nobody else can work on the keys while this command does.
  const value = text === "-" ? await io.readInput() : text;
  return administer(io, own, (administration) => io.keys.set(guestKeys(administration, guest), key, value));
}

export const rmAction = onGuestKeys((io, keys, [key = ""]) => io.keys.rm(keys, key));

/** Exit 1 where a log was damaged, which is said on standard error. */
export function lsAction(io: CommandIo, [prefix]: Arguments, own: HostOptions): Promise<number> {
  return administer(io, own, async (administration) => {
    if (own.guest === undefined) {
      if (prefix !== undefined) throw io.usage("host ls: a prefix needs --guest NAME");
      const names = await administration.guests(io.call);
      if (io.json) io.writeJson(names);
      else for (const name of names) io.write(`${name}\n`);
      return tellDamage(io, administration);
    }
    const guest = guestOf(io, own);
    await io.keys.ls(guestKeys(administration, guest), prefix);
    return tellDamage(io, administration, guest);
  });
}

/** Says what is wrong with the logs of all guests, or of one. @returns the exit code */
async function tellDamage(io: CommandIo, administration: Administration, only?: string): Promise<number> {
  const damages = (await administration.damages(io.call)).filter(
    ({ guest }) => only === undefined || guest === only,
  );
  for (const { guest, message } of damages)
    io.complain({ code: "ERR_CORRUPT", message: `guest ${guest}: ${message}` });
  return damages.length === 0 ? 0 : 1;
}

function onGuestKeys(work: (io: CommandIo, keys: KeyValues, args: Arguments) => Promise<number>) {
  return (io: CommandIo, args: Arguments, own: HostOptions): Promise<number> =>
    administer(io, own, (administration) => work(io, guestKeys(administration, guestOf(io, own)), args));
}

async function administer(
  io: CommandIo,
  own: HostOptions,
  work: (administration: Administration) => Promise<number>,
): Promise<number> {
  const administration = await openAdministration(stateOf(io, own), io.call);
  try {
    return await work(administration);
  } finally {
    await administration.close();
  }
}

function guestOf(io: CommandIo, { guest = [] }: HostOptions): string {
  const [name] = guest;
  if (guest.length !== 1 || !name) throw io.usage("host: name one guest with --guest NAME");
  return usage(io, () => checkGuestName(name));
}

function guestKeys(administration: Administration, guest: string): KeyValues {
  return {
    readBytes: (key, call) => administration.get(guest, key, call),
    write: (key, value, call) => administration.set(guest, key, Buffer.from(value), call),
    delete: (key, call) => administration.delete(guest, key, call),
    list: async function* (prefix, call) {
      for await (const { key, value } of administration.list(guest, prefix, call)) {
        const text = Buffer.from(value).toString("utf8");
        yield isUtf8(value) ? { key, value: text } : { key, value: text, bytes: value };
      }
    },
  };
}
