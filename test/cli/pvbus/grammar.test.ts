import { expect } from "chai";
import { MemoryProvider } from "../../../providers/testing.js";
import { COMMANDS } from "../../../src/cli/commands.js";
import { GLOBALS } from "../../../src/cli/grammar/globals.js";
import { commandHelp } from "../../../src/cli/grammar/help.js";
import { parse, valuesOf } from "../../../src/cli/grammar/parse.js";
import { type CommandWords, checkVocabulary, optionsOf } from "../../../src/cli/grammar/vocabulary.js";
import { BUILT_IN } from "../../../src/composition.js";
import { type OpenOptions, openPvbus } from "../../../src/index.js";
import { BARE, run } from "../../support/command-line.js";

const commands: readonly CommandWords[] = [...COMMANDS, ...BUILT_IN.flatMap(({ commands: own = [] }) => own)];

/** Parses against these commands: what was said, converted. */
function said(argv: readonly string[], known = commands) {
  const { command, action, args, globals, own } = parse(argv, {
    commands: known,
    manifests: BUILT_IN,
    providers: [],
  });
  return {
    command: [command?.name, action?.name].filter(Boolean).join(" "),
    args,
    options: { ...valuesOf(globals), ...valuesOf(own) },
  };
}

describe("the command line's grammar", () => {
  it("takes global options before and behind the command, a command's own behind it", () => {
    const same = { command: "watch", args: ["a"], options: { json: true, type: "KVM", count: 2 } };
    for (const argv of [
      ["--json", "-t", "KVM", "watch", "a", "--count", "2"],
      ["watch", "--count=2", "a", "--json", "--type=KVM"],
      ["-tKVM", "watch", "--json", "--count", "2", "--", "a"],
    ])
      expect(said(argv), argv.join(" ")).to.deep.equal(same);
    expect(() => said(["--count", "2", "watch"])).to.throw(
      "--count stands behind its command, one of: watch",
    );
    expect(() => said(["-d", "kvpd"])).to.throw("-d stands behind its command, one of: kvpd");
    expect(() => said(["get", "--count", "2", "a"])).to.throw("get has no option --count");
    expect(() => said(["host", "serve", "--count", "2"])).to.throw("host serve has no option --count");
    expect(() => said(["get", "-d", "a"])).to.throw("unknown option '-d'");
  });

  it("gives a command that runs a program all behind --, and none of it as an argument or option", () => {
    const sync = parse(["sync", "External", "--once", "--json", "--", "sh", "-c", "--", "--help"], {
      commands,
      manifests: BUILT_IN,
      providers: [],
    });
    expect([sync.args, sync.program]).to.deep.equal([["External"], ["sh", "-c", "--", "--help"]]);
    expect([...sync.own.keys(), ...sync.globals.keys()].map(({ name }) => name)).to.deep.equal([
      "once",
      "json",
    ]);
    const get = parse(["get", "--", "-x"], { commands, manifests: BUILT_IN, providers: [] });
    expect([get.args, get.program]).to.deep.equal([["-x"], []]);
    expect(
      commandHelp(
        { commands, manifests: BUILT_IN, providers: [] },
        commands.find(({ name }) => name === "sync") as CommandWords,
      ),
    ).to.match(/^Usage: pvbus sync \[prefix\|name\.\.\.\] \[options\] \[-- program\.\.\.\]\n/);
  });

  it("lets another command use a letter for something else", () => {
    const name: CommandWords = {
      name: "named",
      description: "x",
      args: [],
      options: [{ name: "namespace", short: "n", value: "NS", description: "x" }],
    };
    const known = [...commands, name];
    expect(said(["named", "-n", "org.example"], known).options).to.deep.equal({ namespace: "org.example" });
    expect(said(["kvpd", "-nd"], known).options).to.deep.equal({ "no-daemon": true, debug: true });
  });

  it("takes actions, and options of both the group and the action behind them", () => {
    expect(said(["host", "--state", "/s", "get", "k", "--guest", "a", "--guest=b"])).to.deep.equal({
      command: "host get",
      args: ["k"],
      options: { state: "/s", guest: ["a", "b"] },
    });
    expect(said(["kvp", "receive", "--quiet", "0.5"]).options).to.deep.equal({ quiet: 0.5 });
  });

  it("ends options with --, and takes a lone dash as a word", () => {
    expect(said(["set", "--", "-k", "--json"])).to.deep.equal({
      command: "set",
      args: ["-k", "--json"],
      options: {},
    });
    expect(said(["set", "k", "-"]).args).to.deep.equal(["k", "-"]);
    expect(said(["--", "get", "k"])).to.include({ command: "get" });
    expect(said(["get", "k", "--", "--", "-i"]).args).to.deep.equal(["k", "--", "-i"]);
  });

  it("takes a value that begins with a dash in --option=VALUE alone", () => {
    expect(said(["get", "k", "--channel=-x"]).options).to.deep.equal({ channel: "-x" });
    expect(said(["get", "k", "--channel", "-"]).options).to.deep.equal({ channel: "-" });
    for (const argv of [
      ["get", "k", "--channel", "-x"],
      ["get", "k", "-o", "--json"],
    ])
      expect(() => said(argv), argv.join(" ")).to.throw(/takes a value, and '.*' is an option; .*=/);
    for (const argv of [
      ["get", "k", "--channel"],
      ["get", "k", "-t"],
      ["get", "k", "--channel", "--"],
    ])
      expect(() => said(argv), argv.join(" ")).to.throw(/takes a value: /);
    expect(() => said(["get", "k", "--json=yes"])).to.throw("--json takes no value");
  });

  it("refuses a second one of what can be said once", () => {
    for (const argv of [
      ["-i", "pvbus0", "--interface", "pvbus1"],
      ["-t", "KVM", "-t", "Xen"],
      ["--channel=a", "--channel=b"],
      ["--sysroot", "/", "--sysroot", "/"],
      ["--timeout", "1", "--timeout", "1"],
    ])
      expect(() => said(["get", "k", ...argv]), argv.join(" ")).to.throw(
        /--\w+ is there twice; leave one out/,
      );
    expect(said(["ls", "-v", "-v", "-o", "a=1", "-oa=2"]).options).to.deep.equal({
      verbose: true,
      option: [
        ["a", "1"],
        ["a", "2"],
      ],
    });
  });

  it("has help in every position, and for an action", async () => {
    for (const argv of [
      ["help", "watch"],
      ["watch", "-h"],
      ["-h", "watch"],
      ["--json", "help", "watch"],
    ])
      expect((await run(argv)).stdout, argv.join(" ")).to.match(/^Usage: pvbus watch \[prefix\]/);
    expect((await run(["help", "host", "get"])).stdout).to.match(
      /^Usage: pvbus host get --state DIR --guest NAME KEY\n\nPrint the value of a guest's key\./,
    );
    expect((await run(["host", "--help"])).stdout).to.match(/Actions:\n {2}serve +serve guests/);
    expect(await run(["--help", "-t", "Nope"])).to.include({ code: 2, stdout: "" });
  });

  it("lists a type's settings in its help", async () => {
    for (const { type, options = {} } of BUILT_IN) {
      const { stdout } = await run(["--help", "-t", type]);
      for (const name of Object.keys(options)) expect(stdout, type).to.include(`-o ${name}=`);
    }
  });

  it("gives each option a value in all commands or in none, and hides no global one", () => {
    checkVocabulary(commands, ({ name }) => name);
    const valued = new Map<string, boolean>();
    for (const { name, value } of [...GLOBALS, ...commands.flatMap(optionsOf)]) {
      expect(valued.get(name) ?? value !== undefined, name).to.equal(value !== undefined);
      valued.set(name, value !== undefined);
    }
    const hides = { name: "x", description: "x", args: [], options: [{ name: "json", description: "x" }] };
    expect(() => checkVocabulary([...commands, hides], () => "me")).to.throw(/^me: the option --json of its/);
  });
});

