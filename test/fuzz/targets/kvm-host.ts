import { DOMParser, type Element } from "@xmldom/xmldom";
import { parseConfiguration } from "../../../providers/kvm/host/configuration.js";
import {
  decodeOrder,
  decodeReport,
  encodeOrder,
  encodeReport,
} from "../../../providers/kvm/host/control-messages.js";
import { cloudHypervisorArguments, qemuArguments } from "../../../providers/kvm/host/launch/arguments.js";
import { type LaunchDescription, parseDescription } from "../../../providers/kvm/host/launch/description.js";
import { libvirtParts } from "../../../providers/kvm/host/launch/libvirt.js";
import { checkKey, checkValue, checkWritable, completeLimits } from "../../../providers/kvm/host/limits.js";
import {
  decodeLog,
  encodeRecord,
  HEADER_BYTES,
  LOG_END,
  LOG_HEADER,
  MARK_BYTES,
} from "../../../providers/kvm/host/log-codec.js";
import { endpointText, parseEndpoint } from "../../../providers/kvm/host/settings/endpoint.js";
import { PvbusError } from "../../../src/base/errors.js";
import { decodeAnswer } from "../../../src/mdata/answer.js";
import { encodeBase64 } from "../../../src/mdata/base64.js";
import { decodeFrame } from "../../../src/mdata/frame.js";
import { RememberedAnswers } from "../../../src/mdata/repeats.js";
import { decodeRequest } from "../../../src/mdata/request.js";
import type { ServedKeys } from "../../../src/mdata/server/keys.js";
import {
  answerFrame,
  answerLine,
  isOurs,
  PVBUS_DIALECT,
  type Reply,
} from "../../../src/mdata/server/requests.js";
import type { Input } from "../input.js";
import { Finding, holds, same, type Target } from "../target.js";

function order(input: Input): void {
  const line = input.text();
  const ordered = decodeOrder(line);
  if (ordered !== undefined)
    same(decodeOrder(encodeOrder(ordered)), ordered, "an order read, written and read");
  const report = decodeReport(line);
  if (report === undefined) return;
  if (!("error" in report)) {
    same(decodeReport(encodeReport(report)), report, "a report read, written and read");
    return;
  }
  holds(PvbusError.is(report.error), "a reported error that is none of ours");
  const { error } = decodeReport(encodeReport(report)) as { error: PvbusError };
  same(
    [error.code, error.message, error.key],
    [report.error.code, report.error.message, report.error.key],
    "an error",
  );
}

/** A log of records: any bytes, or some that are right but for what the input spoils. */
function log(input: Input): void {
  const mark = Buffer.alloc(MARK_BYTES, 0x6d);
  const records: Buffer[] = [];
  const made: string[] = [];
  let isSpoilt = false;
  // The first batch is that with which a file is made.
  for (let batch = 2; batch < 32 && input.left > 0; batch++) {
    const [key, value] = [`k${input.field().toString("utf8")}`, input.field()];
    const operation = input.pick(["put", "delete"] as const);
    const bytes = encodeRecord(mark, { batch, revision: batch, operation, key, value });
    if (input.below(8) === 0) {
      const at = input.word() % bytes.length;
      const before = bytes[at];
      bytes[at] = input.byte();
      isSpoilt ||= before !== bytes[at];
    }
    if (!isSpoilt) made.push(key);
    records.push(bytes);
  }
  const body = Buffer.concat([...records, input.take(100)]);
  const header = { mark, revision: made.length, length: HEADER_BYTES };
  const bytes = Buffer.concat([LOG_HEADER.encode(header), body]);
  same(LOG_HEADER.decode(bytes), header, "a header written and read");
  const { records: found, goodBytes } = decodeLog(bytes, header);
  holds(goodBytes <= bytes.length, "more good bytes than there are");
  same(
    found.slice(0, made.length).map(({ key }) => key),
    made,
    "the records before the first bad one",
  );
}

function logHeader(input: Input): void {
  const bytes = input.rest();
  const end = LOG_END.decode(bytes);
  if (end !== undefined) same(LOG_END.decode(LOG_END.encode(end)), end, "an end written and read");
  const header = LOG_HEADER.decode(bytes);
  if (header !== undefined) decodeLog(bytes, header);
}

