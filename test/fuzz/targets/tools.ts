import { decodeReport, encodeReport } from "../../../providers/hyperv/protocol/provisioning-report.js";
import { decodeReadyValue, encodeReadyValue } from "../../../src/base/ready-value.js";
import { commandLineCredentials } from "../../../src/tools/creds/command-line.js";
import { isCredentialName } from "../../../src/tools/creds/names.js";
import { notifyMessage, parseNotifyAddress } from "../../../src/tools/ready/notify-address.js";
import {
  decodeAnnounced,
  decodeBase64OrText,
  decodeNamed,
  decodePlain,
  MAX_BOOT_DATA_BYTES,
} from "../../../src/tools/userdata/encodings.js";
import { fieldOf, serialMetadata, withInstanceId } from "../../../src/tools/userdata/metadata.js";
import type { Input } from "../input.js";
import { holds, same, type Target } from "../target.js";

const NAMES = ["", "base64", "gzip+base64", "gz+b64", "gzip", "gz", "BASE64", "base64\n"];

/** Whatever is stored comes to no more than the cap, and plain text to itself. */
async function encoding(input: Input): Promise<void> {
  const reader = input.pick(["cloud-init", "ignition"] as const);
  const name = input.pick(NAMES);
  const bytes = input.rest();
  const decoded = await decodeNamed(reader, bytes, name);
  if ("absent" in decoded) return;
  holds(decoded.value.length <= MAX_BOOT_DATA_BYTES, "more than the cap");
  if (name === "" && reader === "ignition") same(Buffer.from(decoded.value), bytes, "plain data");
}

function text(input: Input): void {
  const bytes = input.rest();
  const plain = decodePlain(bytes);
  if ("value" in plain) same(Buffer.from(plain.value), bytes, "plain data");
  const either = decodeBase64OrText(bytes.toString("latin1"));
  holds("absent" in either || either.value.length <= 2 * bytes.length, "more than there was");
  decodeAnnounced(bytes);
}

/** An instance id is found where it was put, whatever else stands there. */
function metadata(input: Input): void {
  const given = input.rest().toString("utf8");
  fieldOf(given, "network");
  const whole = withInstanceId(given, "i-1");
  holds(fieldOf(whole, "instance-id") !== undefined, "metadata without an instance id");
}

function serial(input: Input): void {
  const fields = serialMetadata(input.rest().toString("utf8"));
  holds(fields === undefined || Object.keys(fields).length > 0, "metadata of nothing");
}

function commandLine(input: Input): void {
  for (const { name } of commandLineCredentials(input.rest().toString("utf8"))) {
    holds(!name.includes(":"), "a name that goes too far");
    isCredentialName(name);
  }
}

function readiness(input: Input): void {
  const given = input.rest().toString("utf8");
  const value = decodeReadyValue(given);
  if (value !== undefined && value.text !== "")
    same(encodeReadyValue(value), given, "a value read and written");
}

function address(input: Input): void {
  const status = input
    .field()
    .toString("utf8")
    .replaceAll(/\p{Cc}/gu, "");
  const found = parseNotifyAddress(input.rest().toString("utf8"));
  holds(found?.kind !== "vsock" || found.port <= 0xffff_ffff, "a port out of range");
  holds(notifyMessage({ ready: input.flag(), status }).split("\n").length === 2, "a message of other lines");
}

function provisioning(input: Input): void {
  const fields = decodeReport(input.rest().toString("utf8"));
  const line = encodeReport(fields);
  // What is cut may end in the middle of quotes.
  if (Buffer.byteLength(line) < 1000) same(decodeReport(line), fields, "a report read and written");
}

/** Boot data, readiness and credentials: what hosts, firmware and command lines say. */
export const TOOLS: readonly Target[] = [
  {
    name: "userdata-encoding",
    run: encoding,
    isAsync: true,
    seeds: () => [
      "\0\x01I2Nsb3VkLWNvbmZpZwo=",
      "\0\x02H4sIAAAAAAAAA",
      "\x01\0{}",
      "\0\x03---",
      "\x01\x01e30K",
    ],
  },
  { name: "userdata-text", run: text, seeds: () => ["I2Nsb3VkLWNvbmZpZwo=", "#cloud-config\n", "abcd"] },
  {
    name: "userdata-metadata",
    run: metadata,
    seeds: () => [
      '{"network":{"version":2}}',
      "network:\n  version: 2\ninstance-id: a\n",
      "---\nnetwork: |\n  abcd\n",
      "'instance-id' : 'x' # y\n",
      '{"instance-id":null}',
    ],
  },
  {
    name: "userdata-serial",
    run: serial,
    seeds: () => ["ds=nocloud;s=http://x/;i=a;h=b", "ds=nocloud;__proto__=x"],
  },
  {
    name: "creds-command-line",
    run: commandLine,
    seeds: () => ["systemd.set_credential=n:v quiet", 'systemd.set-credential_binary="n:AP8="', "a='b \"c'd"],
  },
  {
    name: "ready-value",
    run: readiness,
    seeds: () => [
      "1 ready 2026-11-28T00:00:00.000Z 11223344-5566-7788-99aa-bbccddeeff00 up",
      "1 failed 2026-11-28T00:00:00+01:00 -",
    ],
  },
  {
    name: "ready-address",
    run: address,
    seeds: () => ["\x02upvsock:2:9999", "\0vsock-stream:1:1", "\0/run/notify"],
  },
  {
    name: "ready-provisioning",
    run: provisioning,
    seeds: () => ["result=error|'reason=a|''b'''|vm_id=x", 'a=b|"c=d|e"|f'],
  },
];
