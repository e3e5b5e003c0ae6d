import { isUtf8 } from "node:buffer";
import { pvbusError } from "../../base/errors.js";
import { Call } from "../../base/flow/call.js";
import type { PortableHost } from "../../contract/portable-host.js";
import {
  checkName,
  checkNamespace,
  checksum,
  encodeHead,
  isMarked,
  MAX_PORTABLE_BYTES,
  type Slot,
  splitText,
} from "./layout.js";

/** What a script gives, by keys of the tool. */
interface Giving {
  readonly host: PortableHost;
  readonly title: string;
  readonly key: string;
  readonly chunks: readonly string[];
  /** The head record, for a slot; undefined for a value that is stored as it is. */
  readonly head: ((slot: string) => string) | undefined;
}

/** Returns the script of {@link splitForHost}. */
export async function hostScript(
  host: PortableHost,
  namespace: string,
  name: string,
  value: Uint8Array,
): Promise<string> {
  checkNamespace(namespace);
  checkName(name);
  if (!isUtf8(value) || value.includes(0))
    throw pvbusError("ERR_VALUE_INVALID", "a portable value is UTF-8 text without NUL; encode it (base64)");
  if (value.length > MAX_PORTABLE_BYTES)
    throw pvbusError(
      "ERR_VALUE_TOO_LONG",
      `the value has ${value.length} bytes, portable values have ${MAX_PORTABLE_BYTES} at most; give a link to it`,
    );
  const isPlain = value.length > 0 && value.length <= host.chunkBytes && !isMarked(value);
  const chunks = splitText(value, host.chunkBytes).map((chunk) => Buffer.from(chunk).toString());
  const call = new Call();
  const sum = isPlain ? "" : await checksum(value, () => call.turn("the checksum"));
  const giving: Giving = {
    host,
    title: `the value "${name}" of ${namespace}`,
    key: host.hostKey(namespace, name),
    chunks,
    head: isPlain
      ? undefined
      : (slot) => encodeHead({ slot: slot as Slot, count: chunks.length, bytes: value.length, sum }),
  };
  return host.language === "sh" ? shellScript(giving) : powershellScript(giving);
}

function shellScript({ host, title, key, chunks, head }: Giving): string {
  const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
  const writes =
    head === undefined
      ? [`write_pair ${quoted(key)} ${quoted(chunks[0] ?? "")}`]
      : [
          ...chunks.map((chunk, at) => `write_pair "${key}__\${slot}_${at + 1}" ${quoted(chunk)}`),
          "# This one write is the change.",
          `write_pair ${quoted(key)} "${head("$slot")}"`,
        ];
  return `#!/bin/sh
# Gives a guest ${title}. Usage: ${host.usage}
set -eu
${host.prologue.trim()}
# What the present head record names stays readable until the new one is there.
case $(read_pair ${quoted(key)}) in
'pvbus-set-1 a '*) slot=b old=a ;;
*) slot=a old=b ;;
esac
${writes.join("\n")}
# Chunks that are left are removed downwards, so that an interruption leaves a run from 1.
clear_pairs() {
  last=$2
  while has_pair "${key}__$1_$last"; do last=$((last + 1)); done
  while [ "$last" -gt "$2" ]; do
    last=$((last - 1))
    remove_pair "${key}__$1_$last"
  done
}
clear_pairs "$slot" ${head === undefined ? 1 : chunks.length + 1}
clear_pairs "$old" 1
`;
}

function powershellScript({ host, title, key, chunks, head }: Giving): string {
  const text = (value: string): string => `(Text '${Buffer.from(value).toString("base64")}')`;
  const writes =
    head === undefined
      ? [`Write-Pair '${key}' ${text(chunks[0] ?? "")}`]
      : [
          ...chunks.map((chunk, at) => `Write-Pair "${key}__\${slot}_${at + 1}" ${text(chunk)}`),
          "# This one write is the change.",
          `Write-Pair '${key}' "${head("$slot")}"`,
        ];
  return `# Gives a guest ${title}. Usage: ${host.usage}
${host.prologue.trim()}
function Text([string]$Base64) { [Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($Base64)) }
# What the present head record names stays readable until the new one is there.
$slot, $old = if ((Read-Pair '${key}') -like 'pvbus-set-1 a *') { 'b', 'a' } else { 'a', 'b' }
${writes.join("\n")}
# Chunks that are left are removed downwards, so that an interruption leaves a run from 1.
foreach ($run in @($slot, ${head === undefined ? 1 : chunks.length + 1}), @($old, 1)) {
  $each, $last = $run
  while ($null -ne (Read-Pair "${key}__\${each}_$last")) { $last++ }
  while ($last -gt $run[1]) { $last--; Remove-Pair "${key}__\${each}_$last" }
}
`;
}
