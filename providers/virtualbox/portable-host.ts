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

/** A line of \`enumerate\`: up to VirtualBox 6, and since. */
const LINES = [
  /^Name: (.+?), value: (.*), timestamp: \d+, flags: ?.*$/,
  /^(\S+)\s+= '(.*)'(?:\s+@ \S+)?(?: .*)?$/,
] as const;

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
    for (const line of text.split(/\r?\n/)) {
      const [, key, value] = LINES.map((form) => form.exec(line)).find((found) => found !== null) ?? [];
      if (key !== undefined && value !== undefined) yield { key, value };
    }
  },
};
