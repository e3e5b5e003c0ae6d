import type { HostPair, PortableHost } from "../../src/contract/portable-host.js";
import { GUESTINFO_CHUNK_BYTES } from "./portable.js";
import { KEY_PREFIX } from "./protocol/keys.js";

const PROLOGUE = `
vm=\${1:?path or name of a virtual machine}
read_pair() { govc vm.info -e "$vm" | sed -n "s/^ *$1: *//p"; }
has_pair() { [ -n "$(read_pair "$1")" ]; }
write_pair() { govc vm.change -vm "$vm" -e "$1=$2"; }
# An empty value removes the key.
remove_pair() { govc vm.change -vm "$vm" -e "$1="; }
`;

const keyOf = (namespace: string, name: string): string => `${KEY_PREFIX}${namespace}.${name}`;
/** A line of a .vmx file. */
const LINE = /^\s*(guestinfo\.[^\s=]+)\s*=\s*"(.*)"\s*$/i;
const ESCAPE = /\|([0-9a-f]{2})/gi;

/** govc on vCenter or ESXi, or the .vmx file of a machine. */
export const vmwarePortableHost: PortableHost = {
  language: "sh",
  usage: "sh FILE VM",
  listing: "govc vm.info -e -json VM",
  prologue: PROLOGUE,
  chunkBytes: GUESTINFO_CHUNK_BYTES,
  hostKey: keyOf,
  guestKey: (namespace, name) => keyOf(namespace, name).toLowerCase(),
  // Hosts do not tell cases apart, and a guest may have written the key in any.
  keyOf: (shown) => shown.toLowerCase(),
  pairs: function* (text): Generator<HostPair> {
    for (const line of text.split(/\r?\n/)) {
      const [, key, value] = LINE.exec(line) ?? [];
      if (key !== undefined && value !== undefined) yield { key, value: plain(value) };
    }
  },
};

/** A .vmx file has a bar and two hexadecimal digits for what would end a line or a value. */
function plain(written: string): string {
  return written.replace(ESCAPE, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 16)));
}
