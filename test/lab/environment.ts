import type { GuestKernel } from "./kernel.js";
import type { MachineOutcome } from "./machine.js";

/** What the environments share. */
export interface Lab {
  /** The guests' kernel. */
  readonly kernel: GuestKernel;
  /** The installed package, see app.ts. */
  readonly app: string;
}

/** One kind of machine. */
export interface Environment {
  /** Short name, for the command line. */
  readonly name: string;
  /** What it is. */
  readonly title: string;
  /** What in it is the real thing. */
  readonly real: string;
  /** Whether `.ci/run` runs it. */
  readonly inCi: boolean;
  /** Runs it. @throws Error when it cannot be set up here */
  run(lab: Lab): Promise<MachineOutcome>;
}
