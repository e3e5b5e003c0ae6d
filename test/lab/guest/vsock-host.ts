/** `pvbus host serve` behind a vsock port of this machine, as a hypervisor puts it there; prints the port. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createConnection } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Call } from "../../../src/base/flow/call.js";
import { listenVsock, VMADDR_PORT_ANY } from "../../../src/native/posix/vsock.js";

const [state = ""] = process.argv.slice(2);
const socket = join(state, "lab.sock");
const program = join(import.meta.dirname, "../../../bin/pvbus.cjs");
const server = spawn(
  process.execPath,
  [program, "host", "serve", "--state", join(state, "keys"), "--guest", `lab=unix:${socket}`],
  { stdio: "ignore" },
);
process.once("SIGTERM", () => {
  server.kill();
  process.exit();
});
while (!existsSync(socket)) await sleep(50);
const listener = listenVsock({ port: VMADDR_PORT_ANY });
console.log(listener.port);
for (;;) {
  const inside = createConnection(socket);
  const stream = await listener.accept(
    {
      bufferBytes: 64 * 1024,
      onData: (data) => void inside.write(data),
      onEnd: () => inside.end(),
    },
    new Call({ timeoutMs: Number.POSITIVE_INFINITY }),
  );
  inside.on("data", (data: Buffer) => void stream.write(data));
  inside.on("close", () => void stream.close());
}
