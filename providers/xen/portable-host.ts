import type { HostPair, PortableHost } from "../../src/contract/portable-host.js";
import { PORTABLE_VALUE_BYTES, portableLayout } from "./portable.js";
import { keySyntax } from "./protocol/keys.js";

const layout = portableLayout(keySyntax(false));

const PROLOGUE = `
: "\${1:?name or id of a domain}"
case $1 in *[!0-9]*) domid=$(xl domid "$1") ;; *) domid=$1 ;; esac
home=/local/domain/$domid
has_pair() { xenstore-exists "$home/$1"; }
read_pair() { xenstore-read -R "$home/$1" 2>/dev/null || :; }
write_pair() { xenstore-write -R -- "$home/$1" "$2"; }
remove_pair() { xenstore-rm "$home/$1"; }
`;

const HOME = /^\/local\/domain\/\d+\//;
/** Without -p: with it the permissions stand behind the value. */
const LINE = /^(\/\S+) = "(.*)"(?: {3}\([nrwb\d,]+\))?$/;
const ESCAPE = /\\(x[0-9a-f]{2}|[0-7]{1,3}|.)/gs;
const NAMED: ReadonlyMap<string, number> = new Map([
  ["t", 0x09],
  ["n", 0x0a],
  ["r", 0x0d],
  ["\\", 0x5c],
]);

/** Xen's own tools in the controlling domain, on every toolstack. */
export const xenPortableHost: PortableHost = {
  language: "sh",
  usage: "sh FILE DOMAIN",
  listing: "xenstore-ls -f /local/domain/ID/data",
  prologue: PROLOGUE,
  chunkBytes: PORTABLE_VALUE_BYTES,
  hostKey: (namespace, name) => layout.hostKeys(namespace, name)[0] ?? "",
  guestKey: (namespace, name) => layout.guestKey(namespace, name) ?? "",
  keyOf: (shown) => shown.replace(HOME, ""),
  pairs: function* (text): Generator<HostPair> {
    for (const line of text.split("\n")) {
      const [, key, value] = LINE.exec(line) ?? [];
      if (key !== undefined && value !== undefined) yield { key, value: plain(value) };
    }
  },
};

/** Takes back what xenstore-ls escapes, byte by byte: all that is no printable ASCII. */
function plain(shown: string): string {
  const latin1 = shown.replace(ESCAPE, (_, what: string) => {
    const octal = /^[0-7]/.test(what) ? Number.parseInt(what, 8) : undefined;
    const hexadecimal = what.length === 3 && what[0] === "x" ? Number.parseInt(what.slice(1), 16) : undefined;
    return String.fromCharCode(octal ?? hexadecimal ?? NAMED.get(what) ?? what.charCodeAt(0));
  });
  return Buffer.from(latin1, "latin1").toString("utf8");
}
