import { gzipSync } from "node:zlib";
import { VmwareDataSets } from "../../../providers/vmware/data-set-store.js";
import { VmwareNamespace } from "../../../providers/vmware/namespace.js";
import { checkVmwareOptions } from "../../../providers/vmware/options.js";
import { Channel, ChannelFailure, type Steps } from "../../../providers/vmware/protocol/backdoor-channel.js";
import {
  decodeFrame,
  encodeFrame,
  FrameReader,
  MAX_FRAME_BYTES,
} from "../../../providers/vmware/protocol/data-map.js";
import { decodeDataSetReply } from "../../../providers/vmware/protocol/data-sets.js";
import { decodeValue } from "../../../providers/vmware/protocol/encoded-value.js";
import { checkKey, MAX_REQUEST_BYTES } from "../../../providers/vmware/protocol/keys.js";
import { command, decodeReply, infoGet, infoSet, refusal } from "../../../providers/vmware/protocol/rpci.js";
import type { RpciSession } from "../../../providers/vmware/session.js";
import { VmxHost } from "../../../providers/vmware/testing/host.js";
import { namedSource } from "../../../providers/vmware/transport/sources.js";
import { PvbusError } from "../../../src/base/errors.js";
import { Call } from "../../../src/base/flow/call.js";
import { nodeHost } from "../../../src/base/host/node-host.js";
import { parseOvfEnvironment } from "../../../src/base/ovf-environment.js";
import type { Operation, Registers } from "../../../src/native/vmware/backdoor-port.js";
import { type Input, pieces } from "../input.js";
import { holds, same, type Target } from "../target.js";

function reply(input: Input): void {
  const name = input.pick(["info-get", "datasets-list"]);
  const bytes = input.rest();
  const found = decodeReply(bytes);
  if (found.accepted) {
    same(Buffer.concat([Buffer.from("1 "), found.value]), bytes, "a value and its reply");
    return;
  }
  const error = refusal({ name }, found.words, "vsock");
  holds(PvbusError.is(error) && typeof error.code === "string", "a refusal without a code");
  holds(error.message.length < 1000, "a refusal of more than a kilobyte");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not reach a terminal
  holds(!/[\x00-\x1f\x7f-\x9f]/.test(error.message), "control characters in a message");
}

function commands(input: Input): void {
  const key = input.pick(["guestinfo.", "GuestInfo.a", ""]) + input.word16();
  const value = input.rest();
  holds(command("x", value).bytes.length <= MAX_REQUEST_BYTES, "a command beyond the limit");
  infoGet(key);
  const { bytes } = infoSet(key, value);
  holds(bytes.length <= MAX_REQUEST_BYTES, "a command beyond the limit");
  checkKey(key);
  const text = Buffer.from(bytes).toString("latin1");
  same(text, `info-set ${key} ${value.toString("latin1")}`, "the command that sets a value");
}

function frame(input: Input): void {
  const isFastClose = input.flag();
  const bytes = input.rest();
  if (bytes.length > 0)
    same(decodeFrame(encodeFrame(bytes, isFastClose).subarray(4)), bytes, "a payload framed and read");
  holds(decodeFrame(bytes).length <= bytes.length, "a payload longer than its frame");
}

/** The bodies that a reader gives, or how it ended. */
function bodiesOf(parts: readonly Buffer[]): unknown {
  const reader = new FrameReader();
  const bodies: Buffer[] = [];
  try {
    for (const part of parts) {
      const body = reader.push(part);
      if (body !== undefined) bodies.push(Buffer.from(body));
    }
  } catch (error) {
    if (!PvbusError.is(error)) throw error;
    return error.code;
  }
  holds(reader.pending <= MAX_FRAME_BYTES, "more is held than a frame");
  return { bodies, pending: reader.pending };
}

/** One frame at a time, as the protocol has it: bytes behind a whole one are an error in one piece alone. */
function stream(input: Input): void {
  const choice = input.random();
  const body = input.rest();
  const bytes = Buffer.alloc(4 + body.length);
  bytes.writeUInt32BE(input.left === 0 ? body.length : 0);
  body.copy(bytes, 4);
  same(bodiesOf(pieces(bytes, choice)), { bodies: [body], pending: 0 }, "a frame in pieces");
  same(bodiesOf([bytes]), { bodies: [body], pending: 0 }, "a whole frame");
  bodiesOf(pieces(body, choice));
}

const SUCCESS = 0x0001_0000;
const MAX_REPLY = 64 * 1024;
const MOST_OPERATIONS = 100_000;

