import { isUtf8 } from "node:buffer";
import { hypervPortableHost } from "../../../providers/hyperv/portable-host.js";
import {
  decodeFuseRequest,
  decodePoll,
  decodeRead,
  decodeWrite,
} from "../../../providers/hyperv/testing/kvp-device/fuse-codec.js";
import { kvmPortableHost } from "../../../providers/kvm/portable-host.js";
import { vmwarePortableHost } from "../../../providers/vmware/portable-host.js";
import { xenPortableHost } from "../../../providers/xen/portable-host.js";
import { Call } from "../../../src/base/flow/call.js";
import { checkText, valueBytes, withText } from "../../../src/bus/interface/arguments.js";
import type { PvInterface } from "../../../src/bus/interface/interface.js";
import { joinFromHost } from "../../../src/bus/portable/host-tool.js";
import {
  checkName,
  checkNamespace,
  chunkName,
  decodeHead,
  encodeHead,
  isMarked,
  MAX_PORTABLE_BYTES,
  MIN_CHUNK_BYTES,
  splitText,
} from "../../../src/bus/portable/layout.js";
import { PortablePlace } from "../../../src/bus/portable/place.js";
import { publishValue, removeValue } from "../../../src/bus/portable/publisher.js";
import { NO_CAPABILITIES } from "../../../src/contract/capabilities.js";
import type { PortableHost } from "../../../src/contract/portable-host.js";
import type { Input } from "../input.js";
import { holds, same, type Target } from "../target.js";

function head(input: Input): void {
  const bytes = input.rest();
  isMarked(bytes);
  const found = decodeHead(bytes);
  if (found === undefined) return;
  holds(isMarked(bytes) && found.bytes <= MAX_PORTABLE_BYTES, "a head record of something else");
  same(encodeHead(found), bytes.toString("latin1"), "a head record read and written");
}

function names(input: Input): void {
  const text = input.rest16();
  checkText(text);
  checkNamespace(text);
  checkName(text);
  for (const slot of ["a", "b"] as const)
    holds(chunkName(text, slot, 9999) !== text, "a chunk under the name itself");
}

/** Splits of any text are texts, and come to the whole. */
function split(input: Input): void {
  const size = MIN_CHUNK_BYTES + input.byte();
  const value = Buffer.from(input.text());
  const chunks = splitText(value, size);
  for (const chunk of chunks)
    holds(chunk.length > 0 && chunk.length <= size && isUtf8(chunk), "a chunk that is no text");
  same(Buffer.concat(chunks), value, "the chunks of a value");
}

/** An interface that keeps its pairs in memory. */
function inMemory(kept: Map<string, Uint8Array>): PvInterface {
  const target = {
    name: "pvbus0",
    capabilities: { ...NO_CAPABILITIES, delete: true },
    readBytes: async (key: string) => kept.get(key),
    write: async (key: string, value: Uint8Array | string) =>
      void kept.set(key, Buffer.from(value as string)),
    delete: async (key: string) => kept.delete(key),
  };
  return target as unknown as PvInterface;
}

/** Values of any length published one over the other: each is read back whole, and nothing stays behind. */
async function portable(input: Input): Promise<void> {
  const size = MIN_CHUNK_BYTES + input.below(8);
  const kept = new Map<string, Uint8Array>();
  const place = new PortablePlace(inMemory(kept), new Call(), "name", (name) => name);
  for (let count = 0; count < 3 && input.left > 0; count++) {
    const front = input.pick(["", "pvbus-set-1 a 1 5 00000000000000000000000000000000", "pvbus-set-"]);
    const value = Buffer.from(front + input.take(input.byte() * 4).toString("utf8"));
    await publishValue(place, value, size);
    same(await place.readWhole(), value, "a value published and read");
    for (const each of kept.values()) holds(each.length <= size, "a chunk that is too long");
  }
  await removeValue(place);
  same(kept.size, 0, "what is left of a value that was removed");
}

