import type { ProviderManifest } from "../contract/manifest.js";

const VERBS = ["read", "write", "delete", "list", "watch"] as const;
const KINDS: readonly string[] = ["boolean", "choice", "number", "text", "list"];
/** Of ids, commands and options. */
const NAME = /^[a-z][a-z0-9-]{0,31}$/;
const TYPE = /^[\x20-\x7e]{1,64}$/;

/** What joining goes by besides. */
interface JoinRules {
  /** Names of commands that no provider may have. */
  readonly commandNames?: readonly string[] | undefined;
  /** Names a stranger's manifest in errors; default: by its place. */
  readonly nameOf?: ((manifest: ProviderManifest) => string) | undefined;
}

/**
 * Joins the built-in manifests with those of strangers. A stranger's takes the place of the built-in one of the same id.
 * @throws TypeError for what is no manifest, for two strangers with one id, and for a command name that is taken
 */
export function joinManifests(
  builtIn: readonly ProviderManifest[],
  strangers: readonly ProviderManifest[],
  { commandNames = [], nameOf }: JoinRules = {},
): readonly ProviderManifest[] {
  const joined = new Map(builtIn.map((each) => [each.id, each]));
  const known = new Map<string, ProviderManifest>();
  const named = (each: ProviderManifest): string => nameOf?.(each) ?? `provider ${each.id} (${each.type})`;
  for (const [index, each] of strangers.entries()) {
    checkManifest(each, nameOf?.(each) ?? `provider ${index + 1}`);
    const other = known.get(each.id);
    if (other !== undefined && other !== each)
      throw new TypeError(`${named(other)} and ${named(each)} both have the id "${each.id}"; leave one out`);
    known.set(each.id, each);
    joined.set(each.id, each);
  }
  const all = [...joined.values()];
  const taken = new Map(commandNames.map((name) => [name, "pvbus"]));
  for (const each of all) {
    const owner = known.has(each.id) ? named(each) : `the built-in provider ${each.id}`;
    for (const { name } of each.commands ?? []) {
      const other = taken.get(name);
      if (other !== undefined)
        throw new TypeError(`${other} and ${owner} both have the command "${name}"; leave one out`);
      taken.set(name, owner);
    }
  }
  return all;
}

/** Checks the shape of a manifest. @throws TypeError that names it, by its id where it has one */
export function checkManifest(given: unknown, name: string): asserts given is ProviderManifest {
  let who = name;
  const check = (fits: boolean, what: string): void => {
    if (fits) return;
    throw new TypeError(
      `${who} is no provider manifest: ${what}; docs/writing-a-provider.md explains its fields`,
    );
  };
  check(isObject(given), "it is no object");
  const manifest = given as Record<keyof ProviderManifest, unknown>;
  const {
    id,
    type,
    serves = [],
    load,
    locate,
    systems,
    options,
    commands = [],
    demo,
    detection,
    bootData,
  } = manifest;
  const { portableHost } = manifest;
  check(typeof id === "string" && NAME.test(id), "id must be a lower-case name, such as acme");
  who = `${name} (${id})`;
  check(typeof type === "string" && TYPE.test(type), "type must be a short text");
  check(typeof load === "function", "load must be a function that resolves with its ContainerModule");
  check(locate === undefined || typeof locate === "function", "locate must be a function");
  check(isList(serves, isText), "serves must be a list of ids");
  check(isObject(systems), "systems must be an object of lists by verb");
  for (const verb of VERBS)
    check(
      isList((systems as Record<string, unknown>)[verb], isText),
      `systems.${verb} must be a list of operating systems`,
    );
  check(options === undefined || isSchema(options), "options must be a schema: kind and line by name");
  check(detection === undefined || areRules(detection), "detection must have lists of what it looks for");
  check(
    portableHost === undefined || (isObject(portableHost) && typeof portableHost["load"] === "function"),
    "portableHost must have load",
  );
  check(bootData === undefined || isBootData(bootData), "bootData must have places: kind, store, key, form");
  check(Array.isArray(commands), "commands must be a list");
  for (const each of commands as unknown[]) checkCommand(each, check);
  check(
    demo === undefined || (isObject(demo) && isText(demo["through"]) && typeof demo["load"] === "function"),
    "demo must have through and load",
  );
}

