import { statSync } from "node:fs";
import type { CommandOption } from "../../contract/command.js";

/** Parses a number of seconds. @throws TypeError for what is none */
export function seconds(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !(value >= 0)) throw new TypeError("takes a number of seconds, zero or more");
  return value;
}

/** A mistyped directory would look like a machine without anything. @throws TypeError when it does not exist */
export function directory(path: string): string {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return path;
  throw new TypeError(`takes a directory that exists, not '${path}'`);
}

function setting(text: string): readonly [name: string, value: string] {
  const at = text.indexOf("=");
  if (at < 1) throw new TypeError("takes NAME=VALUE");
  return [text.slice(0, at), text.slice(at + 1)];
}

/** Long name of the option that adds providers; it is taken before all others. */
export const PROVIDER_OPTION = "provider";

/** The option that a variable of the environment may stand for. */
export const SYSROOT: CommandOption = {
  name: "sysroot",
  value: "DIR",
  description: "take every file below DIR (also PVBUS_SYSROOT)",
  parse: directory,
};

/** The options of all commands. */
export const GLOBALS: readonly CommandOption[] = [
  { name: "json", description: "print JSON" },
  SYSROOT,
  { name: "interface", short: "i", value: "NAME", description: "work on this interface, such as pvbus1" },
  { name: "type", short: "t", value: "TYPE", description: "work on this type, whatever detection says" },
  { name: "channel", value: "SPEC", description: "transport of that type, such as unix:PATH" },
  { name: "timeout", value: "SECONDS", description: "longest time to wait", parse: seconds },
  {
    name: "option",
    short: "o",
    value: "NAME=VALUE",
    multiple: true,
    description: "setting of the provider (with -t); repeatable; --help -t TYPE lists them",
    parse: setting,
  },
  {
    name: PROVIDER_OPTION,
    value: "MODULE",
    multiple: true,
    description: "add the provider of a package or a path (also PVBUS_PROVIDERS); repeatable",
  },
  { name: "verbose", short: "v", description: "say more on standard error" },
  { name: "help", short: "h", description: "show this help" },
  { name: "version", short: "V", description: "show the version" },
];
