/** One native pair as an administrator's tool shows it. */
export interface HostPair {
  /** Key as {@link PortableHost.guestKey} has it. */
  readonly key: string;
  /** Value as text. */
  readonly value: string;
}

/**
 * How an administrator reaches portable keys with the hypervisor's own tool, which knows nothing of them: what
 * `pvbus portable split` writes scripts with, and `pvbus portable join` reads the tool's output by.
 */
export interface PortableHost {
  /** Language of the scripts. */
  readonly language: "sh" | "powershell";
  /**
   * Front of a script: takes its arguments, and defines `has_pair KEY`, `read_pair KEY`, `write_pair KEY VALUE` and
   * `remove_pair KEY`; in PowerShell `Read-Pair` (nothing for no such key), `Write-Pair` and `Remove-Pair`.
   */
  readonly prologue: string;
  /** How such a script is called, for its comment: `sh FILE DOMAIN`. */
  readonly usage: string;
  /** The command whose output `join` reads. */
  readonly listing: string;
  /** Longest value in UTF-8 bytes that the tool surely puts under one key. */
  readonly chunkBytes: number;
  /** Key, for the tool, under which the host gives a value; that of a chunk has `__<slot>_<number>` behind it. */
  hostKey(namespace: string, name: string): string;
  /** Key, as {@link PortableHost.pairs} gives it, of what the guest published; chunks as above. */
  guestKey(namespace: string, name: string): string;
  /** Takes apart what the tool has printed, where that is no JSON. */
  pairs(text: string): Iterable<HostPair>;
  /** Returns the key that the tool shows in the form of {@link PortableHost.guestKey}. Default: as it is. */
  keyOf?(shown: string): string;
}
