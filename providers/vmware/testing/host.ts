import { upToNul, withoutEndingNuls } from "../../../src/base/outside-text.js";
import { ownEntry } from "../../../src/base/own.js";
import { type DataSetAccess, SimulatedDataSets } from "./data-sets.js";

/** Who sent a command. */
export interface VmxPeer {
  /** Whether the channel proves a privileged program: a vsock from a port below 1024. */
  readonly privileged: boolean;
}

/** What may differ from one {@link VmxHost} to the next. */
export interface VmxHostOptions {
  /** Variables of the virtual machine, as its administrator set them. */
  readonly variables?: Readonly<Record<string, string | Uint8Array>> | undefined;
  /** Commands that only a privileged program may give: `guest_rpc.rpci.auth.cmd.<name> = TRUE`. */
  readonly privilegedCommands?: readonly string[] | undefined;
  /** `isolation.tools.setinfo.disable = TRUE`: the guest may set nothing. */
  readonly setInfoDisabled?: boolean | undefined;
  /** Bytes that all variables together may have, keys included: `tools.setInfo.sizeLimit`. Default 1 MiB. */
  readonly sizeLimit?: number | undefined;
  /** What setting an empty value does: keeps it empty (default), removes the variable, or is refused. */
  readonly emptyValue?: "keep" | "remove" | "refuse" | undefined;
}

type Answer = (args: Buffer) => Buffer | string;

const DATASET_COMMANDS = ["list", "query", "list-keys", "get-entry", "set-entry", "delete-entry"].map(
  (name) => `datasets-${name}`,
);
/** Bytes of the longest reply. */
const MAX_REPLY = 1024 * 1024 + 64;
const encode = (text: string): Buffer => Buffer.from(text);

/**
 * The host's side of VMware's RPCI: answers commands and keeps variables, namespaces and data sets, whatever moves the
 * bytes. Words that VMware's own documents do not settle are marked where they are made.
 */
export class VmxHost {
  /** Commands as they came, the last one last. */
  readonly commands: string[] = [];
  /** Namespaces of the namespace database; a command on another one is refused. */
  readonly namespaces: SimulatedNamespaces = new SimulatedNamespaces();
  /** DataSets of the virtual machine; undefined: this host is too old for them. */
  dataSets: SimulatedDataSets | undefined = new SimulatedDataSets();
  /** Stands in for the next answer: raw bytes of a reply. */
  nextReply: Uint8Array | undefined;
  readonly #variables = new Map<string, { readonly key: string; readonly value: Buffer }>();
  readonly #privileged: ReadonlySet<string>;
  readonly #options: VmxHostOptions;

  /** @param options see {@link VmxHostOptions} */
  constructor(options: VmxHostOptions = {}) {
    this.#options = options;
    this.#privileged = new Set(options.privilegedCommands ?? []);
    for (const [key, value] of Object.entries(options.variables ?? {})) this.set(key, value);
  }

