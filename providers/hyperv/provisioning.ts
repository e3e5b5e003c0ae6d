import { PvbusError } from "../../src/base/errors.js";
import type { Host } from "../../src/base/host/host.js";
import type { ReadySignal, ReadyState } from "../../src/contract/store.js";
import { encodeReport, PROVISIONING_REPORT, type ReportFields } from "./protocol/provisioning-report.js";

/** Who reports by itself where it is installed, and whose report would be taken for ours. */
const AGENTS: readonly (readonly [name: string, paths: readonly string[]])[] = [
  ["cloud-init", ["/usr/bin/cloud-init", "/usr/local/bin/cloud-init"]],
  ["azure-init", ["/usr/bin/azure-init", "/var/lib/azure-init", "/usr/local/bin/azure-init"]],
  ["WALinuxAgent", ["/usr/sbin/waagent", "/usr/bin/waagent", "/usr/local/sbin/waagent"]],
];
const MACHINE_ID = "/sys/class/dmi/id/product_uuid";
const EFI = "/sys/firmware/efi";
const MAX_ID_BYTES = 64;

/**
 * Tells readers of the pools, Azure among them, that this guest is provisioned or that it failed; refuses where an agent of the
 * machine has that place.
 * @param write writes the pair
 */
export async function reportProvisioning(
  host: Host,
  state: ReadyState,
  write: (key: string, value: string) => Promise<void>,
): Promise<ReadySignal> {
  const outcome = (sent: boolean, detail: string): ReadySignal => ({
    signal: PROVISIONING_REPORT,
    sent,
    detail,
  });
  const [agent] = AGENTS.find(([, paths]) => paths.some((path) => host.files.kind(path) !== undefined)) ?? [];
  if (agent !== undefined)
    return outcome(
      false,
      `${agent} is installed and reports by itself; remove it to have pvbus report [ERR_BUSY]`,
    );
  try {
    const id = machineId(host);
    if (id === undefined)
      return outcome(false, `the machine's id (${MACHINE_ID}) cannot be read; run as root [ERR_PERMISSION]`);
    const line = encodeReport(reportFields(state, id));
    await write(PROVISIONING_REPORT, line);
    return outcome(true, line);
  } catch (error) {
    if (!PvbusError.is(error) || error.code === "ERR_ABORTED") throw error;
    return outcome(false, `${error.message} [${error.code}]`);
  }
}

/** Returns what is reported, in cloud-init's order. */
export function reportFields({ ready, status = "failed", time }: ReadyState, machine: string): ReportFields {
  const agent = ["agent", "pvbus"] as const;
  // As Python writes a time in UTC.
  const timestamp = ["timestamp", time.replace(/(?:\.\d+)?Z$/, "+00:00")] as const;
  const vm = ["vm_id", machine] as const;
  return ready
    ? [["result", "success"], agent, timestamp, vm]
    : [["result", "error"], ["reason", status], agent, vm, timestamp];
}

/** Returns the machine's id as Azure knows it: with BIOS, of the first generation, in another order of bytes than the firmware's. */
function machineId({ files }: Host): string | undefined {
  let text: string;
  try {
    text = files.read(MACHINE_ID, MAX_ID_BYTES)?.toString("latin1").trim().toLowerCase() ?? "";
  } catch {
    // It is root's alone.
    return undefined;
  }
  const parts = /^([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4}-[0-9a-f]{12})$/.exec(text);
  if (parts === null) return undefined;
  if (files.kind(EFI) !== undefined) return text;
  const [, first = "", second = "", third = "", rest = ""] = parts;
  return [...[first, second, third].map(swapped), rest].join("-");
}

function swapped(hex: string): string {
  return Buffer.from(hex, "hex").reverse().toString("hex");
}