/** A hypervisor that answers as the input says, mostly with success, so that the end is reached. */
function registersFrom(input: Input, { registers, memory }: Operation): Registers {
  const kind = input.below(8);
  if (memory?.direction === "fill") memory.bytes.set(input.take(Math.min(memory.bytes.length, 64)));
  if (kind === 0) {
    const [eax, ebx, ecx, edx] = [input.word(), input.word(), input.word(), input.word()];
    return { eax, ebx, ecx, edx, esi: input.byte(), edi: input.byte(), ebp: 0 };
  }
  const status = (input.byte() << 16) >>> 0;
  const ecx = (SUCCESS | status) >>> 0;
  const edx = input.pick([0x0001_0000, 0x0002_0000, 0x0003_0000, registers.edx]);
  const ebx = memory === undefined ? input.word() % (kind === 1 ? 2 ** 32 : 200) : ecx;
  return { ...registers, ebx, ecx, edx };
}

function drive<T>(steps: Steps<T>, input: Input): T {
  let operations = 0;
  let next = steps.next();
  while (next.done !== true) {
    const results: Registers[] = [];
    // The port stops behind the first operation without memory that did not succeed.
    for (const operation of next.value) {
      const out = registersFrom(input, operation);
      results.push(out);
      if (operation.memory === undefined && (out.ecx & SUCCESS) === 0) break;
    }
    operations += results.length;
    holds(operations < MOST_OPERATIONS, "an exchange does not end");
    next = steps.next(results);
  }
  return next.value;
}

function backdoor(input: Input): void {
  const options = { bulk: input.flag(), maxReply: MAX_REPLY, quick: input.flag() };
  const request = input.field();
  const channel = drive(Channel.open(), input);
  try {
    holds(drive(channel.exchange(request, options), input).length <= MAX_REPLY, "a reply beyond the limit");
  } finally {
    drive(channel.abandon(), input);
  }
}

async function ovf(input: Input): Promise<void> {
  const found = await parseOvfEnvironment(input.text());
  holds(!("polluted" in {}), "a property of all objects");
  holds(
    Object.getPrototypeOf(found.platform) === Object.prototype ||
      Object.getPrototypeOf(found.platform) === null,
    "a platform with another prototype",
  );
}

/** A session whose host says what the input says. */
function sessionFrom(input: Input): RpciSession {
  const say = (): Buffer =>
    input.flag() ? Buffer.from(`{"result":true,${input.field().toString("utf8")}}`) : input.field();
  const session = {
    value: async () => say(),
    ask: async () => decodeReply(say()),
    refusal: (request: { name: string }, words: string) => refusal(request, words, "fuzz"),
  };
  return session as unknown as RpciSession;
}

async function namespaces(input: Input): Promise<void> {
  const keys = ["a", "b"].slice(0, 1 + input.below(2));
  const name = input.flag() ? "com.example" : input.word16();
  const database = new VmwareNamespace(sessionFrom(input), name);
  const call = new Call();
  const values = await database.getAll(keys, call);
  for (const [key, value] of values)
    holds(keys.includes(key) && value !== "", "a value that nobody asked for");
  await database.compareAndSet(input.word16(), undefined, input.word16(), call);
}

async function dataSets(input: Input): Promise<void> {
  const what = input.below(5);
  if (what === 4) {
    holds("result" in decodeDataSetReply("list", input.rest()), "a reply without a result");
    return;
  }
  const sets = new VmwareDataSets(sessionFrom(input));
  const call = new Call();
  if (what === 0)
    for (const { name, description } of await sets.list(call))
      holds(typeof (name + description) === "string", "a name");
  if (what === 1) await sets.query("d", call);
  if (what === 2) {
    const value = await sets.get("d", input.pick(["key", "__proto__", "constructor"]), call);
    holds(value === undefined || typeof value === "string", "a value that is no text");
  }
  if (what === 3) await sets.set("d", input.word16(), input.rest16(), call);
}

async function encodedValue(input: Input): Promise<void> {
  const encoding = input.pick(["base64", "b64", "gzip+base64", "gz+b64", "plain"]);
  const isPacked = input.flag();
  const bytes = input.rest();
  await decodeValue(bytes, bytes.toString("latin1"));
  const packed = isPacked ? gzipSync(bytes) : bytes;
  const value = encoding === "plain" ? bytes : Buffer.from(packed.toString("base64"));
  if (isPacked === encoding.startsWith("gz"))
    same(await decodeValue(value, encoding), bytes, "a value encoded and decoded");
  await decodeValue(bytes, encoding);
}

