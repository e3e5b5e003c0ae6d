/** Ways to be a KVP daemon's driver in the bench: a bare socket, where a compiler is, or the simulated device. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { closeSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { LINUX_KVP } from "../providers/hyperv/protocol/messages.js";
import { KvpDeviceSimulator } from "../providers/hyperv/testing/kvp-device/simulator.js";
import { loadKoffi } from "../src/native/ffi/koffi.js";
import { openLibc } from "../src/native/ffi/open-libc.js";

/** A daemon under measurement. */
export interface KvpLink {
  /** Sends the host's request and gives the reply; its bytes hold until the next request. */
  request(message: Buffer): Buffer | Promise<Buffer>;
  /** Resident memory in MiB. */
  rss(): number;
  /** Ends it. */
  close(): Promise<void>;
}

/** Starts a daemon on a pool directory; resolves when it is registered. */
export type StartKvpLink = (program: readonly string[], pools: string) => Promise<KvpLink>;

const AF_UNIX = 1;
const SOCK_SEQPACKET = 5;
const SOCK_CLOEXEC = 0o2000000;
const MSG_NOSIGNAL = 0x4000;
const LONGEST_MESSAGE = 8192;
/** Byte of the message at which the driver's version text is. */
const VERSION_AT = 4;
/** One processor for host and daemon: a request is then two changes of context, as quiet as here can be had. */
const ONE_PROCESSOR = ["taskset", "-c", "1"];

function residentMiB({ pid }: ChildProcess): number {
  const kib = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Number(kib) / 1024;
}

async function end(child: ChildProcess): Promise<void> {
  const ended = new Promise((resolve) => child.once("close", resolve));
  child.kill("SIGKILL");
  await ended;
}

/** Compiles what hands a socket to the daemon as its device. @returns undefined where no compiler is */
export function socketLinks(root: string, scratch: string): StartKvpLink | undefined {
  const library = join(scratch, "kvp-socket.so");
  const source = join(root, "bench/kvp-socket.c");
  const { status } = spawnSync("cc", ["-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"]);
  if (status !== 0) return undefined;
  const libc = openLibc(loadKoffi);
  const socketpair = libc.function("int socketpair(int, int, int, void *)");
  const send = libc.function("intptr_t send(int, const void *, size_t, int)");
  const recv = libc.function("intptr_t recv(int, void *, size_t, int)");
  const pinned = spawnSync("taskset", ["-cp", "1", String(process.pid)]).status === 0;
  return async (program, pools) => {
    const pair = Buffer.alloc(8);
    if (libc.call(socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair).rc !== 0)
      throw new Error("socketpair failed");
    const [host, guest] = [pair.readInt32LE(0), pair.readInt32LE(4)];
    const place = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /var/lib/hyperv && exec "$@"', pools];
    const [command = "", ...rest] = [...(pinned ? ONE_PROCESSOR : []), ...place, ...program];
    const child = spawn(command, rest, {
      env: { ...process.env, LD_PRELOAD: library },
      stdio: ["ignore", "ignore", "ignore", guest],
    });
    closeSync(guest);
    const reply = Buffer.alloc(LONGEST_MESSAGE);
    const exchange = (message: Buffer): Buffer => {
      if (libc.call(send, host, message, message.length, MSG_NOSIGNAL).rc < 0) throw new Error("it is gone");
      const { rc } = libc.call(recv, host, reply, reply.length, 0);
      if (rc <= 0) throw new Error("it is gone");
      return reply.subarray(0, rc);
    };
    if (libc.call(recv, host, reply, reply.length, 0).rc <= 0) throw new Error("it did not register");
    const version = Buffer.alloc(LINUX_KVP.messageBytes);
    version[0] = reply[0] as number;
    version.write("3.1", VERSION_AT);
    libc.call(send, host, version, version.length, MSG_NOSIGNAL);
    return {
      request: exchange,
      rss: () => residentMiB(child),
      close: async () => {
        closeSync(host);
        await end(child);
      },
    };
  };
}

/** The simulated device: exact, but each request passes a file system in user space twice. */
export const fuseLinks: StartKvpLink = async ([program = "", ...args], directory) => {
  const simulator = await KvpDeviceSimulator.start({ directory });
  const child = simulator.run(program, args);
  await simulator.waitForRegistration();
  return {
    request: (message) => simulator.request(message),
    rss: () => residentMiB(child),
    close: () => simulator.close(),
  };
};

/** Makes the directory on which the daemons' pools are mounted. */
export function preparePoolPlace(): void {
  if (!existsSync("/var/lib/hyperv")) mkdirSync("/var/lib/hyperv", { mode: 0o755 });
}
