import type { Call } from "../../../src/base/flow/call.js";

/** One name and value of a static source; the value is undefined where only the name can be told. */
export interface StaticEntry {
  /** Name inside the source. */
  readonly name: string;
  /** The value's bytes. */
  readonly value: Uint8Array | undefined;
}

/** What the host fixed when it started the machine: it is read, and never changes. */
export interface StaticSource {
  /** First part of its qualified keys. */
  readonly name: "fwcfg" | "smbios";
  /** Resolves with a value, undefined when there is no such name. The array belongs to the caller. */
  read(name: string, call: Call): Promise<Uint8Array | undefined>;
  /** Yields names and values. @param prefix beginning of the names that are wanted */
  list(prefix: string, call: Call): AsyncIterable<StaticEntry>;
  /** Returns the name under which a plain key lies here. */
  nameOf(key: string): string;
  /** Returns the plain key that lies under a name; undefined for none. */
  keyOf(name: string): string | undefined;
}
