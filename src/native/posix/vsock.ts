import { closeSync, openSync } from "node:fs";
import { type PvbusErrorCode, pvbusError } from "../../base/errors.js";
import { Call, type CallOptions } from "../../base/flow/call.js";
import { fromSystemError } from "../../base/system-error.js";
import { closeDescriptor, closeMade, ownDescriptor } from "../ffi/descriptor.js";
import { type KoffiLoader, loadKoffi } from "../ffi/koffi.js";
import type { Libc } from "../ffi/libc.js";
import { openLibc } from "../ffi/open-libc.js";
import { DeviceStream, type DeviceStreamOptions } from "./device-stream.js";
import { ioctl } from "./ioctl.js";
import { whenReady } from "./ready.js";

/** Any context: what a listener binds to, so that it is reached under each of its own. */
export const VMADDR_CID_ANY = 0xffff_ffff;
/** This machine itself, where the kernel has the loopback transport. */
export const VMADDR_CID_LOCAL = 1;
/** The host of this machine. */
export const VMADDR_CID_HOST = 2;
/** Any free port. */
export const VMADDR_PORT_ANY = 0xffff_ffff;

/** Options of {@link connectVsock}. */
export interface VsockOptions extends DeviceStreamOptions, CallOptions {
  /** Context id of the peer: {@link VMADDR_CID_HOST}, … */
  readonly cid: number;
  /** Port of the peer. */
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

/** A vsock that listens. */
export interface VsockListener {
  /** Port that it listens on. */
  readonly port: number;
  /**
   * Waits for a peer and returns its stream.
   * @throws PvbusError `ERR_TIMEOUT`, `ERR_ABORTED`, `ERR_DISCONNECTED` after {@link VsockListener.close}
   */
  accept(options: VsockAcceptOptions, call?: Call): Promise<DeviceStream>;
  /** Stops listening; may be called twice. */
  close(): void;
}

/* Linux: bits/socket.h, linux/vm_sockets.h, asm-generic/socket.h. */
const AF_VSOCK = 40;
const SOCK_DGRAM = 2;
const SOCKET_TYPES: Readonly<Record<VsockType, number>> = { stream: 1, datagram: SOCK_DGRAM, seqpacket: 5 };
const SOCK_FLAGS = 0x800 | 0x8_0000;
const SOL_SOCKET = 1;
const SO_ERROR = 4;
const ADDRESS_SIZE = 16;
const IOCTL_VM_SOCKETS_GET_LOCAL_CID = 0x7b9;

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
  ENOENT: NO_VSOCK,
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
  call.check(`the connection to ${name}`);
  const fd = openSocket(libc, doing, type);
  try {
    if (localPort !== undefined) bind(libc, fd, VMADDR_CID_ANY, checkNumber("localPort", localPort), doing);
    const connect = libc.function("int connect(int, const void *, uint32_t)");
    const { rc, errno } = libc.call(connect, fd, address(cid, port), ADDRESS_SIZE);
    if (rc !== 0) {
      const code = libc.errnoName(errno);
      if (code !== "EINPROGRESS" && code !== "EINTR") throw failure(libc, "connect", errno, doing);
      await connected(libc, fd, options, call, name);
    }
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
  readonly koffi?: KoffiLoader | undefined;
}): VsockListener {
  const { cid = VMADDR_CID_ANY, port, type, koffi } = options;
  const doing = `cannot listen on vsock:${checkNumber("cid", cid)}:${checkNumber("port", port)}`;
  const libc = openVsockLibc(koffi);
  const fd = openSocket(libc, doing, type);
  try {
    bind(libc, fd, cid, port, doing);
    const { rc, errno } = libc.call(libc.function("int listen(int, int)"), fd, 16);
    if (rc !== 0) throw failure(libc, "listen", errno, doing);
    return new Listener(libc, fd, ownPort(libc, fd, doing));
  } catch (error) {
    closeDescriptor(fd);
    throw error;
  }
}

/**
 * Returns the context id under which the host knows this machine; {@link VMADDR_CID_ANY} where it has none yet.
 * @throws PvbusError `ERR_UNAVAILABLE` without vsock support, `ERR_PERMISSION`
 */
