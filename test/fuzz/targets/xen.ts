import { factsOf } from "../../../providers/xen/facts.js";
import { portableLayout } from "../../../providers/xen/portable.js";
import {
  checkNodePath,
  checkPath,
  childPath,
  decodeName,
  decodePath,
  encodeName,
  encodePath,
  isAtOrBelow,
  keyedChild,
  keySyntax,
  withoutSlash,
} from "../../../providers/xen/protocol/keys.js";
import type { Operation } from "../../../providers/xen/protocol/operations.js";
import * as operations from "../../../providers/xen/protocol/operations.js";
import { formatPermission, parsePermission } from "../../../providers/xen/protocol/permissions.js";
import { refusalError } from "../../../providers/xen/protocol/refusals.js";
import {
  decodeDirectoryPart,
  decodeStrings,
  encodeMessage,
  encodeStrings,
  HEADER_BYTES,
  MessageDecoder,
  OversizedMessage,
  typeName,
  XENSTORE_ABS_PATH_MAX,
  XENSTORE_PAYLOAD_MAX,
  XS,
  type XsMessage,
  type XsType,
} from "../../../providers/xen/protocol/wire.js";
import { OpenbsdDevice } from "../../../providers/xen/transport/openbsd-device.js";
import { XenifaceDriver } from "../../../providers/xen/transport/xeniface.js";
import { PathTree } from "../../../providers/xen/watch.js";
import { PvbusError } from "../../../src/base/errors.js";
import { Call } from "../../../src/base/flow/call.js";
import type { WindowsDevice } from "../../../src/native/windows/device.js";
import { type Input, pieces } from "../input.js";
import { holds, same, type Target } from "../target.js";

const TYPES = Object.values(XS);

/** What a stream decodes to: its messages, and whether one was too long. */
function decoded(parts: readonly Buffer[], maxPayload: number): unknown {
  const messages: XsMessage[] = [];
  const decoder = new MessageDecoder(maxPayload, (type, requestId, transactionId, bytes, start, end) => {
    holds(end - start <= maxPayload, "a payload longer than the limit");
    messages.push({ type, requestId, transactionId, payload: Buffer.from(bytes.subarray(start, end)) });
  });
  try {
    for (const part of parts) decoder.push(part);
  } catch (error) {
    if (!(error instanceof OversizedMessage)) throw error;
    return { messages, oversized: true };
  }
  holds(decoder.pending <= HEADER_BYTES + maxPayload, "more is held than one message");
  return { messages, pending: decoder.pending };
}

function stream(input: Input): void {
  const choice = input.random();
  const maxPayload = input.pick([XENSTORE_PAYLOAD_MAX, 16, 1024]);
  const parts: Buffer[] = [];
  while (input.left > 0) {
    if (input.below(4) === 0) parts.push(input.field());
    else {
      const header = { type: input.byte(), requestId: input.word(), transactionId: input.byte() };
      parts.push(encodeMessage({ ...header, payload: input.field() }));
    }
  }
  const bytes = Buffer.concat(parts);
  same(decoded(pieces(bytes, choice), maxPayload), decoded([bytes], maxPayload), "a stream in pieces");
}

function strings(input: Input): void {
  const most = input.pick([Number.POSITIVE_INFINITY, 1, 2, 3]);
  const payload = input.rest();
  const found = decodeStrings(payload, most);
  holds(found.length <= most, "more strings than asked for");
  if (most !== Number.POSITIVE_INFINITY || found.some((each) => each.includes("\0"))) return;
  same(decodeStrings(encodeStrings(...found)), found, "strings written and read");
}

function directoryPart(input: Input): void {
  const offset = input.word();
  const part = decodeDirectoryPart(input.rest(), offset);
  if (part === undefined) return;
  holds(!part.names.includes(""), "an empty name");
  holds(part.next === undefined || part.next > offset, "a listing that does not go on");
}

const OPERATIONS = Object.values(operations) as readonly Operation<unknown>[];

function answers(input: Input): void {
  const operation = input.pick(OPERATIONS);
  const before = input.take(input.below(8));
  const behind = input.take(input.below(8));
  const payload = input.rest();
  const bytes = Buffer.concat([before, payload, behind]);
  const alone = resultOf(() => operation.decode(payload, 0, payload.length));
  const within = resultOf(() => operation.decode(bytes, before.length, before.length + payload.length));
  same(within, alone, `an answer to ${typeName(operation.type)} within other bytes`);
}

function resultOf(decode: () => unknown): unknown {
  try {
    return decode();
  } catch (error) {
    if (PvbusError.is(error)) return error.code;
    throw error;
  }
}

function refusal(input: Input): void {
  const type = input.pick(TYPES) as XsType;
  const path = `/${"a".repeat(input.pick([0, 10, 1001]))}${input.word16()}`;
  const error = refusalError(type, input.rest().toString("latin1"), path);
  holds(PvbusError.is(error) && typeof error.code === "string", "a refusal without a code");
  holds(error.message.length < 1000, "a refusal of more than a kilobyte");
}

