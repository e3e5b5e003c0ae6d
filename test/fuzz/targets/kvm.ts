import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { completeOptions } from "../../../providers/kvm/options.js";
import { parseKey, parsePrefix, qualifiedKey } from "../../../providers/kvm/protocol/keys.js";
import { hasMixedUuids, listedNames, readTable } from "../../../providers/kvm/protocol/smbios.js";
import { FWCFG_ROOT, FwCfgSource } from "../../../providers/kvm/static/fwcfg.js";
import { PvbusError } from "../../../src/base/errors.js";
import { parseSmbios, smbiosString, smbiosStructures } from "../../../src/base/firmware/smbios.js";
import { Call } from "../../../src/base/flow/call.js";
import { nodeHost } from "../../../src/base/host/node-host.js";
import { isChannelKey } from "../../../src/mdata/request.js";
import { finish } from "../../../src/mdata/steps.js";
import type { Input } from "../input.js";
import { holds, same, type Target } from "../target.js";

function structure(type: number, fields: string, ...strings: readonly string[]): Buffer {
  const body = Buffer.from(fields, "latin1");
  const set = strings.length === 0 ? "\0\0" : `${strings.map((each) => `${each}\0`).join("")}\0`;
  return Buffer.concat([Buffer.from([type, 4 + body.length, 0, 0]), body, Buffer.from(set, "latin1")]);
}

function table(): Buffer {
  return Buffer.concat([
    structure(0, "\x01\x02\0\0\x03", "QEMU", "1.0", "01/01/2020"),
    structure(1, "\x01\x02\x03\x04ABCDEFGHIJKLMNOP\x06\x05\x06", "V", "P", "1", "S", "K", "F"),
    structure(11, "\x02", "org.pvbus:key=value", "org.pvbus.binary:b=aGk="),
    structure(127, ""),
  ]);
}

function smbios(input: Input): void {
  const isMixed = input.flag();
  const bytes = input.rest();
  hasMixedUuids(bytes);
  let total = 0;
  for (const each of smbiosStructures(bytes)) {
    holds(each.fields.length >= 4 && each.fields.length <= 255, "a structure of another length");
    for (const string of each.strings) {
      holds(string.length > 0 && !string.includes(0), "a string with a NUL");
      total += string.length;
    }
    smbiosString(each, each.fields.length);
  }
  holds(total <= bytes.length, "more strings than bytes");
  const { values } = finish(readTable(bytes, isMixed));
  const listed = finish(listedNames(values));
  holds(
    listed.every((name) => values.has(name)),
    "a listed name without a value",
  );
  holds(new Set(listed).size === listed.length, "a name listed twice");
  parseSmbios(bytes);
}

function keys(input: Input): void {
  const text = input.pick(["", "meta/", "fwcfg/", "smbios/"]) + input.rest16();
  parsePrefix(text);
  isChannelKey(text);
  const { source, name } = parseKey(text);
  if (source !== undefined) same(parseKey(qualifiedKey(source, name)), { source, name }, "a key taken apart");
  else same(name, text, "a plain key");
  if (source === "meta") holds(isChannelKey(name), "a key that the channel cannot carry");
}

function options(input: Input): void {
  let given: unknown;
  try {
    given = JSON.parse(input.text());
  } catch {
    // Options are an object, whoever made it.
    return;
  }
  if (typeof given === "object" && given !== null) completeOptions(given as Record<string, unknown>);
}

const MEMORY = "/dev/shm";
let place: string | undefined;

/** A directory of this process, gone with it. */
function directory(): string {
  if (place !== undefined) return place;
  // In memory where the system has such a place: each input writes a dozen files.
  const made = mkdtempSync(join(existsSync(MEMORY) ? MEMORY : tmpdir(), "pvbus-fuzz-"));
  process.once("exit", () => rmSync(made, { recursive: true, force: true }));
  place = made;
  return made;
}

const NAMESPACE = "org.pvbus";
const MAX_BYTES = 256;
const SELECTORS = ["7", "32", "33"];
const NONE = Buffer.alloc(0);

/** The files of a captured fw_cfg device: names, sizes and content of any kind. */
async function fwcfg(input: Input): Promise<void> {
  const root = directory();
  const items = join(root, FWCFG_ROOT, "by_key");
  const count = input.below(SELECTORS.length + 1);
  for (const [at, selector] of SELECTORS.entries()) {
    const item = join(items, selector);
    mkdirSync(item, { recursive: true });
    // Without a name there is no item: making and removing directories would take most of the time.
    const front = at < count ? input.pick(["opt/org.pvbus/", "opt/", "etc/", ""]) : "";
    writeFileSync(join(item, "name"), Buffer.concat([Buffer.from(front), at < count ? input.field() : NONE]));
    const raw = at < count ? input.field() : NONE;
    const size = input.flag() ? `${raw.length}\n` : input.field();
    writeFileSync(join(item, "size"), size);
    writeFileSync(join(item, "raw"), raw);
  }
  const host = nodeHost({ sysroot: root, env: {} });
  const source = new FwCfgSource(host, { namespace: NAMESPACE, maxBytes: MAX_BYTES });
  const names: string[] = [];
  const call = new Call({ timeoutMs: 5000 });
  try {
    for await (const { name, value } of source.list("", call)) {
      holds((value?.length ?? 0) <= MAX_BYTES, "a value longer than the limit");
      source.keyOf(name);
      names.push(name);
    }
  } catch (error) {
    if (!PvbusError.is(error)) throw error;
  }
  holds(new Set(names).size === names.length, "a name listed twice");
  for (const name of [...names, source.nameOf("key")]) {
    const value = await source.read(name, call);
    holds((value?.length ?? 0) <= MAX_BYTES, "a value longer than the limit");
  }
}

/** What meets the firmware's tables and items of KVM and its kin, and its keys. */
export const KVM: readonly Target[] = [
  {
    name: "smbios-table",
    run: smbios,
    seeds: () => [Buffer.concat([Buffer.from([1]), table()]), "\x01_SM3_\0\0\x03\x02"],
  },
  { name: "kvm-keys", run: keys, seeds: () => ["\x01\0key", "\x02\0opt/org.pvbus/x", "\0\x01a\x85"] },
  {
    name: "kvm-options",
    run: options,
    throws: [TypeError],
    seeds: () => ['{"staticNamespace":"a.b","maxItemBytes":5}', '{"__proto__":1}', '{"constructor":1}'],
  },
  {
    name: "kvm-fwcfg",
    run: fwcfg,
    isAsync: true,
    seeds: () => ["\x02\0\0\x03key\x05value\x01\x01\x03\x02ab\x01x\0\x01" + "5"],
  },
];