export function localCid(loader: KoffiLoader = loadKoffi, path = "/dev/vsock"): number {
  const libc = openLibc(loader);
  let fd: number | undefined;
  try {
    fd = openSync(path, "r");
    const cid = Buffer.alloc(4);
    ioctl(libc, fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, cid);
    return cid.readUInt32LE();
  } catch (error) {
    throw fromSystemError(error, {
      doing: `cannot ask ${path} for this machine's context id`,
      advice: ADVICE,
    });
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/**
 * Reports whether the kernel has vsock datagrams, which only VMware's own transport offers: a sign that the module
 * vmw_vsock_vmci_transport is there. VMware's library asks in the same way.
 */
export function hasVmciTransport(koffi: KoffiLoader = loadKoffi): boolean {
  if (process.platform !== "linux") return false;
  const libc = openLibc(koffi);
  const { rc } = libc.call(libc.function("int socket(int, int, int)"), AF_VSOCK, SOCK_DGRAM | SOCK_FLAGS, 0);
  if (rc >= 0) closeMade(libc, rc);
  return rc >= 0;
}

class Listener implements VsockListener {
  readonly port: number;
  readonly #libc: Libc;
  readonly #fd: number;
  readonly #ending = new AbortController();

  constructor(libc: Libc, fd: number, port: number) {
    this.#libc = libc;
    this.#fd = fd;
    this.port = port;
  }

  async accept(options: VsockAcceptOptions, call: Call = new Call()): Promise<DeviceStream> {
    const waitingFor = `a peer on vsock port ${this.port}`;
    const accept = this.#libc.function("int accept4(int, void *, void *, int)");
    for (;;) {
      call.check(waitingFor);
      if (this.#ending.signal.aborted)
        throw pvbusError("ERR_DISCONNECTED", `${waitingFor} is not awaited any more: it was closed`);
      const peer = Buffer.alloc(ADDRESS_SIZE);
      const length = Buffer.alloc(4);
      length.writeUInt32LE(peer.length);
      const { rc, errno } = this.#libc.call(accept, this.#fd, peer, length, SOCK_FLAGS);
      if (rc >= 0) {
        const fd = ownDescriptor(this.#libc, rc);
        options.onPeer?.({ port: peer.readUInt32LE(4), cid: peer.readUInt32LE(8) });
        return new DeviceStream(fd, { name: `a peer of vsock port ${this.port}`, ...options });
      }
      const code = this.#libc.errnoName(errno);
      if (code !== "EAGAIN" && code !== "EINTR" && code !== "ECONNABORTED")
        throw failure(this.#libc, "accept4", errno, `cannot accept ${waitingFor}`);
      const until = this.#ending.signal;
      await whenReady(this.#libc, this.#fd, "readable", { call, until, waitingFor });
    }
  }

  close(): void {
    if (this.#ending.signal.aborted) return;
    this.#ending.abort();
    closeDescriptor(this.#fd);
  }
}

function openVsockLibc(koffi: KoffiLoader = loadKoffi): Libc {
  if (process.platform !== "linux")
    throw pvbusError("ERR_NOT_SUPPORTED", `vsock is served on Linux only, not on ${process.platform}`);
  return openLibc(koffi);
}

/** Waits for the outcome of a connect in progress. */
async function connected(
  libc: Libc,
  fd: number,
  { mechanism }: VsockOptions,
  call: Call,
  name: string,
): Promise<void> {
  await whenReady(libc, fd, "writable", { call, mechanism, waitingFor: `the connection to ${name}` });
  const outcome = Buffer.alloc(4);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(outcome.length);
  const getsockopt = libc.function("int getsockopt(int, int, int, void *, void *)");
  const { rc, errno } = libc.call(getsockopt, fd, SOL_SOCKET, SO_ERROR, outcome, length);
  const error = rc === 0 ? outcome.readInt32LE() : errno;
  if (error !== 0) throw failure(libc, "connect", error, `cannot connect to ${name}`);
}

function openSocket(libc: Libc, doing: string, type: VsockType = "stream"): number {
  const socket = libc.function("int socket(int, int, int)");
  const { rc, errno } = libc.call(socket, AF_VSOCK, SOCKET_TYPES[type] | SOCK_FLAGS, 0);
  if (rc < 0) throw failure(libc, "socket", errno, doing);
  return ownDescriptor(libc, rc);
}

function bind(libc: Libc, fd: number, cid: number, port: number, doing: string): void {
  const declared = libc.function("int bind(int, const void *, uint32_t)");
  const { rc, errno } = libc.call(declared, fd, address(cid, port), ADDRESS_SIZE);
  if (rc !== 0) throw failure(libc, "bind", errno, doing);
}

function ownPort(libc: Libc, fd: number, doing: string): number {
  const own = Buffer.alloc(ADDRESS_SIZE);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(own.length);
  const { rc, errno } = libc.call(libc.function("int getsockname(int, void *, void *)"), fd, own, length);
  if (rc !== 0) throw failure(libc, "getsockname", errno, doing);
  return own.readUInt32LE(4);
}

/** struct sockaddr_vm: family u16 at 0, port u32 at 4, cid u32 at 8. */
function address(cid: number, port: number): Buffer {
  const bytes = Buffer.alloc(ADDRESS_SIZE);
  bytes.writeUInt16LE(AF_VSOCK, 0);
  bytes.writeUInt32LE(port, 4);
  bytes.writeUInt32LE(cid, 8);
  return bytes;
}

function checkNumber(what: string, value: number): number {
  if (Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff) return value;
  throw new RangeError(`${what} of a vsock must be a whole number from 0 to 4294967295`);
}

function failure(libc: Libc, syscall: string, errno: number, doing: string): unknown {
  return fromSystemError(libc.systemError(syscall, errno), { doing, codes: CODES, advice: ADVICE });
}
