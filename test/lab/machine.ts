import { spawn } from "node:child_process";
import { createWriteStream, mkdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { MARK } from "./guest/say.js";
import { CACHE } from "./tools.js";

/** One test inside a machine. */
export interface LabTest {
  /** What became of it. */
  readonly event: "pass" | "fail" | "pending";
  /** Its full title. */
  readonly title: string;
  /** Why it failed, or is pending. */
  readonly why?: string;
}

/** What a machine left. */
export interface MachineOutcome {
  readonly tests: readonly LabTest[];
  /** What went wrong with the machine itself; undefined when it ended as it should. */
  readonly failure: string | undefined;
  /** Facts that the machine told, such as its kernel. */
  readonly facts: Readonly<Record<string, string>>;
  readonly seconds: number;
  /** File with all that it printed. */
  readonly log: string;
}

/** A machine to run. */
export interface MachineOptions {
  /** Name for the log. */
  readonly name: string;
  /** Arguments behind the common ones. */
  readonly args: readonly string[];
  /** Longest time, in seconds; then it is killed. */
  readonly limitSeconds: number;
  /** Told what the machine says with {@link MARK} beside its tests. */
  readonly onSaid?: ((said: Readonly<Record<string, unknown>>) => void) | undefined;
}

/** Without acceleration, one processor, no devices but those named; port 0x501 ends it. */
const COMMON = [
  ..."-accel tcg,thread=multi -smp 1 -display none -serial stdio -nodefaults -no-reboot".split(" "),
  ..."-device isa-debug-exit,iobase=0x501,iosize=1".split(" "),
];
/** Exit code 0 inside comes out as 1: QEMU's device doubles it and adds one. */
const SUCCESS = 1;

/** Runs a machine to its end, or to its limit. Never rejects. */
export function runMachine({ name, args, limitSeconds, onSaid }: MachineOptions): Promise<MachineOutcome> {
  const log = join(CACHE, "logs", `${name}.log`);
  mkdirSync(join(CACHE, "logs"), { recursive: true });
  const file = createWriteStream(log);
  const began = performance.now();
  const tests: LabTest[] = [];
  const facts: Record<string, string> = {};
  let exitCode: number | undefined;
  let failure: string | undefined;
  return new Promise((resolve) => {
    const child = spawn("qemu-system-x86_64", [...COMMON, ...args], { stdio: ["ignore", "pipe", "pipe"] });
    const watchdog = setTimeout(() => {
      failure = `did not end within ${limitSeconds} s`;
      child.kill("SIGKILL");
    }, limitSeconds * 1000);
    child.stderr.on("data", (text: Buffer) => file.write(text));
    createInterface({ input: child.stdout }).on("line", (line) => {
      file.write(`${line}\n`);
      const said = saidBy(line);
      if (said === undefined) return;
      // A machine within a machine ends too: the first failure counts.
      if (said["event"] === "exit") exitCode ||= Number(said["code"]);
      else if (said["event"] === "fact") facts[String(said["name"])] = String(said["value"]);
      else if (["pass", "fail", "pending"].includes(String(said["event"])))
        tests.push(said as unknown as LabTest);
      else onSaid?.(said);
    });
    const end = (code: number | null, error?: Error): void => {
      clearTimeout(watchdog);
      if (error !== undefined) failure = error.message;
      else if (exitCode === undefined) failure ??= `ended (${code}) before its tests did`;
      else if (exitCode !== 0 || code !== SUCCESS) failure ??= `its commands ended with ${exitCode}`;
      else if (tests.length === 0) failure ??= "ran no test";
      const seconds = (performance.now() - began) / 1000;
      file.end(() => resolve({ tests, failure, facts, seconds, log }));
    };
    child.once("error", (error) => end(null, error));
    child.once("close", (code) => end(code));
  });
}

function saidBy(line: string): Record<string, unknown> | undefined {
  const at = line.indexOf(MARK);
  if (at < 0) return undefined;
  try {
    return JSON.parse(line.slice(at + MARK.length)) as Record<string, unknown>;
  } catch {
    // The kernel printed into the line; its test is then missed, and the counts say so.
    return undefined;
  }
}
