import type { Call } from "../../src/base/flow/call.js";
import { HostctlError } from "../../src/base/hostctl-error.js";
import { upToNul } from "../../src/base/outside-text.js";
import type { HostctlStore } from "../../src/contract/hostctl.js";
import { VMT_RPC_BUFLEN } from "./protocol/keys.js";
import type { VmwareStore } from "./store.js";

/**
 * guestinfo as OpenBSD's kernel serves it: the key goes to the host as it is, every refusal of the host is EINVAL, and a
 * reply counts with the two bytes in front of it. Unlike there, the command goes out without padding. Source: OpenBSD
 * sys/dev/pv/vmt.c, vmt_kvop.
 */
export class VmwareHostctlStore implements HostctlStore {
  readonly #store: VmwareStore;

  constructor(store: VmwareStore) {
    this.#store = store;
  }

  async read(key: Uint8Array, valueLength: number, call: Call): Promise<Uint8Array> {
    return this.#ask("info-get", Buffer.from(key), valueLength, call);
  }

  async write(key: Uint8Array, value: Uint8Array, call: Call): Promise<Uint8Array> {
    const args = Buffer.concat([key, Buffer.from(" "), value]);
    return this.#ask("info-set", args, VMT_RPC_BUFLEN, call);
  }

  async #ask(name: string, args: Buffer, room: number, call: Call): Promise<Uint8Array> {
    if (name.length + 1 + args.length >= VMT_RPC_BUFLEN) throw new HostctlError("EINVAL");
    const reply = await this.#store.rpc(name, args, call);
    const length = reply.accepted ? reply.value.length : Buffer.byteLength(reply.words);
    if (length + 3 > room) throw new HostctlError("ERANGE");
    if (!reply.accepted) throw new HostctlError("EINVAL");
    return upToNul(reply.value);
  }
}
