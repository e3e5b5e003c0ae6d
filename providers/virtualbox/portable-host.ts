import type { HostPair, PortableHost } from "../../src/contract/portable-host.js";
import { portableKey } from "./portable.js";
import { MAX_VALUE_BYTES } from "./protocol/properties.js";

const PROLOGUE = `
vm=\${1:?name or UUID of a virtual machine}
read_pair() { VBoxManage guestproperty get "$vm" "$1" | sed -n "s/^Value: //p"; }
has_pair() { VBoxManage guestproperty get "$vm" "$1" | grep -q "^Value: "; }
write_pair() { VBoxManage guestproperty set "$vm" "$1" "$2"; }
remove_pair() { VBoxManage guestproperty unset "$vm" "$1"; }
`;

/** VirtualBox' own tool on the host. */
export const virtualboxPortableHost: PortableHost = {
  language: "sh",
  usage: "sh FILE VM",
  listing: "VBoxManage guestproperty enumerate VM",
  prologue: PROLOGUE,
  chunkBytes: MAX_VALUE_BYTES,
  hostKey: portableKey,
  guestKey: portableKey,
  pairs: function* (text): Generator<HostPair> {
    for (const line of text.split("\n")) {
      const pair = oldPair(line) ?? newPair(line);
      if (pair !== undefined) yield pair;
    }
  },
};

/** `Name: KEY, value: VALUE, timestamp: NUMBER, flags: FLAGS`, up to VirtualBox 6. */
function oldPair(line: string): HostPair | undefined {
  const front = "Name: ";
  const value = ", value: ";
  const [at, end] = [line.indexOf(value), line.lastIndexOf(", timestamp: ")];
  if (!line.startsWith(front) || at < 0 || end < at) return undefined;
  return { key: line.slice(front.length, at), value: line.slice(at + value.length, end) };
}

/** `KEY = 'VALUE' @ TIME FLAGS`, since. */
function newPair(line: string): HostPair | undefined {
  const sign = "= '";
  const [at, end] = [line.indexOf(sign), line.lastIndexOf("'")];
  if (at < 1 || end < at + sign.length) return undefined;
  return { key: line.slice(0, at).trimEnd(), value: line.slice(at + sign.length, end) };
}
