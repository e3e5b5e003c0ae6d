/** What the workers of the workers campaign are told, and what its process tells. */

/** How a worker ends. */
export const ENDS = ["return", "exit", "throw", "terminate"] as const;
/** What it does. */
export const JOBS = ["poll", "lock", "readSerial", "readPool"] as const;

export type End = (typeof ENDS)[number];
export type Job = (typeof JOBS)[number];

/** What one worker is told. */
export interface Assignment {
  readonly job: Job;
  readonly end: End;
  /** When it ends by itself, if its job is not done before. */
  readonly endAfterMs: number;
  readonly paths: Readonly<Record<"terminal" | "serial" | "held" | "contested" | "sysroot", string>>;
}

/** What the process holds. */
export interface Held {
  readonly descriptors: number;
  /** Files of modules that are open, in addition. */
  readonly modules: number;
  /** Without V8's heap. */
  readonly mappings: number;
  readonly rssKiB: number;
}

/** What the process tells at the end. */
export interface WorkersReport {
  /** Workers that ran, by job and end. */
  readonly workers: Readonly<Record<string, number>>;
  /** Of them, how many had done their job. */
  readonly done: number;
  /** Errors of workers that nobody told them to have. */
  readonly errors: readonly string[];
  /** Descriptors of the main thread that somebody else closed. */
  readonly stolen: number;
  /** Child processes that are left, zombies included. */
  readonly children: number;
  /** Warm, and at the end. */
  readonly before: Held;
  readonly after: Held;
  /** Workers between the two. */
  readonly between: number;
}
