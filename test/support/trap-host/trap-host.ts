import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ROOT } from "../pools.js";
import type { TrapReport, TrapSpec } from "./main.js";

const PATIENCE_MS = 60_000;

/** What a program did under the trap host. */
export interface TrapRun {
  readonly report: TrapReport;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program under the trap host: as it is, on a machine that looks like VMware's. */
export async function underVmware(
  command: readonly string[],
  spec: Partial<Omit<TrapSpec, "command" | "variables">> & {
    readonly variables?: Readonly<Record<string, string | Uint8Array>>;
  } = {},
): Promise<TrapRun> {
  const folder = mkdtempSync(join(tmpdir(), "pvbus-trap-"));
  const read = (name: string): string => readFileSync(join(folder, name), "utf8");
  try {
    const variables = Object.fromEntries(
      Object.entries(spec.variables ?? {}).map(([key, value]) => [
        key,
        Buffer.from(value as string).toString("base64"),
      ]),
    );
    const whole: TrapSpec = { env: process.env, ...spec, variables, command };
    writeFileSync(join(folder, "spec.json"), JSON.stringify(whole));
    await traced(folder);
    return {
      report: JSON.parse(read("report.json")) as TrapReport,
      stdout: read("stdout"),
      stderr: read("stderr"),
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

let tail: Promise<void> = Promise.resolve();
let tracer: TracerProcess | undefined;

/** Has the tracer do a job: one process for all of them, since its start takes longer than most. */
function traced(folder: string): Promise<void> {
  const turn = tail.then(async () => {
    tracer ??= new TracerProcess();
    try {
      await tracer.run(folder);
    } catch (error) {
      tracer = undefined;
      throw error;
    }
  });
  tail = turn.catch(() => undefined);
  return turn;
}

class TracerProcess {
  readonly #child = spawn(process.execPath, [join(ROOT, "dist/test/support/trap-host/main.js")]);
  readonly #ended = once(this.#child, "close");
  #stderr = "";

  constructor() {
    this.#child.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr += text;
    });
    this.#hold("unref");
  }

  /** Runs the program of a folder to its end. */
  async run(folder: string): Promise<void> {
    this.#hold("ref");
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), PATIENCE_MS);
    const done = once(this.#child.stdout, "data");
    this.#child.stdin.write(`${folder}\n`);
    const end = await Promise.race([done.then(() => undefined), this.#ended]);
    clearTimeout(timer);
    if (end !== undefined) throw new Error(`the trap host ended by ${end[1] ?? end[0]}: ${this.#stderr}`);
    this.#hold("unref");
  }

  /** Between two programs it keeps nobody alive, and ends with its input. */
  #hold(how: "ref" | "unref"): void {
    this.#child[how]();
    for (const stream of this.#child.stdio) (stream as Socket | null)?.[how]();
  }
}

let impossible: { readonly why: string } | "possible" | undefined;

/** Tells why no trap host can run here; undefined when it can. */
export function whyNoTrapHost(): string | undefined {
  impossible ??= look();
  return impossible === "possible" ? undefined : impossible.why;
}

function look(): { readonly why: string } | "possible" {
  if (process.platform !== "linux" || process.arch !== "x64")
    return { why: "the trap host is for x86-64 Linux" };
  if (spawnSync("objdump", ["--version"]).status !== 0)
    return { why: "no objdump (apt-get install binutils)" };
  const script = `
    const { Ptrace } = await import(${JSON.stringify(`${ROOT}/dist/test/support/trap-host/ptrace.js`)});
    const ptrace = new Ptrace();
    ptrace.start(["/bin/true"], {}, ["/dev/null", "/dev/null"]);
    for (let stop = ptrace.wait(); stop; stop = ptrace.wait())
      if (stop.kind !== "exited" && stop.kind !== "killed") ptrace.resume(stop.tid);`;
  const { status, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", script], {
    encoding: "utf8",
    timeout: 10_000,
  });
  return status === 0
    ? "possible"
    : { why: `ptrace is not allowed here: ${stderr.trim().split("\n").at(-1)}` };
}
