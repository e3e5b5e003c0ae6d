import { type ChildProcess, spawn } from "node:child_process";
import type { Call } from "../../base/flow/call.js";
import { koffiPath } from "../ffi/koffi.js";

export interface HelperRequest {
  /** Operation of flock(2), taken first; undefined: the record lock alone. */
  readonly flock: number | undefined;
  /** The command that waits for a record lock, `F_OFD_SETLKW`. */
  readonly command: number;
  readonly block: Uint8Array;
  readonly call: Call;
  /** Program to run it with; default: this process's own Node. */
  readonly program?: string | undefined;
}

/** Where the helper finds the descriptor: the first behind its standard streams. */
const HELPER_FD = 3;

/*
 * The helper's whole program, as text: it is the same in the modules and in the bundled command line. A process that is killed
 * cannot take its helper along, and the flock(2) of one that lives on would keep everybody out: so the kernel ends it with its
 * parent (PR_SET_PDEATHSIG, include/uapi/linux/prctl.h).
 */
const PROGRAM = `
const [path, parent, fd, flock, command, block] = process.argv.slice(1);
const koffi = require(path);
const libc = koffi.load(null);
const prctl = libc.func("int prctl(int, ...)");
if (prctl(1, "unsigned long", 9) !== 0 || process.ppid !== Number(parent)) process.exit(1);
const wait = (ask) => {
  while (ask() !== 0) if (koffi.errno() !== koffi.os.errno.EINTR) process.exit(1);
};
const lock = libc.func("int flock(int, int)");
const fcntl = libc.func("int fcntl(int, int, ...)");
if (flock !== "") wait(() => lock(Number(fd), Number(flock)));
wait(() => fcntl(Number(fd), Number(command), "void *", Buffer.from(block, "hex")));
process.exit(0);
`;

const running = new Set<ChildProcess>();

function killAll(): void {
  for (const child of running) child.kill("SIGKILL");
}

/**
 * Has another process wait in the kernel for the locks of an open file. They belong to the open file, which the helper shares, so
 * they stay when it has ended. Until this resolves nobody may ask for locks of the same open file, and afterwards the caller
 * gives back what the helper may have got, unless it is the whole.
 * @returns whether it got them all; false when the call is over, and when there is no helper to be had. Never rejects.
 */
export function waitInHelper(fd: number, request: HelperRequest): Promise<boolean> {
  const { flock, command, block, call } = request;
  return new Promise((resolve) => {
    let child: ChildProcess;
    try {
      const hex = Buffer.from(block).toString("hex");
      const args = [koffiPath(), process.pid, HELPER_FD, flock ?? "", command, hex];
      child = spawn(request.program ?? process.execPath, ["-e", PROGRAM, ...args.map(String)], {
        cwd: "/",
        env: {},
        stdio: ["ignore", "ignore", "ignore", fd],
      });
    } catch {
      // Node's permission model forbids processes, or memory is short: the caller waits in its own way.
      return resolve(false);
    }
    const kill = (): void => {
      child.kill("SIGKILL");
    };
    if (running.size === 0) process.on("exit", killAll);
    running.add(child);
    const forget = call.onceOver(kill);
    const settle = (got: boolean): void => {
      forget();
      if (running.delete(child) && running.size === 0) process.off("exit", killAll);
      resolve(got);
    };
    child.once("error", () => settle(false));
    child.once("exit", (code) => settle(code === 0));
  });
}
