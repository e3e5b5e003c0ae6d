import { type PvbusErrorCode, pvbusError } from "../../base/errors.js";
import { Call, type CallOptions } from "../../base/flow/call.js";
import { fromSystemError } from "../../base/system-error.js";
import { closeDescriptor, closeMade, ownDescriptor } from "../ffi/descriptor.js";
import type { KoffiLoader } from "../ffi/koffi.js";
import type { Libc, NativeArgument, NativeResult } from "../ffi/libc.js";
import { openLibc } from "../ffi/open-libc.js";
import { DeviceStream, type DeviceStreamOptions } from "./device-stream.js";
import { whenReady } from "./ready.js";

/** Any context: what a listener binds to, so that it is reached under each of its own. */
export const VMADDR_CID_ANY = 0xffff_ffff;
/** This machine itself, where the kernel has the loopback transport. */
export const VMADDR_CID_LOCAL = 1;
/** Any free port. */
export const VMADDR_PORT_ANY = 0xffff_ffff;

/** Options of {@link connectVsock}. */
export interface VsockOptions extends DeviceStreamOptions, CallOptions {
  /** Context id of the peer: 2 is the host, {@link VMADDR_CID_LOCAL} this machine. */
  readonly cid: number;
  readonly port: number;
  /**
   * Own port; default: one that the kernel chooses. One below 1024 proves to the peer that a privileged program speaks, and
   * is given to such only.
   */
  readonly localPort?: number | undefined;
  /** Default: a stream. A packet is what one write sends; datagrams only VMware's transport has. */
  readonly type?: VsockType | undefined;
}

/** Type of a socket. */
export type VsockType = "stream" | "seqpacket" | "datagram";

/** Options of {@link VsockListener.accept}. */
export interface VsockAcceptOptions extends DeviceStreamOptions {
  /** Hears who the peer is, before any of its bytes. */
  readonly onPeer?: ((peer: { readonly cid: number; readonly port: number }) => void) | undefined;
}

/* Linux: bits/socket.h, linux/vm_sockets.h, asm-generic/socket.h. */
const SOCKET = "int socket(int, int, int)";
const AF_VSOCK = 40;
const SOCK_DGRAM = 2;
const SOCKET_TYPES: Readonly<Record<VsockType, number>> = { stream: 1, datagram: SOCK_DGRAM, seqpacket: 5 };
const SOCK_FLAGS = 0x800 | 0x8_0000;
const SOL_SOCKET = 1;
const SO_ERROR = 4;
const ADDRESS_SIZE = 16;

const CODES: Readonly<Record<string, PvbusErrorCode>> = {
  // Nobody listens there: the reset answers the request to connect.
  ECONNRESET: "ERR_UNAVAILABLE",
  ECONNREFUSED: "ERR_UNAVAILABLE",
  EADDRINUSE: "ERR_BUSY",
  EADDRNOTAVAIL: "ERR_UNAVAILABLE",
};
const NO_VSOCK =
  "this kernel has no vsock, or no way to that context; load the guest's transport (modprobe vmw_vsock_virtio_transport, hv_sock or vmw_vsock_vmci_transport)";
const ADVICE: Readonly<Record<string, string>> = {
  ECONNRESET: "nobody listens on that port; start the service on the other side",
  ECONNREFUSED: "nobody listens on that port; start the service on the other side",
  EADDRINUSE: "another program has that local port; choose another one",
  EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE",
  EAFNOSUPPORT: NO_VSOCK,
  ENODEV: NO_VSOCK,
  ENETUNREACH: NO_VSOCK,
};

/**
 * Connects to a vsock of the host or of this machine.
 * @throws PvbusError `ERR_UNAVAILABLE` without vsock support, without that context or when nobody listens,
 *   `ERR_PERMISSION` for a privileged port, `ERR_BUSY` for a taken local port, `ERR_TIMEOUT`, `ERR_ABORTED`;
 *   `ERR_NOT_SUPPORTED` outside Linux; RangeError for a cid or port out of range
 */
export async function connectVsock(options: VsockOptions): Promise<DeviceStream> {
  const { cid, port, localPort, type } = options;
  const name = `vsock:${checkNumber("cid", cid)}:${checkNumber("port", port)}`;
  const call = new Call(options);
  const libc = openVsockLibc(options.koffi);
  const doing = `cannot connect to ${name}`;
  const waitingFor = `the connection to ${name}`;
  call.check(waitingFor);
  const fd = openSocket(libc, doing, type);
  try {
    if (localPort !== undefined) bind(libc, fd, VMADDR_CID_ANY, checkNumber("localPort", localPort), doing);
    const connect = "int connect(int, const void *, uint32_t)";
    let { rc, errno } = libc.call(connect, fd, address(cid, port), ADDRESS_SIZE);
    const code = libc.errnoName(errno);
    if (rc !== 0 && (code === "EINPROGRESS" || code === "EINTR")) {
      const { mechanism } = options;
      await whenReady(libc, fd, "writable", { call, mechanism, waitingFor });
      ({ rc, errno } = outcomeOf(libc, fd));
    }
    if (rc !== 0) throw failure(libc, "connect", errno, doing);
  } catch (error) {
    closeDescriptor(fd);
    throw error;
  }
  return new DeviceStream(fd, { name, ...options });
}

/**
 * Listens for peers, on {@link VMADDR_PORT_ANY} with a port of the kernel's choice.
 * @throws PvbusError as {@link connectVsock}
 */
