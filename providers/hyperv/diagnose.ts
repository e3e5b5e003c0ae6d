import { accessSync, constants, existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Call } from "../../src/bus/call.js";
import type { Diagnosis } from "../../src/bus/diagnosis.js";
import { PvbusError } from "../../src/bus/errors.js";
import type { ProviderStore } from "../../src/bus/store.js";
import type { Host } from "../../src/host/host.js";
import { loadKoffi } from "../../src/native/koffi.js";
import { POOLS, type PoolName } from "./keys.js";
import { poolDirectory, poolFileName } from "./pool-places.js";

/** VMBus class of the KVP service (openvmm vm/devices/hyperv_ic_protocol/src/kvp.rs). */
const KVP_CLASS_ID = "a9a0f4e7-5a45-4d96-b827-8a841e8c03e6";
/** The vendor's on Linux, ours. */
const DAEMON_NAMES = /^(hv_kvp_daemon|pvbus-kvpd)/;
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
  const works = existsSync(host.path("/sys/bus/vmbus"));
  return { what: "the VMBus driver is loaded", works, ...(works ? {} : { mend: "modprobe hv_vmbus" }) };
}

function service(host: Host): Diagnosis {
  const devices = host.path("/sys/bus/vmbus/devices");
  const works = names(devices).some((name) =>
    text(join(devices, name, "class_id"))
      .toLowerCase()
      .includes(KVP_CLASS_ID),
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
  const works = existsSync(host.path("/dev/vmbus/hv_kvp"));
  return { what: "the kernel's KVP device is there", works, ...(works ? {} : { mend: "modprobe hv_utils" }) };
}

function daemon(host: Host): Diagnosis {
  const running = names(host.path("/proc")).some(
    (pid) =>
      /^\d+$/.test(pid) &&
      text(host.path(`/proc/${pid}/comm`))
        .trim()
        .match(DAEMON_NAMES) !== null,
  );
  if (running) return { what: "the KVP daemon runs", works: true };
  const places = ["/usr/sbin/hv_kvp_daemon", "/usr/lib/linux-tools", "/usr/sbin/hypervkvpd"];
  const installed = places.some((place) => existsSync(host.path(place)));
  return {
    what: "the KVP daemon runs",
    works: false,
    why: "without it nothing reaches the host, and nothing new comes from it",
    mend: installed ? START_DAEMON : INSTALL_DAEMON,
  };
}

function pools(host: Host, given: string | undefined): Diagnosis[] {
  let directory: string;
  try {
    directory = poolDirectory(host, given);
  } catch (error) {
    if (!PvbusError.is(error)) throw error;
    return [{ what: "the pool directory is safe", works: false, why: error.message }];
  }
  return POOLS.filter(({ name }) => name !== "Auto").map(({ name, number, guestWritable }) => {
    const path = join(directory, poolFileName(number));
    const what = `pool ${name} can be ${guestWritable ? "written" : "read"}`;
    try {
      accessSync(path, guestWritable ? constants.R_OK | constants.W_OK : constants.R_OK);
      return { what, works: true, why: path };
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
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

function names(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory) : [];
}

function text(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    // Gone in the meantime, or not ours to read: then it says nothing.
    return "";
  }
}