/** JSON, or nothing. */
function jsonFrom(input: Input): unknown {
  try {
    return JSON.parse(input.text());
  } catch {
    return undefined;
  }
}

function configuration(input: Input): void {
  for (const { endpoints, limits } of parseConfiguration(jsonFrom(input)).guests) {
    for (const endpoint of endpoints) same(parseEndpoint(endpointText(endpoint)), endpoint, "an endpoint");
    completeLimits(limits);
  }
}

function endpoint(input: Input): void {
  const text = input.pick(["", "unix:", "connect:", "vsock:"]) + input.text();
  const found = parseEndpoint(text);
  same(parseEndpoint(endpointText(found)), found, "an endpoint written and read");
}

/** What the description says comes out of each hypervisor's arguments again. */
function launch(input: Input): void {
  const description = parseDescription(jsonFrom(input));
  const sizeOf = (): number => 5;
  const args = unless(() => qemuArguments(description, sizeOf));
  if (args !== undefined) checkQemu(args, description);
  const parts = unless(() => libvirtParts(description, sizeOf));
  for (const { xml } of parts ?? []) checkXml(xml, description);
  const plain = unless(() => cloudHypervisorArguments(description, sizeOf));
  for (const each of plain ?? []) holds(!each.includes("\0"), "an argument with a NUL");
}

function unless<T>(make: () => T): T | undefined {
  try {
    return make();
  } catch (error) {
    if (PvbusError.is(error)) return undefined;
    throw error;
  }
}

/** Returns the options of QEMU's argument: it ends a value at a comma, and takes two for one. */
function optionsOf(argument: string): string[] {
  const found: string[] = [""];
  for (let at = 0; at < argument.length; at++) {
    const char = argument[at] as string;
    if (char !== ",") found.push((found.pop() ?? "") + char);
    else if (argument[at + 1] === ",") {
      found.push(`${found.pop() ?? ""},`);
      at++;
    } else found.push("");
  }
  return found;
}

function checkQemu(args: readonly string[], { namespace, keys }: LaunchDescription): void {
  for (const argument of args) holds(!argument.includes("\0"), "an argument with a NUL");
  const values = new Set(args.flatMap(optionsOf));
  for (const { key, value } of keys) {
    const isText = value.kind === "bytes";
    const bytes = isText ? value.bytes : Buffer.alloc(0);
    const text = Buffer.from(bytes).toString("utf8");
    const wanted = isText
      ? [
          `string=${text}`,
          `value=${namespace}:${key}=${text}`,
          `value=${namespace}.binary:${key}=${encodeBase64(bytes)}`,
        ]
      : [`file=${value.path}`];
    holds(
      wanted.some((each) => values.has(each)),
      `the key ${JSON.stringify(key)} is not among QEMU's arguments`,
    );
  }
}

function checkXml(xml: string, { keys }: LaunchDescription): void {
  const fail = (level: string, message: unknown): void => {
    if (level !== "warning") throw new Finding(`XML that is none: ${message}`);
  };
  const document = new DOMParser({ onError: fail }).parseFromString(xml, "text/xml");
  const entries = [...document.getElementsByTagName("entry")] as unknown as Element[];
  holds(entries.length <= keys.length + 1, "more entries than keys");
}

const LIMITS = completeLimits({ maxKeyBytes: 64, maxValueBytes: 1024, maxWatches: 4 });

/** A guest's keys without a disk. */
function keysInMemory(writable: readonly string[] | undefined): ServedKeys {
  const kept = new Map<string, Uint8Array>([["sdc:uuid", Buffer.from("u")]]);
  return {
    limits: LIMITS,
    session: "0".repeat(32),
    revision: 0,
    get: (key: string) => kept.get(key),
    portions: () => [[...kept.keys()].map((key) => ({ key }))],
    checkWritable: (key) => checkWritable(key, { readOnly: ["host/"], writable }),
    listen: () => () => undefined,
    put: async (key: string, value: Uint8Array) => {
      checkKey(key, LIMITS);
      checkValue(key, value, LIMITS);
      kept.set(key, value);
    },
    delete: async (key: string) => kept.delete(key),
  };
}