function options(input: Input): void {
  let given: unknown;
  try {
    given = JSON.parse(input.text());
  } catch {
    // Options are an object, whoever made it.
    return;
  }
  if (typeof given === "object" && given !== null) checkVmwareOptions(given as Record<string, unknown>);
}

function channelName(input: Input): void {
  const text = input.pick(["vsock:", "unix:", ""]) + input.text();
  namedSource(text, nodeHost({ sysroot: "/fuzz", env: {} }), "never");
}

/** The simulated host answers any command. */
function simulatedHost(input: Input): void {
  const host = new VmxHost({ variables: { "guestinfo.a": "b" } });
  host.createDataSet("d").set("k", "v");
  const name = input.pick([
    "info-get",
    "info-set",
    "datasets-list",
    "datasets-get-entry",
    "datasets-set-entry",
    "namespace-priv-get-values",
    "namespace-priv-set-keys",
  ]);
  const request = input.flag() ? Buffer.concat([Buffer.from(`${name} `), input.rest()]) : input.rest();
  const answer = host.answer(request, { privileged: true });
  const isKnown = Buffer.from(answer).toString("latin1") !== "0 Unknown command";
  const asked = request.toString("latin1").split(/[ \0]/, 1)[0] ?? "";
  holds(!(isKnown && asked in {}), "a command that every object has");
  decodeReply(answer);
}

const OVF =
  '<Environment xmlns="http://schemas.dmtf.org/ovf/environment/1" xmlns:oe="http://schemas.dmtf.org/ovf/environment/1" oe:id="x"><PlatformSection><Kind>v</Kind></PlatformSection><PropertySection><Property oe:key="k" oe:value="v"/></PropertySection><Entity oe:id="e"/></Environment>';

/** What meets the bytes and words of VMware's host. */
export const VMWARE: readonly Target[] = [
  {
    name: "vmware-reply",
    run: reply,
    seeds: () => ["\x001 value", "\x000 Permission denied", "\x000 No value found\0\0"],
  },
  { name: "vmware-commands", run: commands, seeds: () => ["\0\x04\0keyvalue"] },
  {
    name: "vmware-frame",
    run: frame,
    seeds: () => [Buffer.concat([Buffer.from([0]), encodeFrame(Buffer.from("1 ok"), true).subarray(4)])],
  },
  { name: "vmware-stream", run: stream, seeds: () => ["\x05abcdef", "\x04\0\0\0\x02ab"] },
  {
    name: "vmware-backdoor",
    run: backdoor,
    throws: [ChannelFailure],
    seeds: () => [
      "\0\x01\x04ping\x02\x01\0\x02\x01\0\0\0\0\0\x02\x01\0\x02\x02\0\x04\0\0\0\x02\x01\x02\0\0\0\0\0",
    ],
  },
  { name: "vmware-ovf", run: ovf, isAsync: true, seeds: () => [OVF] },
  {
    name: "vmware-namespace",
    run: namespaces,
    isAsync: true,
    seeds: () => ["\x01\x01\0\x04a\0b\0", "\0\x01\0\x02v\0\x02\0k\x02\0v\0\x031 \0"],
  },
  {
    name: "vmware-data-sets",
    run: dataSets,
    isAsync: true,
    seeds: () => [
      '\0\x01\x20"datasets":[{"name":"a"}]',
      '\x02\x01\x20"entries":[{"key":"v"}]\0',
      "\x03\x02\0k\x02\0v\x01\0",
    ],
  },
  {
    name: "vmware-encoded-value",
    run: encodedValue,
    isAsync: true,
    seeds: () => ["\0\0abc", "\x02\x01abc", "\x02\0H4sIAAAAAAAAA"],
  },
  {
    name: "vmware-options",
    run: options,
    throws: [TypeError],
    seeds: () => ['{"transport":"vsock","verify":true}', '{"constructor":1}', '{"__proto__":1,"pollMs":5}'],
  },
  { name: "vmware-channel-name", run: channelName, seeds: () => ["\x002:976", "\x01/run/x"] },
  {
    name: "vmware-simulated-host",
    run: simulatedHost,
    seeds: () => [
      "\0\x01guestinfo.a",
      '\x03\x01{"dataset":"d","keys":["k"]}',
      "\x05\x01ns\0k\0",
      "\x06\x01ns\x001\x000\0k\0v\0\0",
    ],
  },
];
