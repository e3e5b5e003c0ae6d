/** What a sync keeps: its keys, the prefix or namespace cut, and their values. */
export type SyncContent = ReadonlyMap<string, Uint8Array>;

/** Where a sync keeps what it has read. */
export interface SyncTarget extends Disposable {
  /**
   * Replaces what is there by this content; readers see each file as it was or as it is now, whole.
   * @throws PvbusError `ERR_NO_SPACE`, `ERR_PERMISSION`, `ERR_CONFLICT`, `ERR_VALUE_INVALID`, `ERR_KEY_TOO_LONG`: no file is
   * half written
   */
  write(content: SyncContent): Promise<void>;
}

/** Reports whether two contents are the same. */
export function sameContent(before: SyncContent, after: SyncContent): boolean {
  return before.size === after.size && changedNames(before, after).length === 0;
}

/** Returns the names of what is new or has another value. */
export function changedNames(before: SyncContent, after: SyncContent): string[] {
  return [...after].filter(([name, value]) => !sameBytes(before.get(name), value)).map(([name]) => name);
}

function sameBytes(before: Uint8Array | undefined, after: Uint8Array): boolean {
  return before !== undefined && Buffer.compare(before, after) === 0;
}
