import { PvbusError } from "../../src/base/errors.js";
import { Call } from "../../src/base/flow/call.js";
import type { Host } from "../../src/base/host/host.js";
import type { Diagnosis } from "../../src/contract/diagnosis.js";
import type { ProviderStore } from "../../src/contract/store.js";
import { ownDomain } from "./facts.js";
import type { XenStore } from "./store.js";
import { candidateNames } from "./transport/locate.js";
import type { Transport } from "./transport/transport.js";

/** Longest wait for the daemon. */
const ANSWER_MS = 3_000;
const WRITABLE = ["data"] as const;
const WRITERS = ["write", "both"];

/** What the provider does to reach a daemon. */
interface Ways {
  /** Finds the transport. */
  readonly find: () => Transport;
  /** Connects. */
  readonly open: (call: Call) => Promise<XenStore>;
  /** The user named the channel. */
  readonly isNamed: boolean;
}

/** Checks what XenStore needs, from the way to the daemon to where this domain may write. Never throws for a machine's state. */
export async function diagnoseXen(host: Host, { find, open, isNamed }: Ways): Promise<readonly Diagnosis[]> {
  const checks: Diagnosis[] = isNamed ? [] : [way(host, find)];
  if (checks.some(({ works }) => !works)) return checks;
  let store: XenStore | undefined;
  const what = "the XenStore daemon answers";
  const call = new Call({ timeoutMs: ANSWER_MS });
  try {
    store = await open(call);
    const domain = await ownDomain(store.client, call);
    checks.push({ what, works: true, why: `this is domain ${domain ?? "unknown"}` });
    for (const path of WRITABLE) checks.push(await writable(store, path, domain, call));
  } catch (error) {
    if (!PvbusError.is(error)) throw error;
    const fix = error.code === "ERR_PERMISSION" ? "sudo pvbus ls" : undefined;
    checks.push({ what, works: false, why: error.message, fix });
  } finally {
    await store?.close();
  }
  return checks;
}

/** Checks whether XenStore can be read through a driver with an interface of its own. Never throws for a machine's state. */
export async function diagnoseDriver(
  open: (call: Call) => Promise<ProviderStore>,
): Promise<readonly Diagnosis[]> {
  const what = "the XenStore driver answers";
  const call = new Call({ timeoutMs: ANSWER_MS });
  let store: ProviderStore | undefined;
  try {
    store = await open(call);
    const domain = await store.read?.("domid", call);
    return [
      { what, works: true, why: `this is domain ${domain === undefined ? "unknown" : Buffer.from(domain)}` },
    ];
  } catch (error) {
    if (!PvbusError.is(error)) throw error;
    return [{ what, works: false, why: error.message }];
  } finally {
    await store?.close();
  }
}

function way(host: Host, find: () => Transport): Diagnosis {
  const what = "XenStore is within reach";
  try {
    return { what, works: true, why: find().name };
  } catch (error) {
    if (!PvbusError.is(error)) throw error;
  }
  const driver = host.platform === "linux" && host.files.kind("/proc/xen") === undefined;
  return {
    what,
    works: false,
    why: `none of ${candidateNames(host)} is there`,
    fix: driver ? "modprobe xenfs && mount -t xenfs xenfs /proc/xen" : undefined,
  };
}

async function writable(
  { client }: XenStore,
  path: string,
  domain: number | undefined,
  call: Call,
): Promise<Diagnosis> {
  const what = `this domain may write below ${path}`;
  const [owner, ...others] = (await client.permissions(path, call)) ?? [];
  if (client.privileged || owner?.domain === domain) return { what, works: true };
  if (owner === undefined) return { what, works: false, why: "the toolstack did not create it" };
  const access = others.find((each) => each.domain === domain)?.access ?? owner.access;
  const works = WRITERS.includes(access);
  return { what, works, ...(works ? {} : { why: `domain ${owner.domain} owns it` }) };
}
