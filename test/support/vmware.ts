import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  VmxBackdoor,
  type VmxBackdoorOptions,
  VmxHost,
  VmxListener,
  type VmxListenerOptions,
} from "../../providers/testing.js";
import {
  BackdoorTransport,
  RpciSession,
  type VmwareOptions,
  VmwareStore,
} from "../../providers/vmware/index.js";
import type { Cpuid, CpuidRegisters } from "../../src/base/firmware/cpuid.js";
import { SILENT } from "../../src/base/host/node-host.js";

/** A store over a simulated backdoor. */
export function backdoorStore(
  host: VmxHost,
  options: VmxBackdoorOptions = {},
  settings: VmwareOptions = {},
): { readonly machine: VmxBackdoor; readonly store: VmwareStore } {
  const machine = new VmxBackdoor(host, options);
  const session = new RpciSession({ first: new BackdoorTransport(machine), logger: SILENT });
  return { machine, store: new VmwareStore(session, settings) };
}

/** A simulated host behind a UNIX socket in a folder of its own. */
export class SimulatedVmx implements AsyncDisposable {
  readonly host: VmxHost;
  readonly listener: VmxListener;
  readonly folder = mkdtempSync(join(tmpdir(), "pvbus-vmx-"));

  private constructor(host: VmxHost, options: VmxListenerOptions) {
    this.host = host;
    this.listener = new VmxListener(host, options);
  }

  static async start(host: VmxHost = new VmxHost(), options: VmxListenerOptions = {}): Promise<SimulatedVmx> {
    const vmx = new SimulatedVmx(host, options);
    await vmx.listener.listen(vmx.path);
    return vmx;
  }

  get path(): string {
    return join(this.folder, "vmx.sock");
  }

  get channel(): string {
    return `unix:${this.path}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.listener.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

const NOTHING: CpuidRegisters = { eax: 0, ebx: 0, ecx: 0, edx: 0 };

/** A processor that answers as one under the named hypervisor. */
export function cpuidOf(
  signature: string | undefined,
  leaves: Readonly<Record<number, Partial<CpuidRegisters>>> = {},
): Cpuid {
  const name = Buffer.from((signature ?? "").padEnd(12, "\0"), "latin1");
  const words = [0, 4, 8].map((at) => name.readUInt32LE(at));
  const base: Record<number, Partial<CpuidRegisters>> = {
    1: { ecx: signature === undefined ? 0 : 0x8000_0000 },
    1073741824: { eax: 0x4000_0010, ebx: words[0] ?? 0, ecx: words[1] ?? 0, edx: words[2] ?? 0 },
    ...leaves,
  };
  return { read: (leaf) => ({ ...NOTHING, ...base[leaf] }) };
}
