import { PvbusError } from "../../src/base/errors.js";
import { Call } from "../../src/base/flow/call.js";
import type { Host } from "../../src/base/host/host.js";
import type { Diagnosis } from "../../src/contract/diagnosis.js";
import type { StoreTarget } from "../../src/contract/provider.js";
import { boundDriver, pciAddress } from "./hardware.js";
import { MAX_PROPERTIES } from "./protocol/properties.js";
import { PropertySession } from "./session.js";
import { DRIVER_NODES } from "./transport/device.js";
import type { DriverFile, OpenDriverFile } from "./transport/driver-file.js";

const VERSION = "/VirtualBox/HostInfo/VBoxVer";
/** From here on the doctor says that the store is nearly full. */
const NEARLY_FULL = 240;

/** Checks hardware, driver, nodes and service. Never throws for a machine's state, and never writes. */
export async function diagnoseVirtualBox(
  host: Host,
  target: StoreTarget,
  open: OpenDriverFile,
): Promise<readonly Diagnosis[]> {
  const hardware = target.channel === undefined && host.platform === "linux" ? hardwareChecks(host) : [];
  return [...hardware, ...(await serviceChecks(host, target, open))];
}

function hardwareChecks(host: Host): Diagnosis[] {
  const address = pciAddress(host);
  const device = "VirtualBox's device 80ee:cafe is there";
  if (address === undefined) return [{ what: device, works: false, why: "no PCI device has these ids" }];
  const checks: Diagnosis[] = [{ what: device, works: true, why: address }];
  const driver = boundDriver(host, address);
  const what = "the driver vboxguest has it";
  if (driver === undefined)
    return [...checks, { what, works: false, why: "nothing is bound to it", fix: "modprobe vboxguest" }];
  const version = driver.hostVersion;
  checks.push({ what, works: true, why: version === undefined ? undefined : `host version ${version}` });
  const nodes = DRIVER_NODES.flatMap((node) => nodeText(host, node));
  checks.push({
    what: "the driver has a node",
    works: nodes.length > 0,
    why: nodes.join(", ") || `neither ${DRIVER_NODES.join(" nor ")}`,
  });
  return checks;
}

function nodeText(host: Host, node: string): string[] {
  using held = host.files.hold(node);
  if (held === undefined) return [];
  const { mode, uid, gid } = held.stats;
  return [`${node} mode ${(Number(mode) & 0o777).toString(8).padStart(4, "0")} of ${uid}:${gid}`];
}

async function serviceChecks(host: Host, target: StoreTarget, open: OpenDriverFile): Promise<Diagnosis[]> {
  let file: DriverFile;
  const what = "the driver opens";
  try {
    file = open(host, target);
  } catch (error) {
    return [failed(what, error)];
  }
  const checks: Diagnosis[] = [{ what, works: true, why: file.name }];
  const session = new PropertySession(() => file);
  const call = new Call();
  const service = "the host serves guest properties";
  try {
    await session.connect(call);
    const all = await session.enumerate("", call);
    const version = all.find(({ name }) => name === VERSION);
    const shown = version === undefined ? "of an unknown version" : Buffer.from(version.value).toString();
    checks.push({ what: service, works: true, why: `VirtualBox ${shown}` });
    const isRoomy = all.length < NEARLY_FULL;
    checks.push({
      what: "there is room for further properties",
      works: isRoomy,
      why: `${all.length} of ${MAX_PROPERTIES}`,
      ...(isRoomy
        ? {}
        : { fix: "on the host: VBoxManage guestproperty enumerate VM; delete what nobody needs" }),
    });
  } catch (error) {
    checks.push(failed(service, error));
  } finally {
    await session.close();
  }
  return checks;
}

function failed(what: string, error: unknown): Diagnosis {
  if (!PvbusError.is(error)) throw error;
  return { what, works: false, why: error.message };
}
