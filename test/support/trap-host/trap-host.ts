import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ROOT } from "../pools.js";
import { start } from "../processes.js";
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
  const [specPath, reportPath] = [join(folder, "spec.json"), join(folder, "report.json")];
  try {
    const variables = Object.fromEntries(
      Object.entries(spec.variables ?? {}).map(([key, value]) => [
        key,
        Buffer.from(value as string).toString("base64"),
      ]),
    );
    const whole: TrapSpec = { env: process.env, ...spec, variables, command };
    writeFileSync(specPath, JSON.stringify(whole));
    const main = join(ROOT, "dist/test/support/trap-host/main.js");
    const { child, done } = start(process.execPath, [main, specPath, reportPath]);
    const timer = setTimeout(() => child.kill("SIGKILL"), PATIENCE_MS);
    const { code, signal, stdout, stderr } = await done;
    clearTimeout(timer);
    if (code !== 0) throw new Error(`the trap host ended by ${signal ?? code}: ${stderr}`);
    return { report: JSON.parse(readFileSync(reportPath, "utf8")) as TrapReport, stdout, stderr };
  } finally {
    rmSync(folder, { recursive: true, force: true });
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
    ptrace.start(["/bin/true"], {});
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
