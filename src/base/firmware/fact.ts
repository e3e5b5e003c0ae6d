import { readHeld } from "../host/files.js";
import type { Host } from "../host/host.js";

/** The answer of a source: a value, known absence, or not to be read, which proves nothing. */
export type Fact<T> =
  | { readonly kind: "value"; readonly value: T }
  | { readonly kind: "absent" }
  | { readonly kind: "unreadable"; readonly why: string };

export const ABSENT: Fact<never> = Object.freeze({ kind: "absent" });

/** Most bytes that are read of any source; the longest text that a rule needs is far shorter. */
const MAX_BYTES = 1024 * 1024;

export function value<T>(of: T): Fact<T> {
  return { kind: "value", value: of };
}

export function unreadable(why: string): Fact<never> {
  return { kind: "unreadable", why };
}

export function known<T>(fact: Fact<T>): T | undefined {
  return fact.kind === "value" ? fact.value : undefined;
}

/** Returns the trimmed text of a fact, empty where there is none. */
export function textOf(fact: Fact<string>): string {
  return (known(fact) ?? "").trim();
}

/** Reads a file of the machine; what is there without being a file, such as a directory, is as an empty one. */
export function fileBytes(host: Host, absolute: string): Fact<Buffer> {
  try {
    using held = host.files.hold(absolute);
    return held === undefined ? ABSENT : value(readHeld(held, MAX_BYTES));
  } catch (error) {
    return unreadableFile(host, absolute, error);
  }
}

/** The same as text, without the newline at its end. */
export function fileText(host: Host, absolute: string): Fact<string> {
  const bytes = fileBytes(host, absolute);
  return bytes.kind === "value" ? value(bytes.value.toString("utf8").replace(/\n$/, "")) : bytes;
}

/** Makes the fact of a file that a system error kept from being read. */
export function unreadableFile(host: Host, absolute: string, error: unknown): Fact<never> {
  return unreadable(`${host.path(absolute)}: ${(error as NodeJS.ErrnoException).code ?? "unknown"}`);
}
