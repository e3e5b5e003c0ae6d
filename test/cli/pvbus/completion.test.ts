import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { encodeRecord } from "../../../providers/hyperv/protocol/record.js";
import { bash, PROGRAM, run } from "../../support/command-line.js";
import { PoolTree } from "../../support/pools.js";

const record = (key: string): Buffer => encodeRecord({ key: Buffer.from(key), value: Buffer.from("v") });

describe("bash completion", () => {
  let tree: PoolTree;
  let directory: string;
  beforeEach(() => {
    tree = new PoolTree();
    directory = mkdtempSync(join(tmpdir(), "pvbus-completion-"));
    mkdirSync(join(directory, "bin"));
    symlinkSync(PROGRAM, join(directory, "bin/pvbus"));
  });
  afterEach(async () => {
    rmSync(directory, { recursive: true });
    await tree[Symbol.asyncDispose]();
  });

  /** Completes the last of the words, as bash does when the user presses the key. */
  function complete(words: readonly string[], env: NodeJS.ProcessEnv = {}): string[] {
    const quoted = words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
    const { stdout } = bash(
      `source <(pvbus completion bash); COMP_WORDS=(${quoted}); COMP_CWORD=${words.length - 1}
_pvbus 2>/dev/null; printf '%s\\n' "\${COMPREPLY[@]}"`,
      { PATH: `${join(directory, "bin")}:${process.env["PATH"]}`, ...env },
    );
    return stdout.split("\n").filter(Boolean);
  }

  it("runs nothing that stands in a key", () => {
    const canary = join(directory, "canary");
    tree.put(0, Buffer.concat([record(`$(touch ${canary})`), record(`\`touch ${canary}\``), record("role")]));
    const keys = complete(["pvbus", "get", "Ext"], { PVBUS_SYSROOT: tree.sysroot });
    expect(existsSync(canary)).to.equal(false);
    expect(keys).to.have.length(3);
    // What the shell makes of the completed word is the key again, not its outcome.
    expect(bash(`printf %s ${keys[0]}`).stdout).to.equal(`External/$(touch ${canary})`);
    expect(existsSync(canary)).to.equal(false);
  });

  it("quotes keys with spaces and leaves out those that cannot be typed", () => {
    tree.put(0, Buffer.concat([record("two words"), record("line\nExternal/forged"), record("a=b")]));
    const env = { PVBUS_SYSROOT: tree.sysroot };
    expect(complete(["pvbus", "get", ""], env)).to.deep.equal(["External/two\\ words"]);
    expect(complete(["pvbus", "get", "External/two\\ w"], env)).to.deep.equal(["External/two\\ words"]);
  });

  it("looks where the options before the word say", () => {
    tree.put(0, record("role"));
    const found = ["External/role"];
    expect(complete(["pvbus", "--json", "--sysroot", tree.sysroot, "get", ""])).to.deep.equal(found);
    expect(complete(["pvbus", "get", "--sysroot", "=", tree.sysroot, "Ext"])).to.deep.equal(found);
    expect(
      complete(["pvbus", "-t", "Hyper-V", "-o", "durable", "=", "true", "rm", "--sysroot", tree.sysroot, ""]),
    ).to.deep.equal(found);
  });

  it("offers commands, options, shells and directories where they belong", () => {
    expect(complete(["pvbus", "-t", "Hyper-V", "de"])).to.deep.equal(["detect", "demo"]);
    expect(complete(["pvbus", "ls", "--js"])).to.deep.equal(["--json"]);
    expect(complete(["pvbus", "completion", ""])).to.deep.equal(["bash", "zsh", "fish"]);
    expect(complete(["pvbus", "--sysroot", join(directory, "b")])).to.deep.equal([join(directory, "bin")]);
    expect(complete(["pvbus", "set", "Guest/k", ""], { PVBUS_SYSROOT: tree.sysroot })).to.deep.equal([]);
  });

  it("of the other shells knows every command and option too", async () => {
    for (const shell of ["zsh", "fish"]) {
      const { stdout } = await run(["completion", shell]);
      expect(stdout).to.include("sysroot").and.to.include("detect get set rm ls watch");
    }
  });
});
