/** One thing that a provider checked: does it work, and if not, why and what fixes it. */
export interface Diagnosis {
  /** What was checked: `pool Guest can be written`. */
  readonly what: string;
  /** Whether it works. */
  readonly works: boolean;
  /** Why not, or what was seen. */
  readonly why?: string | undefined;
  /** The exact command that fixes it, or what to do otherwise, in lines. */
  readonly fix?: string | undefined;
}