function paths(input: Input): void {
  const node = input.field().toString("utf8");
  const path = input.rest16();
  isAtOrBelow(path, node);
  withoutSlash(path);
  for (const syntax of [keySyntax(false), keySyntax(true)]) {
    const place = keyedChild({ path: "data", key: "data" }, node, syntax);
    if (place !== undefined)
      same(
        resultOf(() => syntax.pathOf(place.key)),
        place.path,
        "the path of a listed key",
      );
  }
  const layout = portableLayout(keySyntax(true));
  layout.hostKeys("ns", path);
  resultOf(() => keySyntax(true).pathOf(path));
  checkPath(path);
  holds(path.length <= XENSTORE_ABS_PATH_MAX, "a path beyond the limit");
  checkNodePath(path);
  if (/^[\w-]+$/.test(node)) checkPath(childPath(path.slice(0, 100).replace(/\/$/, "") || "/", node));
}

function names(input: Input): void {
  const isPath = input.flag();
  const text = input.rest16();
  decodeName(text);
  decodePath(text);
  if (isPath) {
    const path = encodePath(text);
    holds(/^[A-Za-z0-9_@/-]*$/.test(path), "an encoded path that no daemon takes");
    same(decodePath(path), text, "a path encoded and decoded");
    return;
  }
  const name = encodeName(text);
  holds(/^[A-Za-z0-9_@-]+$/.test(name), "an encoded name that no daemon takes");
  same(decodeName(name), text, "a name encoded and decoded");
}

function permissions(input: Input): void {
  const permission = parsePermission(input.rest().toString("latin1"));
  if (permission.domain > 0xffff) return;
  same(parsePermission(formatPermission(permission)), permission, "permissions written and read");
}

/** Paths of watch events that a client keeps in a tree. */
function tree(input: Input): void {
  const known = new PathTree();
  const model = new Set<string>();
  while (input.left > 0) {
    const path = input.field().toString("latin1").split("/").slice(0, 20);
    if (input.flag()) {
      known.add(path);
      for (let end = 1; end <= path.length; end++) model.add(JSON.stringify(path.slice(0, end)));
    } else {
      known.remove(path);
      const text = JSON.stringify(path).slice(0, -1);
      for (const each of [...model])
        if (each === `${text}]` || each.startsWith(`${text},`)) model.delete(each);
    }
  }
  same(
    [...known.below()].map(({ names }) => JSON.stringify(names)).sort(),
    [...model].sort(),
    "the nodes of a tree",
  );
}

function facts(input: Input): void {
  const { vmId } = factsOf(input.word16(), input.rest().toString("utf8"));
  holds(vmId === undefined || vmId.length === 36, "an id that is none");
}

/** The drivers of OpenBSD and Windows give a node as bytes that are a value or a listing. */
async function drivers(input: Input): Promise<void> {
  const answers = [input.field(), input.field()];
  let reads = 0;
  const next = (): Buffer => answers[reads++ % 2] as Buffer;
  const device = { type: () => "Xen", read: next, write: next, close: () => undefined };
  const openbsd = new OpenbsdDevice({ paths: () => ["/dev/pvbus0"], open: () => device });
  const windows = new XenifaceDriver({
    control: async () => next(),
    close: async () => undefined,
  } as WindowsDevice);
  for (const access of [openbsd, windows]) {
    const node = await access.look("data", true, new Call());
    holds(node !== undefined && !node.names.includes(""), "a node with a child without a name");
    await access.close();
  }
}

/** What meets a XenStore daemon's bytes and words. */
export const XEN: readonly Target[] = [
  { name: "xen-stream", run: stream },
  { name: "xen-strings", run: strings, seeds: () => ["\0one\0two\0", "\x02one\0two\0three\0"] },
  {
    name: "xen-directory-part",
    run: directoryPart,
    seeds: () => ["\0\0\0\x0012\0a\0b\0\0", "\0\0\0\x00007\0ab\0"],
  },
  {
    name: "xen-answers",
    run: answers,
    seeds: () =>
      OPERATIONS.flatMap((_, at) =>
        ["OK\0", "n0\0r7\0", "/local/domain/1\0", "12\0", "T\0"].map(
          (text) => `${String.fromCharCode(at)}\0\0${text}`,
        ),
      ),
  },
  { name: "xen-refusal", run: refusal },
  {
    name: "xen-paths",
    run: paths,
    seeds: () => ["\x01a\0data/a", "\x02@b\0/local/domain/1/x", "\0\0@releaseDomain"],
  },
  { name: "xen-names", run: names, seeds: () => ["\0\0com.example", "\x01\0a.b/c@d", "\0\0a@2eb"] },
  { name: "xen-permissions", run: permissions, seeds: () => ["n0", "r65535", "b7"] },
  { name: "xen-drivers", run: drivers, isAsync: true, seeds: () => ["\x03a\nb\x05a\0bc\0"] },
  { name: "xen-known-tree", run: tree, seeds: () => ["\x03a/b\x01\x01a\x01\x03a/b\0"] },
  { name: "xen-facts", run: facts, seeds: () => ["\x02\0v/vm/00000000-0000-0000-0000-000000000000"] },
];
