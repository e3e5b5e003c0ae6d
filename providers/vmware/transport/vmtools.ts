import type { Call } from "../../../src/base/flow/call.js";
import { peerWords } from "../../../src/base/outside-text.js";
import type { VmtoolsSend } from "../../../src/native/vmware/vmtools.js";
import { ExchangeFailure, type RpcTransport } from "./rpc-transport.js";

/** The library's own words of failure (open-vm-tools lib/rpcOut, lib/rpcChannel): the host did not speak. */
const FAILURE = /^(RpcOut|RpcChannel|VSockOut): (?<what>Unable to (open|send|receive)|Invalid format).*/;

/** VMware's own library: it chooses vsock or the backdoor by itself, and opens and closes it for each command. */
class VmtoolsTransport implements RpcTransport {
  readonly name = "VMware's library";
  readonly privileged = undefined;
  readonly #send: VmtoolsSend;

  constructor(send: VmtoolsSend) {
    this.#send = send;
  }

  async exchange(request: Uint8Array, call: Call): Promise<Uint8Array> {
    call.check("VMware's library");
    const { accepted, bytes } = await this.#send(request);
    if (accepted) return Buffer.concat([Buffer.from("1 "), bytes]);
    const words = peerWords(bytes);
    const what = words === "" ? "no reply" : FAILURE.exec(words)?.groups?.["what"];
    if (what === undefined) return Buffer.concat([Buffer.from("0 "), bytes]);
    const executed = !what.endsWith("open");
    throw new ExchangeFailure("ERR_DISCONNECTED", `VMware's library failed: ${words || what}; try again`, {
      executed,
    });
  }

  async close(): Promise<void> {
    // The library keeps nothing open.
  }
}

/** Opens the library. @throws PvbusError `ERR_UNAVAILABLE` where it is not installed or finds no VMware */
export async function openVmtoolsTransport(): Promise<RpcTransport> {
  const { openVmtools } = await import("../../../src/native/vmware/vmtools.js");
  return new VmtoolsTransport(openVmtools());
}
