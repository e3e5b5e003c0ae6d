import { isIP } from "node:net";
import { parseOsRelease } from "../../../providers/hyperv/kvpd/auto-pool.js";
import type { GuardedPool } from "../../../providers/hyperv/kvpd/guarded-pool.js";
import { ipv4Gateways, ipv6Gateways, netstatGateways } from "../../../providers/hyperv/kvpd/ip-service.js";
import {
  addressLists,
  expandIpv6,
  freebsdText,
  ifcfgText,
  keyfileText,
  parseIpSettings,
} from "../../../providers/hyperv/kvpd/ip-settings.js";
import { KvpResponder } from "../../../providers/hyperv/kvpd/responder.js";
import type { ServedPool } from "../../../providers/hyperv/kvpd/served-pool.js";
import {
  decodeEnumerateReply,
  decodeIpInfo,
  decodeRegistrationReply,
  decodeRequest,
  encodeRegistration,
  encodeRequest,
  FREEBSD_KVP,
  type KvpIpInfo,
  type KvpLayout,
  type KvpRequest,
  LINUX_KVP,
  replyStatus,
  turnIntoEnumerateReply,
  turnIntoGetReply,
  turnIntoIpReply,
} from "../../../providers/hyperv/protocol/messages.js";
import {
  HV_KVP_EXCHANGE_MAX_KEY_SIZE,
  HV_KVP_EXCHANGE_MAX_VALUE_SIZE,
} from "../../../providers/hyperv/protocol/record.js";
import { KvpStatusError } from "../../../providers/hyperv/protocol/status.js";
import { Call } from "../../../src/base/flow/call.js";
import { SILENT } from "../../../src/base/host/node-host.js";
import type { Input } from "../input.js";
import { Finding, holds, same, type Target } from "../target.js";

/** Where a message has fields: the input is laid there, since most of a message is zeros. */
const FIELDS = [4, 8, 12, 16, 20, 260, 262, 528, 532, 2310, 4358, 5382];

/** Any message, its length not always right. */
function messageFrom(input: Input, { messageBytes }: KvpLayout): Buffer {
  const message = Buffer.alloc(messageBytes);
  message[0] = input.below(8);
  message[1] = input.below(6);
  while (input.left > 0) {
    const at = input.pick(FIELDS);
    const filler = input.byte();
    const length = input.flag() ? input.word() % messageBytes : input.byte();
    if (input.below(8) === 0) message.fill(filler, at, Math.min(at + length, messageBytes));
    else input.take(length).copy(message, at);
  }
  return message;
}

function checkRequest(found: KvpRequest): void {
  if ("key" in found) holds(found.key.length < HV_KVP_EXCHANGE_MAX_KEY_SIZE, "a key longer than its field");
  if (found.operation === "set" && found.value !== undefined)
    holds(found.value.length < HV_KVP_EXCHANGE_MAX_VALUE_SIZE, "a value longer than its field");
  if (found.operation === "get")
    holds(found.valueSize <= HV_KVP_EXCHANGE_MAX_VALUE_SIZE, "a value size beyond the field");
}

function request(layout: KvpLayout): Target["run"] {
  return (input) => {
    const isCut = input.below(16) === 0;
    const message = messageFrom(input, layout);
    const found = decodeRequest(isCut ? message.subarray(0, message.length - 1) : message, layout);
    checkRequest(found);
    if (isCut) holds(found.operation === "malformed", "a message that is too short");
    // Text that is no UTF-8 comes out as other text, which may not fit.
    if (found.operation === "malformed" || "info" in found) return;
    same(decodeRequest(encodeRequest(found, layout), layout), found, "a request read, written and read");
  };
}

function replies(input: Input): void {
  const layout = input.pick([LINUX_KVP, FREEBSD_KVP]);
  const message = messageFrom(input, layout);
  if (input.flag()) encodeRegistration(layout).copy(message, 0, 0, 4);
  const version = decodeRegistrationReply(message, layout);
  holds((version?.length ?? 0) <= 512, "a version longer than its field");
  replyStatus(message);
  const { key, value } = decodeEnumerateReply(message);
  holds(key.length <= HV_KVP_EXCHANGE_MAX_KEY_SIZE, "a key longer than its field");
  holds(value.length <= HV_KVP_EXCHANGE_MAX_VALUE_SIZE, "a value longer than its field");
  if (key.length < HV_KVP_EXCHANGE_MAX_KEY_SIZE && value.length < HV_KVP_EXCHANGE_MAX_VALUE_SIZE) {
    const again = Buffer.alloc(layout.messageBytes, 0x55);
    turnIntoEnumerateReply(again, Uint8Array.from(key), Uint8Array.from(value));
    same(decodeEnumerateReply(again), { key, value }, "a record replied and read");
  }
  const reply = Buffer.alloc(layout.messageBytes);
  turnIntoGetReply(reply, value, key.length);
  holds(reply.length === layout.messageBytes, "a reply of another length");
  const info = decodeIpInfo(message);
  try {
    turnIntoIpReply(reply, info);
  } catch (error) {
    // Each byte that is no UTF-8 becomes three.
    if (error instanceof RangeError) return;
    throw error;
  }
  same({ ...decodeIpInfo(reply), adapterId: "" }, { ...info, adapterId: "" }, "settings replied and read");
}

