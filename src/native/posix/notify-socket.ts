import { isTooLong } from "../../base/host/channel.js";
import { closeMade } from "../ffi/descriptor.js";
import { type KoffiLoader, loadKoffi } from "../ffi/koffi.js";
import { openLibc } from "../ffi/open-libc.js";

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
/** Linux's flags, where systemd is. */
const SOCK_CLOEXEC = 0o2000000;
const MSG_NOSIGNAL = 0x4000;

/**
 * Reports this service's state to systemd, as sd_notify(3) does: one datagram to the socket that `NOTIFY_SOCKET` names.
 * @param path absolute, or abstract with `@` in front
 * @param state lines such as `READY=1`
 * @returns whether it was taken; a service must not fail because nobody listens
 * @throws PvbusError `ERR_UNAVAILABLE` without native calls
 */
export function notifySocket(path: string, state: string, loader: KoffiLoader = loadKoffi): boolean {
  if (!/^[@/]/.test(path) || isTooLong(path)) return false;
  const name = Buffer.from(path, "utf8");
  const libc = openLibc(loader);
  const address = Buffer.alloc(2 + name.length);
  address.writeUInt16LE(AF_UNIX, 0);
  name.copy(address, 2);
  if (path.startsWith("@")) address[2] = 0;
  const socket = libc.call(libc.function("int socket(int, int, int)"), AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (socket.rc < 0) return false;
  try {
    const message = Buffer.from(state, "utf8");
    const sendto = libc.function("intptr_t sendto(int, const void *, size_t, int, const void *, uint32_t)");
    const { rc } = libc.call(
      sendto,
      socket.rc,
      message,
      message.length,
      MSG_NOSIGNAL,
      address,
      address.length,
    );
    return rc === message.length;
  } finally {
    closeMade(libc, socket.rc);
  }
}