type Check = (fits: boolean, what: string) => void;

function checkCommand(given: unknown, check: Check): void {
  check(isObject(given), "a command must be an object");
  const { name, args, description, options = [], load, actions } = given as Record<string, unknown>;
  check(typeof name === "string" && NAME.test(name), "a command's name must be lower-case letters");
  const what = (rest: string): string => `the command ${name} ${rest}`;
  check(isLine(description), what("must have a description of one line"));
  check(isList(options, isOption), what("must have options with name, description and one letter at most"));
  if (actions !== undefined) {
    check(Array.isArray(actions) && actions.length > 0, what("must have a list of actions"));
    for (const each of actions as unknown[]) {
      check(isObject(each) && each["actions"] === undefined, what("must have actions that have none"));
      checkCommand(each, check);
    }
    return;
  }
  check(isList(args, isArgument), what("must have args such as <key> or [value]"));
  check(typeof load === "function", what("must have load, a function"));
}

function isOption(given: unknown): boolean {
  if (!isObject(given)) return false;
  const { name, short, value, description, parse } = given;
  return (
    isText(name) &&
    NAME.test(name) &&
    (short === undefined || (isText(short) && /^[A-Za-z0-9]$/.test(short))) &&
    (value === undefined || isLine(value)) &&
    (parse === undefined || typeof parse === "function") &&
    isLine(description)
  );
}

function areRules(given: unknown): boolean {
  if (!isObject(given)) return false;
  const { signatures = [], firmware = [], paths = [] } = given;
  const isField = (each: unknown): boolean =>
    isObject(each) && isText(each["field"]) && isText(each["prefix"]);
  return isList(signatures, isText) && isList(firmware, isField) && isList(paths, isText);
}

function isBootData(given: unknown): boolean {
  if (!isObject(given)) return false;
  const { places, credentials = [], settleMs = 0 } = given;
  const isPlace = (each: unknown): boolean =>
    isObject(each) &&
    [each["kind"], each["store"], each["key"], each["consumer"]].every(isText) &&
    isObject(each["form"]) &&
    isText(each["form"]["is"]);
  const isSource = (each: unknown): boolean =>
    isObject(each) && isText(each["source"]) && isText(each["prefix"]);
  return isList(places, isPlace) && isList(credentials, isSource) && typeof settleMs === "number";
}

function isSchema(given: unknown): boolean {
  return (
    isObject(given) &&
    Object.entries(given).every(
      ([name, entry]) =>
        /^[A-Za-z]\w{0,63}$/.test(name) &&
        isObject(entry) &&
        KINDS.includes(String(entry["kind"])) &&
        isLine(entry["line"]) &&
        (entry["kind"] !== "choice" || isList(entry["choices"], isText)),
    )
  );
}

/** What stands in help and in completion scripts, which shells run. */
function isLine(given: unknown): given is string {
  return isText(given) && /^[^\p{Cc}\p{Cf}\u2028\u2029]{1,400}$/u.test(given);
}

function isArgument(given: unknown): boolean {
  return isText(given) && /^(?:<[a-z][a-z -]*(?:\.\.\.)?>|\[[a-z][a-z -]*(?:\.\.\.)?\])$/.test(given);
}

function isText(given: unknown): given is string {
  return typeof given === "string";
}

function isObject(given: unknown): given is Record<string, unknown> {
  return typeof given === "object" && given !== null;
}

function isList(given: unknown, fits: (each: unknown) => boolean): boolean {
  return Array.isArray(given) && given.every(fits);
}
