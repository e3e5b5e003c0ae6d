import type { HostPair, PortableHost } from "../../src/contract/portable-host.js";
import { CHUNK_BYTES } from "./portable.js";

const PROLOGUE = `
guest=\${1:?name of a guest} state=\${2:?directory of the state}
has_pair() { read_pair "$1" >/dev/null; }
read_pair() { pvbus host get --state "$state" --guest "$guest" -- "$1" 2>/dev/null; }
write_pair() { printf %s "$2" | pvbus host set --state "$state" --guest "$guest" -- "$1" -; }
remove_pair() { pvbus host rm --state "$state" --guest "$guest" -- "$1"; }
`;

const keyOf = (namespace: string, name: string): string => `${namespace}/${name}`;

/** `pvbus host`, on the state of the metadata channel's host side, served or not. */
export const kvmPortableHost: PortableHost = {
  language: "sh",
  usage: "sh FILE GUEST STATE",
  listing: "pvbus host ls --json --state STATE --guest GUEST",
  prologue: PROLOGUE,
  chunkBytes: CHUNK_BYTES,
  hostKey: keyOf,
  guestKey: keyOf,
  pairs: function* (text): Generator<HostPair> {
    // Lines show control characters as escapes; who needs those prints JSON.
    for (const line of text.split("\n")) {
      const at = line.indexOf("=");
      if (at > 0) yield { key: line.slice(0, at), value: line.slice(at + 1) };
    }
  },
};
