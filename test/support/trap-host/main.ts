import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { VmxBackdoor, type VmxFault, VmxHost, type VmxStep } from "../../../providers/testing.js";
import { Tracer } from "./tracer.js";

/** What a run is to be: written by the test, read by the tracer's own process. */
export interface TrapSpec {
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Variables of the host, in base64. */
  readonly variables: Readonly<Record<string, string>>;
  readonly namespaces?: Readonly<Record<string, Readonly<Record<string, string>>>> | undefined;
  readonly privilegedCommands?: readonly string[] | undefined;
  readonly setInfoDisabled?: boolean | undefined;
  readonly signature?: string | undefined;
  readonly backdoor?: boolean | undefined;
  readonly highBandwidth?: boolean | undefined;
  readonly cookies?: boolean | undefined;
  readonly messages?: boolean | undefined;
  readonly faults?:
    | readonly { readonly step: VmxStep; readonly count: number; readonly fault: VmxFault }[]
    | undefined;
  readonly vsockPath?: string | undefined;
  readonly refusePrivilegedPorts?: boolean | undefined;
  readonly vmcall?: boolean | undefined;
  readonly clearsUpperHalves?: boolean | undefined;
}

/** What a run showed. */
export interface TrapReport {
  readonly code: number | undefined;
  readonly signal: number | undefined;
  readonly cpuids: number;
  readonly connections: readonly { readonly cid: number; readonly port: number; readonly from: number }[];
  /** Traps by step; `GETVERSION` for what is no message. */
  readonly steps: Readonly<Record<string, number>>;
  readonly traps: number;
  /** Bytes of payload that traps moved. */
  readonly bytes: number;
  /** The first traps, as `STEP EBX`. */
  readonly trace: readonly string[];
  readonly commands: readonly string[];
  /** Variables afterwards, in base64. */
  readonly variables: Readonly<Record<string, string>>;
  readonly milliseconds: number;
}

/** Runs the program of a job: a folder with its `spec.json`, which then holds `report.json` and what the program printed. */
function run(folder: string): void {
  const spec = JSON.parse(readFileSync(join(folder, "spec.json"), "utf8")) as TrapSpec;
  const host = new VmxHost({
    privilegedCommands: spec.privilegedCommands,
    setInfoDisabled: spec.setInfoDisabled,
  });
  for (const [key, value] of Object.entries(spec.variables)) host.set(key, Buffer.from(value, "base64"));
  const machine = new VmxBackdoor(host, {
    highBandwidth: spec.highBandwidth,
    cookies: spec.cookies,
    messages: spec.messages,
    fault: (step, count) => spec.faults?.find((each) => each.step === step && each.count === count)?.fault,
  });
  const tracer = new Tracer({
    backdoor: spec.backdoor === false ? undefined : machine,
    signature: spec.signature ?? "VMwareVMware",
    vsockPath: spec.vsockPath,
    vmcall: spec.vmcall ?? false,
    refusePrivilegedPorts: spec.refusePrivilegedPorts ?? false,
    clearsUpperHalves: spec.clearsUpperHalves ?? false,
  });
  const before = performance.now();
  const record = tracer.run(spec.command, spec.env, [join(folder, "stdout"), join(folder, "stderr")]);
  const milliseconds = performance.now() - before;
  const steps: Record<string, number> = {};
  let bytes = 0;
  for (const trap of machine.traps) {
    const name = trap.step ?? "GETVERSION";
    steps[name] = (steps[name] ?? 0) + 1;
    bytes += trap.bytes;
  }
  const keys = [
    ...Object.keys(spec.variables),
    ...host.commands.map((each) => /^info-set (\S+)/.exec(each)?.[1] ?? ""),
  ];
  const report: TrapReport = {
    ...record,
    steps,
    bytes,
    traps: machine.traps.length,
    trace: machine.traps
      .slice(0, 40)
      .map(({ step, in: { ebx } }) => `${step ?? "GETVERSION"} ${ebx.toString(16)}`),
    commands: host.commands,
    variables: Object.fromEntries(
      keys.flatMap((key) => {
        const value = host.get(key);
        return value === undefined ? [] : [[key, Buffer.from(value).toString("base64")]];
      }),
    ),
    milliseconds,
  };
  writeFileSync(join(folder, "report.json"), JSON.stringify(report));
}

// A job is a line with its folder, and its end an empty one. The tracer blocks while a program runs, so that jobs wait.
for await (const folder of createInterface({ input: process.stdin })) {
  run(folder);
  process.stdout.write("\n");
}