  /** Sets a variable as the administrator does, or removes it with undefined. Names do not differ in case. */
  set(key: string, value: string | Uint8Array | undefined): void {
    const name = key.toLowerCase();
    if (value === undefined) this.#variables.delete(name);
    else
      this.#variables.set(name, {
        key: this.#variables.get(name)?.key ?? key,
        value: Buffer.from(value as string),
      });
  }

  /** Returns a variable as the administrator sees it. */
  get(key: string): Uint8Array | undefined {
    return this.#variables.get(key.toLowerCase())?.value;
  }

  /** Makes a DataSet, as the administrator does. */
  createDataSet(name: string, access: DataSetAccess = "READ_WRITE"): Map<string, string> {
    this.dataSets ??= new SimulatedDataSets();
    return this.dataSets.create(name, access);
  }

  /** Carries out a command and returns the whole reply. */
  answer(command: Uint8Array, peer: VmxPeer): Buffer {
    const bytes = Buffer.from(command);
    const space = bytes.indexOf(" ");
    const name = withoutEndingNuls(space < 0 ? bytes : bytes.subarray(0, space)).toString("latin1");
    const rest = space < 0 ? Buffer.alloc(0) : bytes.subarray(space + 1);
    this.commands.push(bytes.toString("latin1"));
    if (this.nextReply !== undefined) {
      const reply = Buffer.from(this.nextReply);
      this.nextReply = undefined;
      return reply;
    }
    const answer = ownEntry(this.#answers(peer), name);
    if (answer === undefined) return encode("0 Unknown command");
    if (this.#privileged.has(name) && !peer.privileged) return encode("0 Permission denied");
    const reply = answer(name.startsWith("namespace-") ? rest : upToNul(rest));
    return (typeof reply === "string" ? encode(reply) : reply).subarray(0, MAX_REPLY);
  }

  #answers(peer: VmxPeer): Readonly<Record<string, Answer | undefined>> {
    const { dataSets } = this;
    const needsPrivilege =
      (answer: Answer): Answer =>
      (args) =>
        peer.privileged ? answer(args) : "0 Permission denied";
    return {
      "info-get": (args) => this.#infoGet(args.toString()),
      "info-set": (args) => this.#infoSet(args),
      log: () => "1 ",
      "namespace-priv-get-values": needsPrivilege((args) => this.namespaces.get(args)),
      "namespace-priv-set-keys": needsPrivilege((args) => this.namespaces.set(args)),
      ...Object.fromEntries(
        DATASET_COMMANDS.map((name) => [
          name,
          dataSets && needsPrivilege((args) => dataSets.answer(name, args.toString())),
        ]),
      ),
    };
  }

  #infoGet(key: string): Buffer | string {
    const value = /^guestinfo\../i.test(key) ? this.get(key) : undefined;
    return value === undefined ? "0 No value found" : Buffer.concat([encode("1 "), value]);
  }

  #infoSet(args: Buffer): string {
    if (this.#options.setInfoDisabled) return "0 disabled";
    const space = args.indexOf(" ");
    const key = args.subarray(0, Math.max(space, 0)).toString();
    const value = args.subarray(space + 1);
    // The words of these refusals are not documented.
    if (!/^guestinfo\../i.test(key)) return "0 Invalid key";
    if (key.includes("/")) return "0 Read-only key";
    if (value.length === 0 && this.#options.emptyValue === "refuse") return "0 Empty value";
    const { sizeLimit = 1024 * 1024 } = this.#options;
    let size = key.length + value.length;
    for (const [name, each] of this.#variables)
      if (name !== key.toLowerCase()) size += each.key.length + each.value.length;
    if (size > sizeLimit) return "0 Size limit exceeded";
    const remove = value.length === 0 && this.#options.emptyValue === "remove";
    this.set(key, remove ? undefined : value);
    return "1 ";
  }
}

/** The host's namespace database: values by namespace and key, texts without NUL. */
export class SimulatedNamespaces {
  readonly #namespaces = new Map<string, Map<string, string>>();

  /** Makes a namespace, as the administrator does; returns its pairs. */
  create(name: string): Map<string, string> {
    const pairs = this.#namespaces.get(name) ?? new Map<string, string>();
    this.#namespaces.set(name, pairs);
    return pairs;
  }

  /** `NS\0KEY\0[KEY\0…]`: each value with its NUL, an absent one empty. */
  get(args: Buffer): string {
    const [name = "", ...keys] = textsOf(args);
    const pairs = this.#namespaces.get(name);
    // The words are not documented.
    if (pairs === undefined) return "0 Namespace not found";
    if (pairs.size === 0) return "1 ";
    return `1 ${keys.map((key) => `${pairs.get(key) ?? ""}\0`).join("")}`;
  }

  /** `NS\0COUNT\0` and as many times `OP\0KEY\0VALUE\0OLD\0`; all of them or none. */
  set(args: Buffer): string {
    const [name = "", count, ...rest] = textsOf(args);
    const pairs = this.#namespaces.get(name);
    if (pairs === undefined) return "0 Namespace not found";
    if (Number(count) * 4 !== rest.length) return "0 Invalid arguments";
    const after = new Map(pairs);
    for (let at = 0; at < rest.length; at += 4) {
      const [op, key = "", value = "", old = ""] = rest.slice(at, at + 4);
      if (op === "1" && (after.get(key) ?? "") !== old) return "0 Value mismatch";
      if (value === "") after.delete(key);
      else after.set(key, value);
    }
    pairs.clear();
    for (const [key, value] of after) pairs.set(key, value);
    return "1 ";
  }
}

function textsOf(args: Buffer): string[] {
  const texts = args.toString().split("\0");
  return texts.at(-1) === "" ? texts.slice(0, -1) : texts;
}
