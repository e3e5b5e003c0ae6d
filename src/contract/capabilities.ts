/** The verbs that a store, or one region of it, has. */
export interface Verbs {
  /** Values can be read by key. */
  readonly read: boolean;
  /** Values can be written. */
  readonly write: boolean;
  /** Keys can be removed. */
  readonly delete: boolean;
  /** Keys can be enumerated. */
  readonly list: boolean;
  /** Changes can be followed. */
  readonly watch: boolean;
}

/** Sizes that the store accepts; a missing limit is not known. */
export interface Limits {
  /** Longest key in UTF-16 code units. */
  readonly maxKeyUnits?: number;
  /** Longest key in UTF-8 bytes. */
  readonly maxKeyBytes?: number;
  /** Longest value in UTF-16 code units. */
  readonly maxValueUnits?: number;
  /** Longest value in bytes. */
  readonly maxValueBytes?: number;
}

/** What an interface can do, as its provider declares it; it does not change while a store is open. */
export interface Capabilities extends Verbs {
  /**
   * True: values may be any bytes. `host`: that is the host's to decide, and a write of what it does not keep rejects with
   * `ERR_VALUE_INVALID`. Otherwise they are UTF-8 text without NUL.
   */
  readonly binary?: boolean | "host";
  /** Sizes of what can be written. */
  readonly limits?: Limits;
  /** The same per pool where the store is divided: `{ "Guest": {…}, "External": {…} }`. */
  readonly pools?: Readonly<Record<string, Verbs>>;
}

/** Capabilities of an interface without a store. */
export const NO_CAPABILITIES: Capabilities = Object.freeze({
  read: false,
  write: false,
  delete: false,
  list: false,
  watch: false,
});