/** A store whose keys hold anything: a value is whole or there is an error. */
async function foreignSet(input: Input): Promise<void> {
  const kept = new Map<string, Uint8Array>();
  kept.set(
    "name",
    input.flag() ? Buffer.from(`pvbus-set-1 ${input.field().toString("latin1")}`) : input.field(),
  );
  const chunk = input.field();
  kept.set("name__a_1", chunk);
  const stored = kept.get("name") as Uint8Array;
  const found = decodeHead(stored);
  const place = new PortablePlace(inMemory(kept), new Call(), "name", (name) => name);
  const whole = found === undefined ? await place.readWhole() : await place.readSet(found);
  if (whole !== undefined)
    holds(whole.length <= Math.max(stored.length, chunk.length), "more than was stored");
}

const TOOLS: readonly PortableHost[] = [
  hypervPortableHost,
  xenPortableHost,
  kvmPortableHost,
  vmwarePortableHost,
];

/** Anything in place of what a host's tool prints: a value is whole or there is an error. */
async function printed(input: Input): Promise<void> {
  const host = input.pick(TOOLS);
  const bytes = input.rest();
  const whole = await joinFromHost(host, "a.b", "name", bytes);
  // A character of the text is one byte at least, and three at most.
  if (whole !== undefined) holds(whole.length <= 3 * bytes.length, "more than was printed");
}

function values(input: Input): void {
  const isText = input.flag();
  const binary = input.flag();
  const bytes = input.rest();
  const given = isText ? bytes.toString("utf16le") : bytes;
  const stored = valueBytes(given, { ...NO_CAPABILITIES, binary });
  const entry = withText({ key: "k", value: stored });
  same(entry.bytes ?? Buffer.from(entry.value ?? ""), stored, "a value stored and shown");
}

/** The simulator's side of FUSE; the kernel is its peer. */
function fuse(input: Input): void {
  const bytes = input.rest();
  if (bytes.length >= 4 && (bytes[0] as number) < 0x80) bytes.writeUInt32LE(bytes.length, 0);
  const { body, opcode } = decodeFuseRequest(bytes);
  holds(body.length === bytes.readUInt32LE(0) - 40, "a body of another length");
  if (body.length < 40) return;
  if (opcode % 3 === 0) decodeRead(body);
  if (opcode % 3 === 1) holds(decodeWrite(body).data.length <= body.length - 40, "more data than came");
  if (opcode % 3 === 2) decodePoll(body);
}

const HEAD = "pvbus-set-1 a 2 5 0123456789abcdef0123456789abcdef";

/** What meets keys and values of any store, and the simulated device. */
export const CORE: readonly Target[] = [
  { name: "portable-head", run: head, seeds: () => [HEAD] },
  { name: "portable-names", run: names, seeds: () => ["\0com.example", "\0a__b"] },
  { name: "portable-split", run: split, seeds: () => [`\x01${"\u00e9\u20ac".repeat(60)}`] },
  {
    name: "portable-values",
    run: portable,
    isAsync: true,
    seeds: () => [`\0\0\x20${"ab".repeat(64)}\x01\0\x01\x01abcd`],
  },
  {
    name: "portable-foreign-set",
    run: foreignSet,
    isAsync: true,
    seeds: () => [`\x01\x27${HEAD.slice(12)}\x05hello`],
  },
  {
    name: "portable-printed",
    run: printed,
    isAsync: true,
    seeds: () => [
      `\0<INSTANCE><PROPERTY NAME="Name"><VALUE>a.b/name</VALUE></PROPERTY><PROPERTY NAME="Data"><VALUE>&lt;x&#x41;</VALUE></PROPERTY></INSTANCE>`,
      '\x01/local/domain/1/data/a@2eb/name = "a\\x00\\n\\007"',
      `\x02[{"key":"a.b/name","value":"${HEAD}"},{"key":"a.b/name__a_1","valueBase64":"aGVsbG8="}]`,
      `\x02a.b/name=x`,
      `\x03guestinfo.a.b.name = "x|22|0A"`,
      Buffer.concat([Buffer.from("\x02\xff\xfe", "latin1"), Buffer.from("a.b/name=x", "utf16le")]),
    ],
  },
  { name: "store-values", run: values, seeds: () => ["\x01\x01a\0b\0", "\0\0text"] },
  { name: "fuse-request", run: fuse, throws: [RangeError], seeds: () => [Buffer.alloc(80, 1)] },
];
