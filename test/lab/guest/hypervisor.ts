/**
 * Stands between a guest and `pvbus host serve` as QEMU with `server=on,wait=off` does: `node hypervisor.js HOST GUEST`
 * listens at both sockets and joins what connects.
 */
import { createServer, type Socket } from "node:net";

const [host = "", guest = ""] = process.argv.slice(2);
let take: (socket: Socket) => void = () => undefined;
const dialled = new Promise<Socket>((resolve) => {
  take = resolve;
});
createServer((socket) => take(socket)).listen(host, () => {
  createServer((socket) => void dialled.then((other) => socket.pipe(other).pipe(socket))).listen(guest, () =>
    process.send?.("listening"),
  );
});
