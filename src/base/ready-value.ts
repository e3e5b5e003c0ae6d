/** Name of the portable value, in namespace `org.pvbus`, by which a guest says that it is up or has failed. */
export const READY_NAME = "ready";

/** What the value says. */
export interface ReadyValue {
  /** True: it is up. False: it has failed. */
  readonly ready: boolean;
  /** When, as RFC 3339 has it. */
  readonly time: string;
  /** The boot that says so; undefined where that is not known. */
  readonly boot: string | undefined;
  /** A line for people. */
  readonly text: string | undefined;
}

const UNKNOWN = "-";
const FORM =
  /^1 (ready|failed) (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)) ([0-9A-Za-z-]{1,64})(?: (.*))?$/;

/** Returns the value: `1 ready|failed <time> <boot id> [text]`. */
export function encodeReadyValue({ ready, time, boot = UNKNOWN, text }: ReadyValue): string {
  return `1 ${ready ? "ready" : "failed"} ${time} ${boot}${text === undefined || text === "" ? "" : ` ${text}`}`;
}

/** Reads the value; undefined for anything else. */
export function decodeReadyValue(value: string): ReadyValue | undefined {
  const [, word, time, boot, text] = FORM.exec(value) ?? [];
  if (word === undefined || time === undefined || boot === undefined) return undefined;
  return { ready: word === "ready", time, boot: boot === UNKNOWN ? undefined : boot, text };
}
