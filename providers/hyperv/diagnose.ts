import { accessSync, constants } from "node:fs";
import { posix } from "node:path";
import { PvbusError } from "../../src/base/errors.js";
import { Call } from "../../src/base/flow/call.js";
import type { Host } from "../../src/base/host/host.js";
import { isSystemError } from "../../src/base/system-error.js";
import type { Diagnosis } from "../../src/contract/diagnosis.js";
import type { ProviderStore } from "../../src/contract/store.js";
import { loadKoffi } from "../../src/native/ffi/koffi.js";
import { POOLS, type PoolName } from "./protocol/keys.js";
import { poolDirectory, poolFileName } from "./transport/files/directory.js";
import { missing } from "./transport/files/errors.js";

/** VMBus class of the KVP service (openvmm vm/devices/hyperv_ic_protocol/src/kvp.rs). */
const KVP_CLASS_ID = "a9a0f4e7-5a45-4d96-b827-8a841e8c03e6";
/** The vendor's on Linux, ours. */
const DAEMON_NAMES = /^(hv_kvp_daemon|pvbus-kvpd)/;
/** More than any attribute of sysfs has. */
const LONGEST_ATTRIBUTE = 4096;
const START_DAEMON = "systemctl start hv-kvp-daemon.service";
const INSTALL_DAEMON = "apt-get install hyperv-daemons";

/** Checks what the KVP exchange of a Linux guest needs, from the bus to the pools. Never throws for a machine's state. */
export function diagnoseHyperv(host: Host, directory?: string): readonly Diagnosis[] {
  const checks = host.platform === "linux" ? [vmbus(host), service(host), device(host), daemon(host)] : [];
  return [...checks, ...pools(host, directory), nativeCalls()];
}

/** Checks by reading whether the pools can be reached that are no files. Never throws for a machine's state. */
export async function diagnoseStore(open: () => Promise<ProviderStore>): Promise<readonly Diagnosis[]> {
  const call = new Call();
  const checks: Diagnosis[] = [];
  let store: ProviderStore | undefined;
  try {
    store = await open();
    for (const { name } of POOLS) checks.push(await readable(store, name, call));
  } catch (error) {
    if (!PvbusError.is(error)) throw error;
    checks.push({ what: "the pools can be opened", works: false, why: error.message });
  } finally {
    await store?.close();
  }
  return checks;
}

async function readable(
  store: ProviderStore,
  pool: PoolName | "AutoInternal",
  call: Call,
): Promise<Diagnosis> {
  const what = `pool ${pool} can be read`;
  try {
    await store.read?.(`${pool}/pvbus`, call);
    return { what, works: true };
  } catch (error) {
    if (!PvbusError.is(error)) throw error;
    return { what, works: false, why: error.message };
  }
}

function vmbus(host: Host): Diagnosis {
  const works = host.files.kind("/sys/bus/vmbus") !== undefined;
  return { what: "the VMBus driver is loaded", works, ...(works ? {} : { mend: "modprobe hv_vmbus" }) };
}

function service(host: Host): Diagnosis {
  const devices = "/sys/bus/vmbus/devices";
  const works = names(host, devices).some((name) =>
    text(host, `${devices}/${name}/class_id`).toLowerCase().includes(KVP_CLASS_ID),
  );
  return {
    what: "the host offers the KVP service",
    works,
    ...(works ? {} : { why: "the administrator may have switched off Data Exchange for this machine" }),
    ...(works
      ? {}
      : { mend: 'on the host: Enable-VMIntegrationService -VMName NAME -Name "Key-Value Pair Exchange"' }),
  };
}

function device(host: Host): Diagnosis {
  const works = host.files.kind("/dev/vmbus/hv_kvp") !== undefined;
  return { what: "the kernel's KVP device is there", works, ...(works ? {} : { mend: "modprobe hv_utils" }) };
}

function daemon(host: Host): Diagnosis {
  const running = names(host, "/proc").some(
    (pid) => /^\d+$/.test(pid) && DAEMON_NAMES.test(text(host, `/proc/${pid}/comm`)),
  );
  if (running) return { what: "the KVP daemon runs", works: true };
  const programs = ["/usr/sbin/hv_kvp_daemon", "/usr/lib/linux-tools", "/usr/sbin/hypervkvpd"];
  const installed = programs.some((path) => host.files.kind(path) !== undefined);
  return {
    what: "the KVP daemon runs",
    works: false,
    why: "without it nothing reaches the host, and nothing new comes from it",
    mend: installed ? START_DAEMON : INSTALL_DAEMON,
  };
}

function pools(host: Host, given: string | undefined): Diagnosis[] {
  const directory = poolDirectory(host, given);
  return POOLS.filter(({ name }) => name !== "Auto").map(({ name, number, guestWritable }) => {
    const file = posix.join(directory, poolFileName(number));
    const path = host.path(file);
    const what = `pool ${name} can be ${guestWritable ? "written" : "read"}`;
    try {
      using held = host.files.hold(file);
      if (held === undefined) throw missing(path);
      accessSync(held.path, guestWritable ? constants.R_OK | constants.W_OK : constants.R_OK);
      return { what, works: true, why: path };
    } catch (error) {
      if (!isSystemError(error)) throw error;
      const { code } = error;
      const mend = code === "ENOENT" ? START_DAEMON : `sudo pvbus ${guestWritable ? "set" : "ls"} …`;
      return { what, works: false, why: `${path}: ${code}`, mend };
    }
  });
}

function nativeCalls(): Diagnosis {
  const what = "native calls for locks are there";
  try {
    loadKoffi();
    return { what, works: true };
  } catch (error) {
    if (!PvbusError.is(error)) throw error;
    return { what, works: false, why: error.message, mend: "npm install --include=optional" };
  }
}

function names({ files }: Host, directory: string): string[] {
  try {
    return files.names(directory);
  } catch {
    // Not ours to look into: then it says nothing.
    return [];
  }
}

function text({ files }: Host, path: string): string {
  try {
    return files.read(path, LONGEST_ATTRIBUTE)?.toString("utf8") ?? "";
  } catch {
    // Gone in the meantime, or not ours to read: then it says nothing.
    return "";
  }
}
