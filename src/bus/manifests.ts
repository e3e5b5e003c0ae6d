import type { ProviderManifest } from "../contract/manifest.js";

const VERBS = ["read", "write", "delete", "list", "watch"] as const;
const ID = /^[a-z][a-z0-9-]{0,31}$/;

/**
 * Joins the built-in manifests with those of strangers. A stranger's takes the place of the built-in one of the same id.
 * @throws TypeError for what is no manifest, for two strangers with one id, and for a command name that is taken
 */
export function joinManifests(
  builtIn: readonly ProviderManifest[],
  strangers: readonly ProviderManifest[],
  commandNames: readonly string[] = [],
): readonly ProviderManifest[] {
  const joined = new Map(builtIn.map((each) => [each.id, each]));
  const known = new Map<string, ProviderManifest>();
  strangers.forEach((each, index) => {
    checkManifest(each, `provider ${index + 1}`);
    const other = known.get(each.id);
    if (other !== undefined && other !== each)
      throw new TypeError(
        `two providers have the id "${each.id}": ${other.type} and ${each.type}; leave one of them out`,
      );
    known.set(each.id, each);
    joined.set(each.id, each);
  });
  const all = [...joined.values()];
  checkCommands(all, commandNames);
  return all;
}

/** Checks the shape of a manifest. @throws TypeError that names it, by its id where it has one */
export function checkManifest(given: unknown, name: string): asserts given is ProviderManifest {
  const fail = (what: string): never => {
    throw new TypeError(
      `${name} is no provider manifest: ${what}; see docs/writing-a-provider.md for its fields`,
    );
  };
  if (typeof given !== "object" || given === null) fail("it is no object");
  const manifest = given as Partial<Record<keyof ProviderManifest, unknown>>;
  const { id, type, serves = [], load, locate, systems, options, commands = [], demo } = manifest;
  if (typeof id !== "string" || !ID.test(id)) fail("id must be a lower-case name, such as acme");
  name = `${name} (${id})`;
  if (typeof type !== "string" || !/^[\x20-\x7e]{1,64}$/.test(type)) fail("type must be a short text");
  if (typeof load !== "function") fail("load must be a function that resolves with its ContainerModule");
  if (locate !== undefined && typeof locate !== "function") fail("locate must be a function");
  if (!isList(serves, (each) => typeof each === "string")) fail("serves must be a list of ids");
  if (typeof systems !== "object" || systems === null) fail("systems must be an object of lists by verb");
  for (const verb of VERBS)
    if (!isList((systems as Record<string, unknown>)[verb], (each) => typeof each === "string"))
      fail(`systems.${verb} must be a list of operating systems`);
  if (options !== undefined && (typeof options !== "object" || options === null))
    fail("options must be a schema");
  if (!isList(commands, isCommand))
    fail("commands must be a list of commands with name, args, description and load");
  if (demo !== undefined && (typeof demo !== "object" || demo === null)) fail("demo must be an object");
}

function isCommand(given: unknown): boolean {
  const { name, args, description, load } = (given ?? {}) as Record<string, unknown>;
  return (
    typeof name === "string" &&
    ID.test(name) &&
    isList(args, (each) => typeof each === "string") &&
    typeof description === "string" &&
    typeof load === "function"
  );
}

function isList(given: unknown, fits: (each: unknown) => boolean): boolean {
  return Array.isArray(given) && given.every(fits);
}

function checkCommands(manifests: readonly ProviderManifest[], taken: readonly string[]): void {
  const owners = new Map(taken.map((name) => [name, "pvbus"]));
  for (const { id, commands = [] } of manifests)
    for (const { name } of commands) {
      const owner = owners.get(name);
      if (owner !== undefined)
        throw new TypeError(`the command "${name}" of provider ${id} is there already: ${owner} has it`);
      owners.set(name, `provider ${id}`);
    }
}