export function listenVsock(options: {
  readonly port: number;
  /** Own context to listen on; default: each of them. */
  readonly cid?: number | undefined;
  /** Default: streams. */
  readonly type?: Exclude<VsockType, "datagram"> | undefined;
}): VsockListener {
  const { cid = VMADDR_CID_ANY, port, type } = options;
  const doing = `cannot listen on vsock:${checkNumber("cid", cid)}:${checkNumber("port", port)}`;
  const libc = openVsockLibc();
  const fd = openSocket(libc, doing, type);
  try {
    bind(libc, fd, cid, port, doing);
    must(libc, doing, "int listen(int, int)", fd, 16);
    const own = Buffer.alloc(ADDRESS_SIZE);
    must(libc, doing, "int getsockname(int, void *, void *)", fd, own, lengthOf(own));
    return new VsockListener(libc, fd, own.readUInt32LE(4));
  } catch (error) {
    closeDescriptor(fd);
    throw error;
  }
}

/**
 * Reports whether the kernel has vsock datagrams, which only VMware's own transport offers: a sign that the module
 * vmw_vsock_vmci_transport is there. VMware's library asks in the same way.
 */
export function hasVmciTransport(): boolean {
  if (process.platform !== "linux") return false;
  const libc = openLibc();
  const { rc } = libc.call(SOCKET, AF_VSOCK, SOCK_DGRAM | SOCK_FLAGS, 0);
  if (rc >= 0) closeMade(libc, rc);
  return rc >= 0;
}

/** A vsock that listens. */
export class VsockListener {
  readonly port: number;
  readonly #libc: Libc;
  readonly #fd: number;
  readonly #ending = new AbortController();

  /** @internal Use {@link listenVsock}. */
  constructor(libc: Libc, fd: number, port: number) {
    this.#libc = libc;
    this.#fd = fd;
    this.port = port;
  }

  /**
   * Waits for a peer and returns its stream.
   * @throws PvbusError `ERR_TIMEOUT`, `ERR_ABORTED`, `ERR_DISCONNECTED` after {@link VsockListener.close}
   */
  async accept(options: VsockAcceptOptions, call: Call = new Call()): Promise<DeviceStream> {
    const waitingFor = `a peer on vsock port ${this.port}`;
    const until = this.#ending.signal;
    for (;;) {
      call.check(waitingFor);
      if (until.aborted)
        throw pvbusError("ERR_DISCONNECTED", `${waitingFor} is not awaited any more: it was closed`);
      const peer = Buffer.alloc(ADDRESS_SIZE);
      const accept = "int accept4(int, void *, void *, int)";
      const { rc, errno } = this.#libc.call(accept, this.#fd, peer, lengthOf(peer), SOCK_FLAGS);
      if (rc >= 0) {
        const fd = ownDescriptor(this.#libc, rc);
        options.onPeer?.({ port: peer.readUInt32LE(4), cid: peer.readUInt32LE(8) });
        return new DeviceStream(fd, { name: `a peer of vsock port ${this.port}`, ...options });
      }
      if (!["EAGAIN", "EINTR", "ECONNABORTED"].includes(this.#libc.errnoName(errno)))
        throw failure(this.#libc, "accept4", errno, `cannot accept ${waitingFor}`);
      await whenReady(this.#libc, this.#fd, "readable", { call, until, waitingFor });
    }
  }

  close(): void {
    if (this.#ending.signal.aborted) return;
    this.#ending.abort();
    closeDescriptor(this.#fd);
  }
}

function openVsockLibc(koffi?: KoffiLoader): Libc {
  if (process.platform !== "linux")
    throw pvbusError("ERR_NOT_SUPPORTED", `vsock is served on Linux only, not on ${process.platform}`);
  return openLibc(koffi);
}

function openSocket(libc: Libc, doing: string, type: VsockType = "stream"): number {
  return ownDescriptor(libc, must(libc, doing, SOCKET, AF_VSOCK, SOCKET_TYPES[type] | SOCK_FLAGS, 0));
}

function bind(libc: Libc, fd: number, cid: number, port: number, doing: string): void {
  must(libc, doing, "int bind(int, const void *, uint32_t)", fd, address(cid, port), ADDRESS_SIZE);
}

/** Returns what became of a connect that was in progress. */
function outcomeOf(libc: Libc, fd: number): NativeResult {
  const outcome = Buffer.alloc(4);
  const getsockopt = "int getsockopt(int, int, int, void *, void *)";
  const { rc, errno } = libc.call(getsockopt, fd, SOL_SOCKET, SO_ERROR, outcome, lengthOf(outcome));
  const error = rc === 0 ? outcome.readInt32LE() : errno;
  return { rc: error, errno: error };
}

/** struct sockaddr_vm: family u16 at 0, port u32 at 4, cid u32 at 8. */
function address(cid: number, port: number): Buffer {
  return Buffer.from(Uint32Array.of(AF_VSOCK, port, cid, 0).buffer);
}

function lengthOf(buffer: Buffer): Uint8Array {
  return Buffer.from(Uint32Array.of(buffer.length).buffer);
}

function checkNumber(what: string, value: number): number {
  if (Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff) return value;
  throw new RangeError(`${what} of a vsock must be a whole number from 0 to 4294967295`);
}

/** As {@link Libc.must}, in the words of whoever wanted it. */
function must(libc: Libc, doing: string, declaration: string, ...args: NativeArgument[]): number {
  try {
    return libc.must(declaration, ...args);
  } catch (error) {
    throw fromSystemError(error, { doing, codes: CODES, advice: ADVICE });
  }
}

function failure(libc: Libc, syscall: string, errno: number, doing: string): unknown {
  return fromSystemError(libc.systemError(syscall, errno), { doing, codes: CODES, advice: ADVICE });
}