describe("detection", () => {
  /** Runs a command on a memory store and returns how its bus was opened. */
  async function opened(...argv: readonly string[]): Promise<boolean | undefined> {
    const seen: OpenOptions[] = [];
    await run(argv, {
      provider: MemoryProvider,
      open: (options) => {
        seen.push(options);
        return openPvbus({ snapshot: BARE, ...options });
      },
    });
    expect(seen, argv.join(" ")).to.have.length(1);
    return seen[0]?.detect;
  }

  it("does not run for a store that the user names", async () => {
    for (const argv of [["get", "k"], ["set", "k", "v"], ["rm", "k"], ["ls"], ["chmod", "k", "n0"]])
      expect(await opened("-t", "Memory", ...argv), argv[0]).to.equal(false);
  });

  it("runs for what a confidential machine refuses", async () => {
    for (const argv of [["watch"], ["watch", "-n", "a"], ["get", "--wait", "guest/k"]])
      expect(await opened("-t", "Memory", ...argv, "--timeout", "0.05"), argv.join(" ")).to.equal(true);
  });

  it("runs where no type is named, for an interface's name, and for what tells of the machine", async () => {
    for (const argv of [["get", "k"], ["ls"], ["-t", "Memory", "-i", "pvbus0", "get", "k"]])
      expect(await opened(...argv), argv.join(" ")).to.equal(true);
    for (const command of ["detect", "doctor", "info"])
      expect(await opened("-t", "Memory", command), command).to.equal(true);
  });
});
