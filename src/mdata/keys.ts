/** No host takes longer keys; what is longer is a mistake. */
export const MAX_KEY_BYTES = 4096;

/** Reports whether a name can be a key of the channel; hosts list others that nobody can ask for. */
export function isChannelKey(name: string): boolean {
  return name !== "" && keyFault(name) === undefined && Buffer.byteLength(name) <= MAX_KEY_BYTES;
}

/**
 * Returns what keeps the channel from carrying a name, in words behind "the key"; undefined for nothing. Listings are lines, and
 * existing hosts take blanks off the ends of what they are asked for.
 */
export function keyFault(name: string): string | undefined {
  if (/\p{Cc}/u.test(name)) return "holds a control character, which the metadata channel cannot carry";
  if (name.trim() !== name) return "begins or ends with a blank, which hosts leave out";
  return undefined;
}
