import { pvbusError } from "../../base/errors.js";
import { callAsync } from "../ffi/async-call.js";
import type { Libc, NativeFunction } from "../ffi/libc.js";
import { openLibc } from "../ffi/open-libc.js";

export interface VmtoolsReply {
  /** Whether the host accepted it; false also for the library's own failures. */
  readonly accepted: boolean;
  /** The reply without its first two bytes, or words of refusal or failure. */
  readonly bytes: Buffer;
}

/** Sends one command, over vsock or the backdoor as the library chooses; on a thread, since it blocks. */
export type VmtoolsSend = (request: Uint8Array) => Promise<VmtoolsReply>;

const NAMES: Partial<Record<NodeJS.Platform, readonly string[]>> = {
  linux: ["libvmtools.so.0"],
  freebsd: ["libvmtools.so.0", "/usr/local/lib/libvmtools.so.0"],
};

/**
 * Opens VMware's library, libvmtools of open-vm-tools.
 * @param names where to look; default: the system's library path
 * @throws PvbusError `ERR_UNAVAILABLE` when it is not installed, or says itself that this is none of VMware's machines
 */
export function openVmtools(names: readonly string[] = NAMES[process.platform] ?? []): VmtoolsSend {
  const libc = openLibc();
  const library = loadFirst(libc, names);
  // Asks CPUID and, under handlers of its own, the port: safe on any machine.
  const isVirtual = library.func("bool VmCheck_IsVirtualWorld(void)") as () => boolean;
  if (!isVirtual())
    throw pvbusError("ERR_UNAVAILABLE", "VMware's own library finds no VMware here; see `pvbus detect`");
  const declaration = "int RpcChannel_SendOneRaw(const void *, size_t, void *, void *)";
  const send = library.func(declaration) as unknown as NativeFunction;
  return (request) => sendOne(libc, send, request);
}

function loadFirst(libc: Libc, names: readonly string[]): ReturnType<Libc["koffi"]["load"]> {
  let cause: unknown;
  for (const name of names) {
    try {
      return libc.koffi.load(name);
    } catch (error) {
      cause ??= error;
    }
  }
  throw pvbusError("ERR_UNAVAILABLE", "VMware's library cannot be loaded; install open-vm-tools", { cause });
}

async function sendOne(libc: Libc, send: NativeFunction, request: Uint8Array): Promise<VmtoolsReply> {
  const [reply, length] = [Buffer.alloc(8), Buffer.alloc(8)];
  const { rc } = await callAsync(libc, send, request, request.length, reply, length);
  const address = reply.readBigUInt64LE();
  if (address === 0n) return { accepted: rc !== 0, bytes: Buffer.alloc(0) };
  try {
    const size = Number(length.readBigUInt64LE());
    const bytes = size === 0 ? [] : Buffer.from(libc.koffi.view(address, size));
    return { accepted: rc !== 0, bytes: Buffer.from(bytes) };
  } finally {
    libc.function("void free(void *)")(address);
  }
}
