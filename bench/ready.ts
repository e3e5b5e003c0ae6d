/**
 * `npm run bench:ready`: from the moment in which a guest tells that it is ready to the moment in which its host knows: who waits for
 * the portable value at `pvbus host serve`, and who listens at the notify socket, over vsock where this kernel has a loopback.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { waitForValue } from "../providers/kvm/host/index.js";
import { PvbusError } from "../src/base/errors.js";
import { Call } from "../src/base/flow/call.js";
import { decodeReadyValue } from "../src/base/ready-value.js";
import { openPvbus } from "../src/index.js";
import { listenVsock, VMADDR_PORT_ANY } from "../src/native/posix/vsock.js";
import { tellReady } from "../src/tools/index.js";
import { sendNotification } from "../src/tools/ready/notify.js";
import { median, ms, row } from "./report.js";

const PROGRAM = join(resolve(dirname(fileURLToPath(import.meta.url)), "../.."), "dist/bin/pvbus.cjs");
const ROUNDS = 50;
const LIMIT_MS = 100;

async function portableValue(): Promise<number[]> {
  const folder = mkdtempSync(join(tmpdir(), "pvbus-bench-"));
  const [state, socket] = [join(folder, "state"), join(folder, "guest.sock")];
  const host = await served(["host", "serve", "--state", state, "--guest", `web=unix:${socket}`]);
  try {
    const times: number[] = [];
    await using bus = await openPvbus({
      detect: false,
      interfaces: [{ type: "KVM", channel: `unix:${socket}` }],
    });
    for (let round = 0; round < ROUNDS; round++) {
      const text = String(round);
      let armed = (): void => undefined;
      const isArmed = new Promise<void>((done) => {
        armed = done;
      });
      const waiting = waitForValue(state, {
        guest: "web",
        key: "org.pvbus/ready",
        isEnough: (value) => decodeReadyValue(Buffer.from(value).toString())?.text === text,
        onNews: armed,
      });
      await isArmed;
      const sent = performance.now();
      await Promise.all([
        tellReady(bus, { status: text }),
        waiting.then(() => times.push(performance.now() - sent)),
      ]);
    }
    return times;
  } finally {
    host.kill();
    await once(host, "close");
    rmSync(folder, { recursive: true });
  }
}

async function served(args: readonly string[]): Promise<ChildProcess> {
  const child = spawn(process.execPath, [PROGRAM, ...args], { stdio: ["ignore", "ignore", "pipe"] });
  await new Promise<void>((done, fail) => {
    child.stderr?.on("data", (text: Buffer) => text.includes('"serving"') && done());
    child.once("close", () => fail(new Error("the host ended")));
  });
  return child;
}

async function overVsock(type: "stream" | "seqpacket"): Promise<number[]> {
  const listener = listenVsock({ port: VMADDR_PORT_ANY, type });
  try {
    const times: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      let sent = 0;
      const heard = listener.accept(
        {
          bufferBytes: 4096,
          onData: () => void times.push(performance.now() - sent),
          onEnd: () => undefined,
        },
        new Call(),
      );
      // It may end before anybody has come.
      heard.catch(() => undefined);
      sent = performance.now();
      const call = new Call({ timeoutMs: 2_000 });
      await sendNotification({ kind: "vsock", type, cid: 1, port: listener.port }, "READY=1", call);
      await using _ = await heard;
      while (times.length <= round) await new Promise(setImmediate);
    }
    return times;
  } finally {
    listener.close();
  }
}

let isSlow = false;
async function show(name: string, measure: () => Promise<number[]>): Promise<void> {
  try {
    const times = await measure();
    const longest = Math.max(...times);
    isSlow ||= longest > LIMIT_MS;
    row(name, `${ms(median(times))} ms`, `${ms(longest)} ms`);
  } catch (error) {
    if (!PvbusError.is(error)) throw error;
    row(name, "not here", error.code.replace("ERR_", ""));
  }
}

row("from ready to its host", "median", "longest");
await show("host wait", portableValue);
await show("vsock, a stream", () => overVsock("stream"));
await show("vsock, packets", () => overVsock("seqpacket"));
console.log(isSlow ? `more than ${LIMIT_MS} ms` : `all within ${LIMIT_MS} ms`);
process.exitCode = isSlow ? 1 : 0;
