import { accessSync, constants } from "node:fs";
import { posix } from "node:path";
import { PvbusError } from "../../src/base/errors.js";
import { Call } from "../../src/base/flow/call.js";
import type { Host } from "../../src/base/host/host.js";
import { isSystemError } from "../../src/base/system-error.js";
import type { Diagnosis } from "../../src/contract/diagnosis.js";
import type { ProviderStore } from "../../src/contract/store.js";
import { loadKoffi } from "../../src/native/ffi/koffi.js";
import { namesIn, textOf } from "./kvpd/own-files.js";
import { POOLS } from "./protocol/keys.js";
import { missing } from "./transport/files/descriptor.js";
import { poolDirectory, poolFileName } from "./transport/files/directory.js";

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
  const has = (path: string): boolean => host.files.kind(path) !== undefined;
  const linuxChecks = (): Diagnosis[] => [
    checked("the VMBus driver is loaded", has("/sys/bus/vmbus"), { fix: "modprobe hv_vmbus" }),
    service(host),
    checked("the kernel's KVP device is there", has("/dev/vmbus/hv_kvp"), { fix: "modprobe hv_utils" }),
    daemon(host),
  ];
  return [...(host.platform === "linux" ? linuxChecks() : []), ...pools(host, directory), nativeCalls()];
}

/** Checks by reading whether the pools can be reached that are no files. Never throws for a machine's state. */
export async function diagnoseStore(open: () => Promise<ProviderStore>): Promise<readonly Diagnosis[]> {
  const call = new Call();
  const checks: Diagnosis[] = [];
  let what = "the pools can be opened";
  let store: ProviderStore | undefined;
  try {
    store = await open();
    for (const { name } of POOLS) {
      what = `pool ${name} can be read`;
      try {
        await store.read?.(`${name}/pvbus`, call);
        checks.push({ what, works: true });
      } catch (error) {
        checks.push(failed(what, error));
      }
    }
  } catch (error) {
    checks.push(failed(what, error));
  } finally {
    await store?.close();
  }
  return checks;
}

/** Returns a check that an error of ours has ended. */
function failed(what: string, error: unknown): Diagnosis {
  if (!PvbusError.is(error)) throw error;
  return { what, works: false, why: error.message };
}

/** Returns a check, with what is wrong and what fixes it where it fails. */
function checked(what: string, works: boolean, otherwise: Pick<Diagnosis, "why" | "fix">): Diagnosis {
  return { what, works, ...(works ? {} : otherwise) };
}

function service(host: Host): Diagnosis {
  const devices = "/sys/bus/vmbus/devices";
  const works = namesIn(host, devices).some((name) =>
    textOf(host, `${devices}/${name}/class_id`, LONGEST_ATTRIBUTE)?.toLowerCase().includes(KVP_CLASS_ID),
  );
  return checked("the host offers the KVP service", works, {
    why: "the administrator may have switched off Data Exchange for this machine",
    fix: 'on the host: Enable-VMIntegrationService -VMName NAME -Name "Key-Value Pair Exchange"',
  });
}

function daemon(host: Host): Diagnosis {
  const runs = namesIn(host, "/proc").some(
    (pid) =>
      /^\d+$/.test(pid) && DAEMON_NAMES.test(textOf(host, `/proc/${pid}/comm`, LONGEST_ATTRIBUTE) ?? ""),
  );
  const programs = ["/usr/sbin/hv_kvp_daemon", "/usr/lib/linux-tools", "/usr/sbin/hypervkvpd"];
  const isInstalled = programs.some((path) => host.files.kind(path) !== undefined);
  return checked("the KVP daemon runs", runs, {
    why: "without it nothing reaches the host, and nothing new comes from it",
    fix: isInstalled ? START_DAEMON : INSTALL_DAEMON,
  });
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
      const fix = code === "ENOENT" ? START_DAEMON : `sudo pvbus ${guestWritable ? "set" : "ls"} …`;
      return { what, works: false, why: `${path}: ${code}`, fix };
    }
  });
}

function nativeCalls(): Diagnosis {
  const what = "native calls for locks are there";
  try {
    loadKoffi();
    return { what, works: true };
  } catch (error) {
    return { ...failed(what, error), fix: "npm install --include=optional" };
  }
}
