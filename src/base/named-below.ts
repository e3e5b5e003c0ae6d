/** A prefix of native keys, and what names stand behind it. */
export interface NamedBelow {
  /** The prefix. */
  readonly prefix: string;
  /** Returns what stands behind the prefix; undefined for a key that does not begin with it. */
  nameOf(key: string): string | undefined;
}

/** Returns how names are found below a prefix where keys hold them as they are. */
export function namedBelow(prefix: string): NamedBelow {
  return { prefix, nameOf: (key) => (key.startsWith(prefix) ? key.slice(prefix.length) : undefined) };
}