/** Returns all that goes out, whatever parts it has. */
function whole(reply: Reply): Buffer {
  if (typeof reply === "string" || Buffer.isBuffer(reply)) return Buffer.from(reply as string);
  return Buffer.concat([...reply].filter((part) => part !== undefined));
}

const WORDS = ["GET", "PUT", "DELETE", "KEYS", "CAPS", "WATCH", "UNWATCH"];

/** A guest's requests: each gets one well-formed answer, and none is a fault of the host's. */
async function requests(input: Input): Promise<void> {
  const watches = new Map<string, string>();
  const served = {
    keys: keysInMemory(input.flag() ? undefined : ["guest/"]),
    dialect: PVBUS_DIALECT,
    watches: {
      add: (id: string, prefix: string) =>
        watches.size < LIMITS.maxWatches && watches.set(id, prefix) !== undefined,
      remove: (id: string) => watches.delete(id),
    },
    answers: new RememberedAnswers(),
  };
  const fault = (error: unknown): never => {
    throw new Finding(`a fault of the host's own: ${error}`);
  };
  for (let count = 0; count < 16 && input.left > 0; count++) {
    if (input.below(4) === 0) {
      const line = input.field().toString("utf8");
      const reply = answerLine(served, line);
      if (reply !== undefined) holds(whole(reply).at(-1) === 0x0a, "an answer without a line end");
      continue;
    }
    const word = input.flag() ? input.pick(WORDS) : input.field().toString("latin1");
    const kind = input.below(3);
    const payload = input.field();
    const inner = `${encodeBase64(input.field())} ${encodeBase64(payload)}`;
    const id = input.pick(["00000001", "00000002", "ABCDEF00"]);
    const frame = {
      id,
      word,
      payload: [payload.toString("latin1"), encodeBase64(payload), encodeBase64(Buffer.from(inner))][kind],
    };
    if (isOurs(frame)) continue;
    const reply = whole(await answerFrame(served, frame, decodeRequest(frame), fault));
    const read = decodeFrame(reply.subarray(0, -1));
    same(read?.id, id, "the id of an answer");
    holds(read !== undefined && decodeAnswer(read) !== undefined, "an answer that is none");
  }
}

const DESCRIPTION =
  '{"namespace":"a.b","keys":{"k,1":{"text":"v,<&>"},"b":{"base64":"AAE="},"f":{"file":"/x"}},"channel":{"endpoint":"unix:/s,1"}}';

/** What meets orders, logs, files and requests on the host's side of KVM's channel. */
export const KVM_HOST: readonly Target[] = [
  {
    name: "host-orders",
    run: order,
    seeds: () => [
      '{"do":"guests"}',
      '{"do":"set","guest":"a","key":"k","value":"aGk="}',
      '{"do":"list","guest":"a","prefix":""}',
      '{"error":{"code":"ERR_BUSY","message":"m","key":"k"}}',
      '{"name":"a"}',
      '{"done":true}',
      '{"key":"k","value":"aGk="}',
    ],
  },
  { name: "host-log", run: log, seeds: () => ["\x01k\x01v\0\x01\0\0\0\x01\x01l\0\x01\x02\0\0\0\x01"] },
  {
    name: "host-log-header",
    run: logHeader,
    seeds: () => [LOG_HEADER.encode({ mark: Buffer.alloc(8, 1), revision: 3, length: 40 })],
  },
  {
    name: "host-configuration",
    run: configuration,
    throws: [TypeError, RangeError],
    seeds: () => [
      '{"limits":{"maxKeys":5},"readOnly":["a"],"guests":{"g":{"endpoints":["unix:/a","vsock:/b:5"],"socketOwner":{"uid":1,"gid":2}}}}',
    ],
  },
  { name: "host-endpoint", run: endpoint, throws: [TypeError], seeds: () => ["\x01/run/x", "\x03/run/x:52"] },
  { name: "host-launch", run: launch, throws: [TypeError], seeds: () => [DESCRIPTION] },
  {
    name: "host-requests",
    run: requests,
    isAsync: true,
    seeds: () => ["\x01\x01\x01\x01\x02\x01v\x01k\0", "\0\0\x05GET k\0\x04KEYS"],
  },
];
