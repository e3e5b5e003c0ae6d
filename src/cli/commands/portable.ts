import type { CommandGroup } from "../../contract/command.js";
import type { PortableHost } from "../../contract/portable-host.js";
import type { Context } from "../io/context.js";
import { entryOf } from "../io/keys.js";
import { NAMESPACE } from "../io/namespace.js";

/** `pvbus portable split|join`: long portable values from the host's side, with the hypervisor's own tool. */
export const portable: CommandGroup<Context> = {
  name: "portable",
  description: "portable values on the host, with the hypervisor's own tool: split, join",
  options: [
    { name: "for", value: "TYPE", description: "the hypervisor: hyperv, vmware, xen or kvm" },
    NAMESPACE,
  ],
  actions: [
    {
      name: "split",
      args: ["<name>", "<file>"],
      description: "print a script that gives a guest a file's text; - takes it from standard input",
      usage: "portable split --for TYPE --namespace NS NAME FILE",
      load: async () => splitAction,
    },
    {
      name: "join",
      args: ["<name>", "[file]"],
      description: "print what a guest published, from what the hypervisor's tool has printed",
      usage: "portable join --for TYPE --namespace NS NAME [FILE]",
      load: async () => joinAction,
    },
  ],
};

type Own = Readonly<Record<string, unknown>>;

async function splitAction(
  context: Context,
  [name = "", file = "-"]: readonly string[],
  own: Own,
): Promise<number> {
  const { namespace, host } = await wanted(context, own);
  const { splitForHost } = await import("../../bus/portable/host-tool.js");
  const script = await splitForHost(host, namespace, name, await given(context, file));
  if (context.json) context.writeJson({ key: name, language: host.language, usage: host.usage, script });
  else context.writeData(script);
  return 0;
}

async function joinAction(
  context: Context,
  [name = "", file = "-"]: readonly string[],
  own: Own,
): Promise<number> {
  const { namespace, host } = await wanted(context, own);
  const { joinFromHost } = await import("../../bus/portable/host-tool.js");
  const value = await joinFromHost(host, namespace, name, await given(context, file));
  if (value === undefined) {
    const how = `no such key: ${name}; what is read is the output of: ${host.listing}`;
    context.complain({ message: how, key: name });
    return 1;
  }
  context.keys.printValue(entryOf(name, value));
  return 0;
}

/** Returns what both need. @throws UsageError */
async function wanted(
  { usage, vocabulary: { manifests } }: Context,
  { for: type, namespace }: Own,
): Promise<{ readonly namespace: string; readonly host: PortableHost }> {
  const able = manifests.filter(({ portableHost }) => portableHost !== undefined);
  const known = able.map(({ id }) => id).join(", ");
  if (typeof type !== "string") throw usage(`portable: name the hypervisor with --for, one of: ${known}`);
  if (typeof namespace !== "string") throw usage("portable: name the namespace with -n NS");
  const wantedType = type.toLowerCase();
  const manifest = able.find((each) => each.id === wantedType || each.type.toLowerCase() === wantedType);
  if (manifest?.portableHost === undefined)
    throw usage(`portable: nothing is known of the tools of '${type}'; there is: ${known}`);
  return { namespace, host: await manifest.portableHost.load() };
}

async function given(context: Context, file: string): Promise<Uint8Array> {
  if (file === "-") return context.readInput();
  const { readFile } = await import("node:fs/promises");
  return readFile(file);
}
