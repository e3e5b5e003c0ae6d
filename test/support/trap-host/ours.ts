import { openPvbus, PvbusError, type PvInterface } from "../../../src/index.js";

/** One thing to do with the machine's own interface. */
export interface OwnStep {
  readonly verb: "get" | "set";
  readonly key: string;
  readonly value?: string | undefined;
}

/** What came of it. */
export interface OwnOutcome {
  /** The value in base64; null where there is none. */
  readonly value?: string | null;
  readonly code?: string;
  readonly message?: string;
  readonly milliseconds: number;
}

/*
 * Our package as any program uses it, on the machine that it finds: `node ours.js '[{"verb":"get","key":"guestinfo.x"}]'`
 * prints the outcomes as JSON.
 */
const TIME = { timeoutMs: 60_000 };
const steps = JSON.parse(process.argv[2] ?? "[]") as readonly OwnStep[];
const options = JSON.parse(process.argv[3] ?? "{}") as Record<string, unknown>;
const bus = await openPvbus({ providerOptions: { vmware: options } });
const outcomes: OwnOutcome[] = [];
for (const step of steps) {
  const before = performance.now();
  const outcome = await act(bus.primary as PvInterface, step);
  outcomes.push({ ...outcome, milliseconds: performance.now() - before });
}
await bus.close();
console.log(JSON.stringify(outcomes));

async function act(
  target: PvInterface,
  { verb, key, value = "" }: OwnStep,
): Promise<Omit<OwnOutcome, "milliseconds">> {
  try {
    if (verb === "set") {
      await target.write(key, value, TIME);
      return {};
    }
    const found = await target.readBytes(key, TIME);
    return { value: found === undefined ? null : Buffer.from(found).toString("base64") };
  } catch (error) {
    if (!PvbusError.is(error)) throw error;
    return { code: error.code, message: error.message };
  }
}
