import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { BUILT_IN } from "../../../src/composition.js";
import type { PortableHost } from "../../../src/contract/portable-host.js";
import { joinFromHost, splitForHost } from "../../../src/index.js";
import { PROGRAM, run } from "../../support/command-line.js";
import { codeOf } from "../../support/memory-interface.js";
import { pending } from "../../support/pending.js";
import { ROOT } from "../../support/pools.js";

const NS = "com.example.agent";
/** What shells, PowerShell and the tools have their own opinion of; long enough to be split everywhere. */
const HOSTILE = "it's \"$HOME\" `id` \\ %s 'x'\n\n€ \u{1f600}\t= : | #\n";
const LONG = HOSTILE.repeat(1500);
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

function toolOf(id: string): Promise<PortableHost> {
  const tool = BUILT_IN.find((each) => each.id === id)?.portableHost;
  if (tool === undefined) throw new Error(`no tool for ${id}`);
  return tool.load();
}

const text = (value: Uint8Array | undefined): string | undefined => value && Buffer.from(value).toString();

describe("the host's tools", () => {
  let folder: string;
  let bin: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "pvbus-host-tool-"));
    bin = join(folder, "bin");
    mkdirSync(bin);
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  function program(name: string, script: string): void {
    writeFileSync(join(bin, name), script);
    chmodSync(join(bin, name), 0o755);
  }

  /** Runs a script as its usage says. */
  function sh(script: string, ...args: readonly string[]): SpawnSyncReturns<string> {
    writeFileSync(join(folder, "give.sh"), script);
    const env = { ...process.env, PATH: `${bin}:${process.env["PATH"]}` };
    const done = spawnSync("sh", [join(folder, "give.sh"), ...args], { encoding: "utf8", env });
    expect(done.status, done.stderr).to.equal(0);
    return done;
  }

  describe("govc", () => {
    /** Keeps extra configuration as files; prints it as govc does: a line, or JSON. */
    const GOVC = `#!/bin/sh
store=${"$"}{0%/bin/govc}/vm
mkdir -p "$store"
case $1 in
vm.info) for each in "$store"/*; do [ -e "$each" ] && printf '    %s:    %s\\n' "${"$"}{each##*/}" "$(cat "$each")"; done ;;
vm.change) key=${"$"}{5%%=*} value=${"$"}{5#*=}
  if [ -z "$value" ]; then rm -f "$store/$key"; else printf %s "$value" > "$store/$key"; fi ;;
esac
`;
    const stored = (): Record<string, string> => {
      const vm = join(folder, "vm");
      return Object.fromEntries(readdirSync(vm).map((key) => [key, readFileSync(join(vm, key), "utf8")]));
    };
    const json = (): Uint8Array =>
      bytes(
        JSON.stringify({
          virtualMachines: [
            { config: { extraConfig: Object.entries(stored()).map(([key, value]) => ({ key, value })) } },
          ],
        }),
      );

    it("is given long and short values one after the other, and nothing is left of the old ones", async () => {
      const host = await toolOf("vmware");
      program("govc", GOVC);
      const keys: string[][] = [];
      for (const value of [LONG, "short and $plain", `${LONG}more`, LONG, "pvbus-set-1 looks like one", ""]) {
        sh(await splitForHost(host, NS, "config", bytes(value)), "/dc/vm/web-1");
        expect(text(await joinFromHost(host, NS, "config", json()))).to.equal(value);
        keys.push(Object.keys(stored()).map((key) => key.replace(`guestinfo.${NS}.`, "")));
      }
      expect(keys).to.deep.equal([
        ["config", "config__a_1", "config__a_2", "config__a_3"],
        ["config"],
        ["config", "config__a_1", "config__a_2", "config__a_3"],
        ["config", "config__b_1", "config__b_2", "config__b_3"],
        ["config", "config__a_1"],
        ["config"],
      ]);
      expect(await joinFromHost(host, NS, "other", json())).to.equal(undefined);
    });

    it("is read in any case of keys, and from a .vmx file", async () => {
      const host = await toolOf("vmware");
      const vmx = `displayName = "x"\nguestinfo.${NS}.Name = "a|22b|0Ac"\n`;
      expect(text(await joinFromHost(host, NS, "name", bytes(vmx)))).to.equal('a"b\nc');
    });
  });

  describe("pvbus host", () => {
    it("is given values, and read", async function () {
      this.timeout(60_000);
      const host = await toolOf("kvm");
      program("pvbus", `#!/bin/sh\nexec "${process.execPath}" "${PROGRAM}" "$@"\n`);
      const state = join(folder, "state");
      // Each key is a process.
      for (const value of [HOSTILE.repeat(500), "short"]) {
        sh(await splitForHost(host, NS, "config", bytes(value)), "web-1", state);
        const listing = spawnSync(
          process.execPath,
          [PROGRAM, "host", "ls", "--json", "--state", state, "--guest", "web-1"],
          { maxBuffer: 1 << 24 },
        );
        expect(text(await joinFromHost(host, NS, "config", listing.stdout))).to.equal(value);
      }
      const { stdout } = spawnSync(
        process.execPath,
        [PROGRAM, "host", "ls", "--state", state, "--guest", "web-1"],
        { encoding: "utf8" },
      );
      expect(stdout).to.equal(`${NS}/config=short\n`);
      expect(text(await joinFromHost(host, NS, "config", bytes(stdout)))).to.equal("short");
    });
  });

  describe("PowerShell", () => {
    it("gets every value in base64, under keys of plain letters", async () => {
      const host = await toolOf("hyperv");
      const script = await splitForHost(host, NS, "config", bytes(LONG));
      const chunks = [...script.matchAll(/^Write-Pair "(\S+)" \(Text '([A-Za-z0-9+/=]*)'\)$/gm)];
      const whole = Buffer.concat(chunks.map(([, , base64 = ""]) => Buffer.from(base64, "base64")));
      expect(whole.toString()).to.equal(LONG);
      expect(chunks.every(([, , base64 = ""]) => Buffer.from(base64, "base64").length <= 1022)).to.equal(
        true,
      );
      expect(chunks.map(([, key]) => key)).to.deep.equal(
        chunks.map((_, at) => `${NS}/config__\${slot}_${at + 1}`),
      );
      expect(script).to.match(
        new RegExp(
          `^Write-Pair '${NS}/config' "pvbus-set-1 \\$slot ${chunks.length} ${whole.length} [0-9a-f]{32}"$`,
          "m",
        ),
      );
      expect(script.indexOf("param("), "what comes first in a script").to.be.lessThan(
        script.indexOf("function"),
      );
      const short = await splitForHost(host, NS, "config", bytes("it's"));
      expect(short).to.include(
        `Write-Pair '${NS}/config' (Text '${Buffer.from("it's").toString("base64")}')`,
      );
    });

    const ITEM = (name: string, data: string): string =>
      `<INSTANCE CLASSNAME="Msvm_KvpExchangeDataItem"><PROPERTY NAME="Caption" TYPE="string"></PROPERTY>` +
      `<PROPERTY NAME="Data" TYPE="string"><VALUE>${data}</VALUE></PROPERTY>` +
      `<PROPERTY NAME="Name" TYPE="string"><VALUE>${name}</VALUE></PROPERTY>` +
      `<PROPERTY NAME="Source" TYPE="uint16"><VALUE>1</VALUE></PROPERTY></INSTANCE>`;

    it("prints items that are joined: WMI's, in UTF-16 too, JSON, and a guest of OpenBSD's", async () => {
      const host = await toolOf("hyperv");
      const printed = `${ITEM(`${NS}/name`, "&lt;a&gt; &amp;amp; &#x20AC;&quot;")}\r\n${ITEM(`${NS}:bsd`, "theirs")}\r\n`;
      const wide = Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from(printed, "utf16le")]);
      for (const form of [bytes(printed), wide])
        expect(text(await joinFromHost(host, NS, "name", form))).to.equal('<a> &amp; €"');
      expect(text(await joinFromHost(host, NS, "bsd", bytes(printed)))).to.equal("theirs");
      const json = bytes(JSON.stringify({ Name: `${NS}/name`, Data: "one" }));
      expect(text(await joinFromHost(host, NS, "name", json))).to.equal("one");
      const lines = bytes(`{"Name":"${NS}/name","Data":"one"}\n{"Name":"${NS}/more","Data":"two"}\n`);
      expect(text(await joinFromHost(host, NS, "more", lines))).to.equal("two");
    });
  });

  it("refuse what is no portable value, and never join what does not belong together", async () => {
    const host = await toolOf("kvm");
    expect(await codeOf(splitForHost(host, NS, "config", new Uint8Array([0xff])))).to.equal(
      "ERR_VALUE_INVALID",
    );
    expect(await codeOf(splitForHost(host, NS, "config", bytes("a\0b")))).to.equal("ERR_VALUE_INVALID");
    expect(await codeOf(splitForHost(host, NS, "config", new Uint8Array((1 << 20) + 1).fill(65)))).to.equal(
      "ERR_VALUE_TOO_LONG",
    );
    expect(await codeOf(splitForHost(host, "a b", "config", bytes("x")))).to.equal("ERR_KEY_INVALID");
    expect(await codeOf(splitForHost(host, NS, "a__b", bytes("x")))).to.equal("ERR_KEY_INVALID");
    const head = `pvbus-set-1 a 1 5 ${"0".repeat(32)}`;
    const pairs = (...all: readonly (readonly [string, string])[]): Uint8Array =>
      bytes(JSON.stringify(all.map(([key, value]) => ({ key: `${NS}/${key}`, value }))));
    for (const torn of [pairs(["config", head]), pairs(["config", head], ["config__a_1", "other"])])
      expect(await codeOf(joinFromHost(host, NS, "config", torn))).to.equal("ERR_CONFLICT");
    expect(await codeOf(joinFromHost(host, NS, "config", pairs(["config", "pvbus-set-9"])))).to.equal(
      "ERR_CORRUPT",
    );
    expect(await codeOf(joinFromHost(host, NS, "config", bytes("[{")))).to.equal("ERR_VALUE_INVALID");
  });

  it("are named with --for; what is missing is said", async () => {
    const readInput = async (): Promise<Uint8Array> => bytes(`com.example.agent/report=done\n`);
    const join = await run(["portable", "join", "--for", "KVM", "-n", NS, "report"], { readInput });
    expect(join).to.deep.equal({ code: 0, stdout: "done\n", stderr: "" });
    const none = await run(["portable", "join", "--for", "kvm", "-n", NS, "other", "-"], { readInput });
    expect([none.code, none.stdout]).to.deep.equal([1, ""]);
    expect(none.stderr).to.include("no such key: other").and.include("pvbus host ls --json");
    for (const argv of [
      ["portable", "join", "-n", NS, "x"],
      ["portable", "split", "--for", "kvm", "x", "-"],
      ["portable", "split", "--for", "bochs", "-n", NS, "x", "-"],
      ["portable", "split", "--for", "kvm", "-n", NS, "x"],
    ])
      expect((await run(argv, { readInput })).code, argv.join(" ")).to.equal(2);
    const { stdout } = await run(["portable", "split", "--for", "kvm", "-n", NS, "x", "-", "--json"], {
      readInput,
    });
    expect(JSON.parse(stdout)).to.include({ key: "x", language: "sh", usage: "sh FILE GUEST STATE" });
  });

  describe("docs/portable-host.md", () => {
    const page = readFileSync(join(ROOT, "docs/portable-host.md"), "utf8");
    const block = (language: string, within: string): string => {
      const found = [...page.matchAll(/```(\w+)\n(.*?)```/gs)].find(
        ([, named, code = ""]) => named === language && code.includes(within),
      );
      return found?.[2] ?? "";
    };
    const values = [LONG, "short", HOSTILE.repeat(30), "pvbus-set-", ""];

    it("has Python that gives and reads as this program does", async function () {
      if (spawnSync("python3", ["--version"]).status !== 0) pending(this, "python3");
      const host = await toolOf("kvm");
      const code = `${block("python", "def give")}
import json, sys
store = {}
outcome = []
for value in json.load(sys.stdin):
    give(store.get, store.__setitem__, store.pop, "${NS}/config", value, 16384)
    assert read(store.get, "${NS}/config") == value
    outcome.append([{"key": key, "value": each} for key, each in store.items()])
json.dump(outcome, sys.stdout)
`;
      const { stdout, stderr } = spawnSync("python3", ["-c", code], {
        input: JSON.stringify(values),
        encoding: "utf8",
        maxBuffer: 1 << 26,
      });
      expect(stderr).to.equal("");
      const stores = JSON.parse(stdout) as { key: string }[][];
      for (const [at, store] of stores.entries())
        expect(text(await joinFromHost(host, NS, "config", bytes(JSON.stringify(store))))).to.equal(
          values[at],
        );
      // An empty text is a set of no chunks; a short one is a key alone.
      expect(stores.map(({ length }) => length)).to.deep.equal([6, 1, 1, 2, 1]);
    });

    it("has shell that gives and reads the same", async () => {
      const host = await toolOf("kvm");
      const store = join(folder, "store", NS);
      mkdirSync(store, { recursive: true });
      const code = (action: string): string => `set -u
get() { cat "$STORE/$1" 2>/dev/null; }
put() { printf %s "$2" > "$STORE/$1"; }
remove() { rm "$STORE/$1"; }
${block("sh", "give_file")}
${action}
`;
      const shell = (action: string): SpawnSyncReturns<string> =>
        spawnSync("sh", ["-c", code(action)], {
          encoding: "utf8",
          maxBuffer: 1 << 24,
          env: { ...process.env, STORE: join(folder, "store"), FILE: join(folder, "file") },
        });
      for (const value of ["it's \\ $x\n\n".repeat(900), "short", "line\n".repeat(700), ""]) {
        writeFileSync(join(folder, "file"), value);
        const gave = shell(`give_file ${NS}/config "$FILE" 1022`);
        expect(gave.stderr).to.equal("");
        expect(shell(`read_value ${NS}/config`).stdout).to.equal(value);
        const pairs = readdirSync(store).map((name) => ({
          key: `${NS}/${name}`,
          value: readFileSync(join(store, name), "utf8"),
        }));
        expect(text(await joinFromHost(host, NS, "config", bytes(JSON.stringify(pairs))))).to.equal(value);
        expect(pairs).to.have.length(1 + Math.ceil(value.length / 1022));
      }
      writeFileSync(join(store, "config"), "as it is\n");
      expect(shell(`read_value ${NS}/config`).stdout).to.equal("as it is\n");
      expect(shell(`read_value ${NS}/none`).status).to.equal(1);
    });
  });
});
