import { PvbusError } from "../../src/base/errors.js";
import { Call } from "../../src/base/flow/call.js";
import type { Host } from "../../src/base/host/host.js";
import type { Diagnosis } from "../../src/contract/diagnosis.js";
import type { XenStoreClient } from "./client/client.js";
import type { XenDriverStore } from "./driver-store.js";
import { ownDomain } from "./facts.js";
import type { XenStore } from "./store.js";
import { candidateNames } from "./transport/locate.js";
import type { Transport } from "./transport/transport.js";

/** Longest wait for the daemon. */
const ANSWER_MS = 3_000;
/** Where every toolstack lets the guest write. */
const WRITABLE = "data";
const WRITERS = ["write", "both"];

interface Ways {
  readonly peer: "daemon" | "driver";
  /** Finds the transport to a daemon; undefined where there is nothing to find, such as where the user named the channel. */
  readonly find: (() => Transport) | undefined;
  readonly open: (call: Call) => Promise<XenStore | XenDriverStore>;
}

/** Checks what XenStore needs, from the way to the daemon to where this domain may write. Never throws for a machine's state. */
export async function diagnoseXen(host: Host, { peer, find, open }: Ways): Promise<readonly Diagnosis[]> {
  const checks: Diagnosis[] = find === undefined ? [] : [way(host, find)];
  if (checks.some(({ works }) => !works)) return checks;
  const what = `the XenStore ${peer} answers`;
  const call = new Call({ timeoutMs: ANSWER_MS });
  let store: XenStore | XenDriverStore | undefined;
  try {
    store = await open(call);
    if ("client" in store) {
      const domain = await ownDomain(store.client, call);
      checks.push({ what, works: true, why: `this is domain ${domain ?? "unknown"}` });
      checks.push(await writable(store.client, domain, call));
    } else {
      const domain = await store.read("domid", call);
      const why = `this is domain ${domain === undefined ? "unknown" : Buffer.from(domain)}`;
      checks.push({ what, works: true, why });
    }
  } catch (error) {
    if (!PvbusError.is(error)) throw error;
    const isDenied = peer === "daemon" && error.code === "ERR_PERMISSION";
    checks.push({ what, works: false, why: error.message, fix: isDenied ? "sudo pvbus ls" : undefined });
  } finally {
    await store?.close();
  }
  return checks;
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

async function writable(client: XenStoreClient, domain: number | undefined, call: Call): Promise<Diagnosis> {
  const what = `this domain may write below ${WRITABLE}`;
  const [owner, ...others] = (await client.permissions(WRITABLE, call)) ?? [];
  if (client.privileged || owner?.domain === domain) return { what, works: true };
  if (owner === undefined) return { what, works: false, why: "the toolstack did not create it" };
  const access = others.find((each) => each.domain === domain)?.access ?? owner.access;
  const works = WRITERS.includes(access);
  return { what, works, ...(works ? {} : { why: `domain ${owner.domain} owns it` }) };
}