function infoFrom(input: Input): KvpIpInfo {
  const list = (): string => input.field().toString("utf8");
  return {
    adapterId: "{1}",
    addressFamily: input.byte(),
    dhcpEnabled: input.byte(),
    ipAddresses: list(),
    subnets: list(),
    gateways: list(),
    dnsServers: list(),
  };
}

/** What gets into configuration files, which a shell or NetworkManager reads. */
const FILE_LINE = /^(?:\[[a-z0-9]+\]|[A-Za-z0-9_-]+=[A-Za-z0-9.:;,/]*|)$/;

function ipSettings(input: Input): void {
  const settings = parseIpSettings(infoFrom(input));
  const target = { name: "eth0", mac: "00:15:5D:00:00:01" };
  for (const text of [ifcfgText, keyfileText, freebsdText].map((make) => make(target, settings)))
    for (const line of text.split("\n"))
      holds(FILE_LINE.test(line), `a line of a configuration file: ${JSON.stringify(line)}`);
  for (const { address, family } of [...settings.addresses, ...settings.gateways, ...settings.dns]) {
    if (family !== 6) continue;
    const long = expandIpv6(address);
    holds(/^[0-9a-f]{4}(:[0-9a-f]{4}){7}$/.test(long), `${address} in full: ${long}`);
    same(new URL(`http://[${long}]`).hostname, new URL(`http://[${address}]`).hostname, "an address in full");
  }
  const known = settings.addresses.map(({ address, family, prefix }) => ({
    name: "eth0",
    loopback: false,
    address,
    family,
    prefix,
  }));
  const lists = addressLists(known as Parameters<typeof addressLists>[0], input.pick(["", ";"]));
  holds(
    lists.ipAddresses.length <= 1023 && lists.subnets.length <= 1023,
    "a list longer than the host takes",
  );
}

function hostTexts(input: Input): void {
  const name = input.pick(["eth0", "hn0"]);
  const text = input.text();
  for (const address of [
    ...ipv4Gateways(text, name),
    ...ipv6Gateways(text, name),
    ...netstatGateways(text, name),
  ])
    holds(isIP(address) !== 0, `a gateway that is no address: ${JSON.stringify(address)}`);
  parseOsRelease(() => text);
  parseOsRelease((path) => (path === "/etc/redhat-release" ? text : undefined));
}

/** A daemon's answers: any message gets one, and nothing is a fault of our own. */
async function responder(input: Input): Promise<void> {
  const layout = input.pick([LINUX_KVP, FREEBSD_KVP]);
  const records = Array.from({ length: input.below(4) }, () => ({
    key: input.field(),
    value: input.field(),
  }));
  const served = {
    get: async (key: Uint8Array) => records.find((each) => each.key.equals(key))?.value,
    getNow: (key: Uint8Array) => records.find((each) => each.key.equals(key))?.value ?? "none",
    enumerate: async (index: number) => records[index],
    enumerateNow: (index: number) => records[index] ?? "none",
    set: async () => undefined,
    delete: async (key: Uint8Array) => records.some((each) => each.key.equals(key)),
  };
  const pool: Pick<GuardedPool, "read" | "change" | "sound"> = {
    read: (_call, action) => action(served as unknown as ServedPool),
    change: (_call, action) => action(served as unknown as ServedPool),
    sound: served as unknown as ServedPool,
  };
  const answers = new KvpResponder({
    layout,
    pools: Array.from({ length: 5 }, () => pool as unknown as GuardedPool),
    auto: {
      setIntegrationServicesVersion: () => undefined,
      entry: (at) => (at < 2 ? { key: "OSName", value: "x" } : undefined),
    },
    ip: {
      getIpInfo: async (info) => info,
      setIpInfo: async (info) => void parseIpSettings(info),
    },
    overlayAuto: input.flag(),
    logger: {
      ...SILENT,
      error: (message) => {
        // A list of the host's that is no UTF-8 is longer as text.
        if (!message.includes("do not fit")) throw new Finding(`a fault of our own: ${message}`);
      },
    },
  });
  const message = messageFrom(input, layout);
  const early = Buffer.from(message);
  const isNow = answers.answerNow(early);
  await answers.answer(message, new Call());
  holds(message.length === layout.messageBytes, "an answer of another length");
  if (isNow) same(early, message, "what is answered at once and what is answered later");
}

/** What meets the messages of Hyper-V's driver, and the host's settings in them. */
export const KVP: readonly Target[] = [
  { name: "kvp-request-linux", run: request(LINUX_KVP) },
  { name: "kvp-request-freebsd", run: request(FREEBSD_KVP) },
  { name: "kvp-replies", run: replies },
  { name: "kvp-ip-settings", run: ipSettings, throws: [KvpStatusError] },
  { name: "kvp-host-texts", run: hostTexts },
  { name: "kvp-responder", run: responder, isAsync: true },
];
