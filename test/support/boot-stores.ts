import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HypervHostSimulator, VmxHost, XenStoreSimulator } from "../../providers/testing.js";
import type { OpenOptions } from "../../src/index.js";
import { PoolTree } from "./pools.js";
import { addFiles, removeTree } from "./trees.js";
import { SimulatedVmx } from "./vmware.js";

/** A simulated hypervisor that gives a guest boot configuration. */
export interface BootStore extends AsyncDisposable {
  /** Type of its interface. */
  readonly type: string;
  /** How a bus is opened on it. */
  readonly open: OpenOptions;
  /** The same for the command line. */
  readonly args: readonly string[];
  /** Has the host give a portable value below `org.pvbus`. */
  give(name: string, value: string): Promise<void>;
}

/** Returns the files of fw_cfg items, as Linux' driver shows them. */
export function fwCfgFiles(
  items: Readonly<Record<string, string | Uint8Array>>,
): Record<string, string | Uint8Array> {
  const root = "sys/firmware/qemu_fw_cfg";
  const files: Record<string, string | Uint8Array> = { [`${root}/rev`]: "3\n" };
  for (const [at, [name, raw]] of Object.entries(items).entries()) {
    const item = `${root}/by_key/${40 + at}`;
    files[`${item}/name`] = `${name}\n`;
    files[`${item}/size`] = `${Buffer.byteLength(raw)}\n`;
    files[`${item}/raw`] = raw;
  }
  return files;
}

/** Returns an SMBIOS table with a serial number and OEM strings, and its entry point. */
export function smbiosFiles(
  serial: string,
  strings: readonly (string | Uint8Array)[] = [],
): Record<string, Uint8Array> {
  const structure = (type: number, fields: Buffer, texts: readonly (string | Uint8Array)[]): Buffer => {
    const zero = Buffer.from([0]);
    const ended = texts.flatMap((text) => [Buffer.from(text as string), zero]);
    return Buffer.concat([
      Buffer.from([type, 4 + fields.length, type, 0]),
      fields,
      ...ended,
      ...(ended.length === 0 ? [zero] : []),
      zero,
    ]);
  };
  const system = Buffer.alloc(23);
  // Manufacturer, product, version, serial number.
  system.set([0, 0, 0, 1]);
  const table = Buffer.concat([
    structure(1, system, [serial]),
    ...(strings.length === 0 ? [] : [structure(11, Buffer.from([strings.length]), strings)]),
    structure(127, Buffer.alloc(0), []),
  ]);
  const entry = Buffer.alloc(24);
  entry.write("_SM3_", 0, "latin1");
  entry.set([24, 3, 2, 0, 1], 6);
  return { "sys/firmware/dmi/tables/DMI": table, "sys/firmware/dmi/tables/smbios_entry_point": entry };
}

/** A tree in which a machine of QEMU shows fw_cfg and SMBIOS. */
export class KvmTree implements BootStore {
  readonly type = "KVM";
  readonly sysroot = mkdtempSync(join(tmpdir(), "pvbus-boot-"));
  readonly #items: Record<string, string | Uint8Array> = {};

  constructor(
    items: Readonly<Record<string, string | Uint8Array>> = {},
    files: Readonly<Record<string, string | Uint8Array>> = {},
  ) {
    this.add(items);
    addFiles(this.sysroot, files);
  }

  get open(): OpenOptions {
    return { sysroot: this.sysroot, interfaces: [{ type: "KVM" }] };
  }

  get args(): readonly string[] {
    return ["-t", "KVM", "--sysroot", this.sysroot];
  }

  add(items: Readonly<Record<string, string | Uint8Array>>): void {
    Object.assign(this.#items, items);
    addFiles(this.sysroot, fwCfgFiles(this.#items));
  }

  async give(name: string, value: string): Promise<void> {
    this.add({ [`opt/org.pvbus/${name}`]: value });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    removeTree(this.sysroot);
  }
}

/** Hyper-V's pools below a directory, the host's side by its simulator. */
export class HypervTree implements BootStore {
  readonly type = "Hyper-V";
  readonly tree: PoolTree;
  readonly host: HypervHostSimulator;

  private constructor(tree: PoolTree, host: HypervHostSimulator) {
    this.tree = tree;
    this.host = host;
  }

  static async start(): Promise<HypervTree> {
    const tree = new PoolTree();
    return new HypervTree(tree, await HypervHostSimulator.create({ sysroot: tree.sysroot }));
  }

  get open(): OpenOptions {
    return { sysroot: this.tree.sysroot, interfaces: [{ type: "Hyper-V" }] };
  }

  get args(): readonly string[] {
    return ["-t", "Hyper-V", "--sysroot", this.tree.sysroot];
  }

  async give(name: string, value: string): Promise<void> {
    await this.host.addKvpItems([{ name: `org.pvbus/${name}`, data: value }]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.tree[Symbol.asyncDispose]();
  }
}

/** A host of VMware behind a UNIX socket. */
export class VmwareSocket implements BootStore {
  readonly type = "VMware";
  readonly host: VmxHost;
  readonly #vmx: SimulatedVmx;

  private constructor(vmx: SimulatedVmx) {
    this.#vmx = vmx;
    this.host = vmx.host;
  }

  static async start(variables: Readonly<Record<string, string>> = {}): Promise<VmwareSocket> {
    return new VmwareSocket(await SimulatedVmx.start(new VmxHost({ variables })));
  }

  get open(): OpenOptions {
    return { detect: false, interfaces: [{ type: "VMware", channel: this.#vmx.channel }] };
  }

  get args(): readonly string[] {
    return ["-t", "VMware", "--channel", this.#vmx.channel];
  }

  async give(name: string, value: string): Promise<void> {
    this.host.set(`guestinfo.org.pvbus.${name}`, value);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#vmx[Symbol.asyncDispose]();
  }
}

/** A XenStore daemon behind a UNIX socket. */
export class XenSocket implements BootStore {
  readonly type = "Xen";
  readonly #folder: string;
  readonly #xen: XenStoreSimulator;

  private constructor(folder: string, xen: XenStoreSimulator) {
    this.#folder = folder;
    this.#xen = xen;
  }

  static async start(): Promise<XenSocket> {
    const folder = mkdtempSync(join(tmpdir(), "pvbus-xen-"));
    const xen = await XenStoreSimulator.listen({ domain: 7, path: join(folder, "socket") });
    xen.createDomain(7, { name: "web", uuid: "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d" });
    return new XenSocket(folder, xen);
  }

  get open(): OpenOptions {
    return { detect: false, interfaces: [{ type: "Xen", channel: `unix:${this.#xen.path}` }] };
  }

  get args(): readonly string[] {
    return ["-t", "Xen", "--channel", `unix:${this.#xen.path}`];
  }

  async give(name: string, value: string): Promise<void> {
    // XenStore's paths have no dots.
    this.#xen.write(`/local/domain/7/vm-data/org@2epvbus/${name}`, value);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#xen[Symbol.asyncDispose]();
    removeTree(this.#folder);
  }
}

/** The four, each started when it is asked for. */
export const BOOT_STORES: Readonly<Record<string, () => Promise<BootStore>>> = {
  "Hyper-V": () => HypervTree.start(),
  VMware: () => VmwareSocket.start(),
  Xen: () => XenSocket.start(),
  KVM: async () => new KvmTree(),
};
