import { PvbusError } from "../../src/base/errors.js";
import { Call } from "../../src/base/flow/call.js";
import type { Host } from "../../src/base/host/host.js";
import type { Diagnosis } from "../../src/contract/diagnosis.js";
import type { StoreTarget } from "../../src/contract/provider.js";
import { usesOpenbsdDevice } from "./capabilities.js";
import { infoGet } from "./protocol/rpci.js";
import { openBackdoorTransport } from "./transport/backdoor.js";
import { OpenbsdDeviceTransport } from "./transport/openbsd-device.js";
import { ExchangeFailure, type RpcTransport } from "./transport/rpc-transport.js";
import { hasVsock, hostVsock, namedSource } from "./transport/sources.js";
import { StreamTransport } from "./transport/stream.js";
import { lookForVmware } from "./transports.js";

/** Checks each transport to the host by asking for a key that need not be there. Never throws for a machine's state. */
export async function diagnoseVmware(host: Host, target: StoreTarget): Promise<readonly Diagnosis[]> {
  const { channel } = target;
  if (channel !== undefined)
    return [
      await answers(`${channel} answers`, () => new StreamTransport(namedSource(channel, host, "prefer"))),
    ];
  if (usesOpenbsdDevice(host, target))
    return [await answers("OpenBSD's kernel answers", () => new OpenbsdDeviceTransport())];
  const proof = await lookForVmware(host);
  const what = "this is VMware's hardware";
  if ("refused" in proof) return [{ what, works: false, why: proof.refused }];
  return [
    { what, works: true, why: proof.evidence },
    ...(host.platform === "linux" ? await vsock() : []),
    await answers("the backdoor answers", () => openBackdoorTransport(proof)),
  ];
}

async function vsock(): Promise<Diagnosis[]> {
  const what = "VMware's vsock driver is loaded";
  try {
    if (!(await hasVsock())) return [{ what, works: false, fix: "modprobe vmw_vsock_vmci_transport" }];
  } catch (error) {
    return [{ what, works: false, why: reason(error), fix: "npm install --include=optional" }];
  }
  const source = hostVsock("prefer");
  const reply = await answers("the host answers on vsock", () => new StreamTransport(source));
  const checks: Diagnosis[] = [{ what, works: true }, reply];
  if (!reply.works) return checks;
  const privileged = "the host takes this program for a privileged one";
  if (source.privileged === true) return [...checks, { what: privileged, works: true }];
  const why = "a port below 1024 is not for this user";
  return [...checks, { what: privileged, works: false, why, fix: "sudo pvbus …" }];
}

async function answers(what: string, open: () => RpcTransport | Promise<RpcTransport>): Promise<Diagnosis> {
  let transport: RpcTransport | undefined;
  try {
    transport = await open();
    await transport.prepare?.(new Call());
    await transport.exchange(infoGet("guestinfo.pvbus").bytes, new Call());
    return { what, works: true, why: transport.name };
  } catch (error) {
    return { what, works: false, why: reason(error) };
  } finally {
    await transport?.close();
  }
}

function reason(error: unknown): string {
  if (PvbusError.is(error) || error instanceof ExchangeFailure) return error.message;
  throw error;
}
