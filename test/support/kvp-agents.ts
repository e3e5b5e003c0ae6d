import type { ChildProcess } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { KvpDeviceSimulator } from "../../providers/hyperv/testing/kvp-device/simulator.js";
import { PROGRAM } from "./command-line.js";
import { pending } from "./pending.js";

/** Who serves the simulated device. */
export type Who = "vendor" | "ours";

/** Where Debian's hyperv-daemons puts the vendor's daemon. */
const VENDOR = "/usr/sbin/hv_kvp_daemon";

/** Tells why a daemon cannot be run on the simulated device here; undefined when it can. */
export function whyNoAgent(who: Who): string | undefined {
  const why = KvpDeviceSimulator.whyNot();
  if (why !== undefined) return why;
  return who === "vendor" && !existsSync(VENDOR)
    ? `${VENDOR} is missing; apt-get install hyperv-daemons`
    : undefined;
}

/** A running daemon. */
export interface Agent {
  readonly child: ChildProcess;
  /** What it said on standard error. */
  readonly said: () => string;
  /** Resolves when it has ended. */
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
}

/**
 * Starts a daemon on the simulated device; resolves when it is registered.
 * @param prelude shell commands that set up a network and mounts of its own before it starts
 */
export async function startAgent(
  simulator: KvpDeviceSimulator,
  who: Who,
  args: readonly string[] = [],
  prelude?: string,
): Promise<Agent> {
  const before = await simulator.registrations();
  const program = who === "vendor" ? [VENDOR, "-n"] : [process.execPath, PROGRAM, "kvpd", "-n", ...args];
  const inside = ["unshare", "--net", "--mount", "sh", "-c", `${prelude} && exec "$@"`, "sh"];
  const [command = "", ...rest] = prelude === undefined ? program : [...inside, ...program];
  const child = simulator.run(command, rest);
  let said = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    said += text;
  });
  const ended = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) =>
    child.once("close", (code, signal) => resolve({ code, signal })),
  );
  const registered = simulator.waitForRegistration(before, { timeoutMs: 20_000 });
  const over = ended.then(({ code, signal }) => {
    throw new Error(`${who} ended (${code ?? signal}) before it registered: ${said}`);
  });
  over.catch(() => undefined);
  registered.catch(() => undefined);
  await Promise.race([registered, over]);
  return { child, said: () => said, ended };
}

/** Returns the MAC address of an interface of this machine that has an address, upper case; undefined when there is none. */
export function someMac(): string | undefined {
  return readdirSync("/sys/class/net")
    .filter((name) => name !== "lo")
    .map((name) => readFileSync(`/sys/class/net/${name}/address`, "utf8").trim().toUpperCase())
    .find((mac) => mac !== "" && mac !== "00:00:00:00:00:00");
}

/** Gives each test of a suite a simulated device of its own; without one here the suite is pending. */
export function withSimulatedDevice(): () => KvpDeviceSimulator {
  let simulator: KvpDeviceSimulator;
  before(function () {
    const why = whyNoAgent("ours");
    if (why === undefined) return;
    return pending(this, why);
  });
  beforeEach(async () => {
    simulator = await KvpDeviceSimulator.start();
  });
  afterEach(() => simulator.close());
  return () => simulator;
}
