import { pvbusError } from "../base/errors.js";
import type { Host } from "../base/host/host.js";
import type { DetectionReport } from "../contract/report.js";
import { type DecideOptions, decide } from "./decide.js";
import type { Facts } from "./facts.js";
import { liveFacts } from "./live-facts.js";
import { snapshotFacts } from "./snapshot.js";

/** File below a sysroot that records the whole machine. */
const SNAPSHOT_FILE = "/snapshot.json";

/**
 * Finds the hypervisor interfaces of a host. On the live machine CPUID is executed in this process; below a sysroot
 * never: there `snapshot.json` decides where it is present, else the files alone.
 * @throws PvbusError `ERR_CORRUPT` for a malformed snapshot
 */
export async function detect(host: Host, options: DecideOptions = {}): Promise<DetectionReport> {
  return decide(await factsOf(host), options);
}

/** Kept, since to import again what is loaded takes as long as reading a file. */
let cpu: typeof import("../native/cpu/cpuid.js") | undefined;

/** Returns the facts that {@link detect} decides from. @throws PvbusError `ERR_CORRUPT` for a malformed snapshot */
export async function factsOf(host: Host): Promise<Facts> {
  if (host.sysroot === undefined) {
    cpu ??= await import("../native/cpu/cpuid.js");
    const { openCpuid } = cpu;
    if (host.platform === "linux") return liveFacts(host, openCpuid());
    const { foreignSources } = await import("../native/foreign-sources.js");
    return liveFacts(host, openCpuid(), foreignSources(host.platform));
  }
  const files = liveFacts(host, { unreadable: "a captured tree has no processor" });
  return recorded(files) ?? files;
}

/** Decides from a recorded machine alone. @throws PvbusError `ERR_CORRUPT` for a malformed document */
export function detectSnapshot(document: unknown, options: DecideOptions = {}): DetectionReport {
  return decide(snapshotFacts(document), options);
}

function recorded(files: Facts): Facts | undefined {
  const text = files.file(SNAPSHOT_FILE);
  if (text.kind === "absent") return undefined;
  try {
    return snapshotFacts(JSON.parse(text.kind === "value" ? text.value : ""));
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw pvbusError(
      "ERR_CORRUPT",
      "snapshot.json in the sysroot is no JSON; make one with `pvbus snapshot`",
      { cause },
    );
  }
}
