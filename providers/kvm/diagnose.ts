import { PvbusError } from "../../src/base/errors.js";
import { Call } from "../../src/base/flow/call.js";
import type { Host } from "../../src/base/host/host.js";
import type { Diagnosis } from "../../src/contract/diagnosis.js";
import type { StoreTarget } from "../../src/contract/provider.js";
import { channelAdvice } from "./capabilities.js";
import { type CompleteOptions, completeOptions } from "./options.js";
import { hasFwCfg } from "./static/fwcfg.js";
import type { KvmStore } from "./store.js";
import { portNames } from "./transport/channels.js";

/** The device's ACPI node is there without the driver too. */
const FWCFG_ACPI = "/sys/bus/acpi/devices/QEMU0002:00";
/** Guest devices of confidential machines: there the host is not to be trusted. */
const CONFIDENTIAL = ["/dev/sev-guest", "/dev/tdx_guest"];
/** How the host gives what systemd, and `pvbus creds`, take. */
const CREDENTIALS: Diagnosis = {
  what: "the host can give credentials to systemd and `pvbus creds`",
  works: true,
  why: "QEMU: -fw_cfg name=opt/io.systemd.credentials/NAME,file=FILE or -smbios type=11,value=io.systemd.credential:NAME=TEXT",
};
/** A key that nobody has: whether it can be asked for is the question. */
const PROBE = "pvbus-doctor-probe";

/** Checks the sources of a machine. Never throws for its state. */
export async function diagnoseKvm(
  host: Host,
  target: StoreTarget,
  open: () => Promise<KvmStore>,
): Promise<readonly Diagnosis[]> {
  const options = completeOptions(target.options);
  const checks: Diagnosis[] = [];
  let store: KvmStore | undefined;
  try {
    store = await open();
    const { channel, capabilities } = store;
    const what = `the host answers on the metadata channel ${channel}`;
    const isMissing = channel === undefined;
    checks.push(isMissing ? noChannel(host, options) : await found(store, `meta/${PROBE}`, what));
    checks.push(hasFwCfg(host) ? await readable(store, "fwcfg") : noFwCfg(host));
    const hasSmbios = capabilities.pools?.["smbios"] !== undefined;
    if (hasSmbios) checks.push(await readable(store, "smbios"));
    if (hasSmbios || hasFwCfg(host)) checks.push(CREDENTIALS);
  } catch (error) {
    checks.push(failed("the sources can be opened", error));
  } finally {
    await store?.close();
  }
  if (CONFIDENTIAL.some((path) => host.files.kind(path) !== undefined)) {
    const why =
      "the machine is confidential, and whoever runs the host chooses every value: take none for granted";
    checks.push({ what: "values come from a host that is not trusted", works: true, why });
  }
  return checks;
}

function noChannel(host: Host, options: CompleteOptions): Diagnosis {
  const ports = portNames(host).join(", ") || "none";
  return {
    what: "this machine has a metadata channel",
    works: false,
    why: `without it nothing can be written or watched; virtio-serial ports: ${ports}`,
    fix: channelAdvice(options),
  };
}

function noFwCfg(host: Host): Diagnosis {
  const isThere = host.files.kind(FWCFG_ACPI) !== undefined;
  return isThere
    ? { what: "the driver of fw_cfg is loaded", works: false, fix: "modprobe qemu_fw_cfg" }
    : { what: "this machine has no fw_cfg device", works: true };
}

/** Names are shown to all; the values of these are not. */
function readable(store: KvmStore, source: "fwcfg" | "smbios"): Promise<Diagnosis> {
  return source === "fwcfg"
    ? found(store, "fwcfg/etc/boot-fail-wait", "fw_cfg values can be read", "run as root")
    : found(store, `smbios/oem/${PROBE}`, "SMBIOS values can be read", "run as root");
}

async function found(store: KvmStore, key: string, what: string, fix?: string): Promise<Diagnosis> {
  try {
    await store.find(key, new Call());
    return { what, works: true };
  } catch (error) {
    return failed(what, error, fix);
  }
}

function failed(what: string, error: unknown, fix?: string): Diagnosis {
  if (!PvbusError.is(error)) throw error;
  return { what, works: false, why: error.message, ...(fix === undefined ? {} : { fix }) };
}
