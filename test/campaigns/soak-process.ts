import { openDescriptors } from "../support/descriptors.js";
import { SUBJECTS } from "./soak-subjects.js";

/** What a process holds. */
export interface Figures {
  readonly heapBytes: number;
  readonly rssBytes: number;
  readonly descriptors: number;
}

/** What a soak tells of itself. */
export interface SoakReport {
  readonly rounds: number;
  readonly verbs: readonly string[];
  readonly before: Figures;
  readonly after: Figures;
  /** Descriptors that are left when all is closed, beyond those of the beginning. */
  readonly left: number;
}

/** Part of the time after which caches and compiled code count as grown. */
const WARM_UP = 0.3;

async function figures(): Promise<Figures> {
  // What is freed by one turn of the event loop shows in the next.
  for (let time = 0; time < 3; time++) {
    globalThis.gc?.();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const { heapUsed, external, rss } = process.memoryUsage();
  return { heapBytes: heapUsed + external, rssBytes: rss, descriptors: openDescriptors() };
}

async function soak(name: string, seconds: number, count: number): Promise<SoakReport> {
  const subject = SUBJECTS[name];
  if (subject === undefined) throw new Error(`nothing is called ${name}`);
  // What Node opens on first use stays open.
  await (await subject()).close();
  await figures();
  const atFirst = openDescriptors();
  const { verbs, tidy, close } = await subject();
  const all = Object.values(verbs);
  let round = 0;
  const run = async (untilRound: number, untilMs: number): Promise<void> => {
    for (; round < untilRound && performance.now() < untilMs; round++) {
      for (const each of all) await each(round);
      tidy?.();
    }
  };
  const began = performance.now();
  await run(count * WARM_UP, began + seconds * 1000 * WARM_UP);
  const before = await figures();
  const warm = round;
  await run(warm + count, performance.now() + seconds * 1000 * (1 - WARM_UP));
  const after = await figures();
  const rounds = round - warm;
  await close();
  const left = (await figures()).descriptors - atFirst;
  return { rounds, verbs: Object.keys(verbs), before, after, left };
}

const [, , names = "", seconds, count] = process.argv;
for (const name of names.split(","))
  console.log(JSON.stringify(await soak(name, Number(seconds), Number(count))));
