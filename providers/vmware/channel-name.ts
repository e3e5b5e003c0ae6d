import { pvbusError } from "../../src/base/errors.js";
import type { Host } from "../../src/base/host/host.js";
import { isTooLong } from "../../src/base/host/socket.js";
import type { StreamSource } from "./transport/stream.js";
import { UnixSource } from "./transport/unix.js";
import { type Privilege, VsockSource } from "./transport/vsock.js";

const MAX_NUMBER = 0xffff_ffff;

/**
 * Returns the address of a channel that the caller named: `vsock:CID:PORT` or `unix:PATH`, the path below the host's sysroot.
 * @throws PvbusError `ERR_NOT_SUPPORTED` for anything else; the machine-code port is never opened by a name
 */
export function namedSource(channel: string, host: Host, privilege: Privilege): StreamSource {
  const [, cid, port] = /^vsock:(\d{1,10}):(\d{1,10})$/.exec(channel) ?? [];
  if (cid !== undefined && Number(cid) <= MAX_NUMBER && Number(port) <= MAX_NUMBER)
    return new VsockSource(Number(cid), Number(port), privilege);
  const [, path] = /^unix:(.+)$/s.exec(channel) ?? [];
  if (path !== undefined && !path.includes("\0")) {
    if (host.sysroot !== undefined || !isTooLong(path)) return new UnixSource(channel, path, host.files);
    throw pvbusError("ERR_UNAVAILABLE", "the path of the socket is longer than the system takes; shorten it");
  }
  throw pvbusError(
    "ERR_NOT_SUPPORTED",
    `VMware has no channel "${channel}"; name vsock:CID:PORT or unix:PATH`,
  );
}
