import { spawnSync } from "node:child_process";
import { expect } from "chai";
import { MemoryProvider } from "../../../providers/testing.js";
import { runHostctl } from "../../../src/cli/hostctl/run.js";
import { jsonLogger, stderrLogger } from "../../../src/cli/io/log.js";
import { heading, printed, type Sink, stackText, writeData } from "../../../src/cli/io/output.js";
import type { Host } from "../../../src/index.js";
import { pvbusError } from "../../../src/index.js";
import { run } from "../../support/command-line.js";

/** What drives a terminal, turns text round or ends a line where none ends. */
const HOSTILE = "\x1b[2J\u009b31m\u202e\u2066\u2028\u2029\u0085\r\x07\x7f\u{e0041}";
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not come through
const DANGEROUS = /[\x00-\x08\x0b-\x1f\x7f-\x9f\p{Cf}\u2028\u2029]/u;

/** A store whose reading fails as the test says. */
function failing(error: () => unknown) {
  return class extends MemoryProvider {
    constructor(host?: Host) {
      super(host, { given: {} });
    }
    override async open(): Promise<never> {
      throw error();
    }
  };
}

const ours = failing(() => pvbusError("ERR_UNAVAILABLE", `it said ${HOSTILE}\npvbus: all is well`));
const nobodys = failing(() => new Error(`a bug ${HOSTILE}\n    at somewhere`));

function collected(isTTY: boolean): { sink: Sink; text: () => string } {
  const parts: Buffer[] = [];
  return {
    sink: { isTTY, write: (data) => parts.push(Buffer.from(data as string)) },
    text: () => Buffer.concat(parts).toString(),
  };
}

describe("what pvbus prints", () => {
  describe("printed", () => {
    it("escapes text, whoever wrote it, and passes data as it is", () => {
      for (const isTTY of [true, false]) {
        const { sink, text } = collected(isTTY);
        printed(sink).write(`a ${HOSTILE}\n\tb\\`);
        expect(text()).not.to.match(DANGEROUS);
        expect(text()).to.match(/^a [^\n]*\n\tb\\$/);
      }
      const { sink, text } = collected(false);
      printed(sink).write(Buffer.from(HOSTILE));
      expect(text()).to.equal(HOSTILE);
    });

    it("leaves the paint of headings on a terminal, and nothing of it elsewhere", () => {
      const { sink, text } = collected(true);
      const safe = printed(sink);
      safe.write(`${heading(safe, {})("pvbus0")} \x1b[2J\n`);
      expect(text()).to.equal("\x1b[1mpvbus0\x1b[0m \\u{1b}[2J\n");
      const pipe = collected(false);
      printed(pipe.sink).write("\x1b[1mx\x1b[0m");
      expect(pipe.text()).to.equal("\\u{1b}[1mx\\u{1b}[0m");
    });

    it("changes nothing that was escaped before", () => {
      const { sink, text } = collected(false);
      const once = printed(sink);
      printed(printed(once)).write(HOSTILE);
      const again = collected(false);
      printed(again.sink).write(HOSTILE);
      expect(text()).to.equal(again.text());
    });
  });

  it("writeData gives a program the very bytes, a terminal none that drive it", () => {
    for (const data of [HOSTILE, Buffer.from(HOSTILE)]) {
      const pipe = collected(false);
      writeData(printed(pipe.sink), data);
      expect(pipe.text()).to.equal(HOSTILE);
      const terminal = collected(true);
      writeData(printed(terminal.sink), data);
      expect(terminal.text()).not.to.match(DANGEROUS);
    }
  });

  it("stackText keeps a message to its line", () => {
    const lines = stackText(new Error("one\n    at two")).split("\n");
    expect(lines[0]).to.equal("Error: one\\n    at two");
    expect(stackText("no error\n")).to.equal("no error\\n");
    expect(stackText(new Error(""))).to.match(/^Error/);
  });

  for (const verbose of [[], ["-v"]]) {
    it(`shows errors ${verbose.join("")} without anything that drives a terminal or forges a line`, async () => {
      const { code, stderr } = await run(["-t", "memory", "get", "k", ...verbose], { provider: ours });
      expect(code).to.equal(1);
      expect(stderr).not.to.match(DANGEROUS);
      expect(stderr).not.to.match(/^pvbus: all is well/m);
      if (verbose.length > 0) expect(stderr).to.match(/^ {4}at /m);
    });

    it(`gives with --json ${verbose.join("")} lines of JSON on standard error and nothing else`, async () => {
      const { code, stderr } = await run(["-t", "memory", "get", "k", "--json", ...verbose], {
        provider: ours,
      });
      expect(code).to.equal(1);
      expect(stderr).not.to.match(DANGEROUS);
      const documents = stderr
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line));
      const { error } = documents.at(-1);
      expect(error.message).to.equal(`it said ${HOSTILE}\npvbus: all is well`);
      expect("stack" in error).to.equal(verbose.length > 0);
    });
  }

  it("gives messages of -v as JSON too where everything is to be", async () => {
    const sysroot = process.cwd();
    const { stderr } = await run(["detect", "--json", "-v"], { env: { PVBUS_SYSROOT: sysroot } });
    const documents = stderr
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(documents.length).to.be.greaterThan(0);
  });

  it("hostctl's messages are escaped, its data is not", async () => {
    const [stdout, stderr] = [collected(false), collected(true)];
    const world = {
      stdout: stdout.sink,
      stderr: stderr.sink,
      readInput: async () => new Uint8Array(),
      devices: {
        open: async () => ({
          type: () => `VMware${HOSTILE}`,
          read: async () => new Uint8Array(),
          write: async () => new Uint8Array(),
        }),
      },
    };
    expect(await runHostctl(["-t"], world)).to.equal(0);
    expect(stdout.text()).to.equal(`/dev/pvbus0: VMware${HOSTILE}\n`);
    expect(await runHostctl(["-o", `/nowhere/${HOSTILE}`, "-t"], world)).to.equal(1);
    expect(stderr.text()).to.match(/^hostctl: fopen: /);
    expect(stderr.text()).not.to.match(DANGEROUS);
  });

  describe("loggers", () => {
    const circle: Record<string, unknown> = { text: HOSTILE };
    circle["self"] = circle;
    const fields = { deep: { big: 1n, failure: new Error(HOSTILE) }, circle, [`name${HOSTILE}`]: HOSTILE };

    it("never fail for what they are given, and drive no terminal", () => {
      const { sink, text } = collected(false);
      for (const logger of [stderrLogger(sink), jsonLogger(sink, { now: () => 0 }, true)])
        for (const level of ["debug", "info", "warn", "error"] as const) {
          logger[level](`event ${HOSTILE}`, fields);
          logger[level](`event ${HOSTILE}`, { deep: fields.deep });
        }
      expect(text()).not.to.match(DANGEROUS);
      expect(text().trimEnd().split("\n")).to.have.length(16);
      for (const line of text().trimEnd().split("\n").slice(8)) expect(JSON.parse(line)).to.be.an("object");
    });
  });

  describe("of errors that nobody knows", () => {
    it("is escaped as well", async () => {
      let thrown: unknown;
      await run(["-t", "memory", "get", "k"], { provider: nobodys }).catch((error) => {
        thrown = error;
      });
      expect(thrown).to.be.instanceOf(Error);
    });

    const inProcess = (body: string, json: boolean) =>
      spawnSync(
        process.execPath,
        [
          "--input-type=module",
          "-e",
          `import { startProcess } from ${JSON.stringify(new URL("../../../src/cli/io/process.js", import.meta.url).href)};
          const hostile = JSON.parse(${JSON.stringify(JSON.stringify(HOSTILE))});
          startProcess("pvbus", async () => { ${body} }, ${json});`,
        ],
        { encoding: "utf8" },
      );
    for (const [what, body] of [
      ["thrown by the program", "throw new Error(hostile)"],
      ["thrown by a callback", "setTimeout(() => { throw new Error(hostile); }); return 0"],
      ["of a promise that nobody awaits", "Promise.reject(new Error(hostile)); return 0"],
      ["that are no errors", "throw hostile"],
    ] as const) {
      it(`is escaped where they are ${what}`, () => {
        const { stderr, status } = inProcess(body, false);
        expect(status).to.equal(1);
        expect(stderr).to.match(/^pvbus: internal error: /);
        expect(stderr).not.to.match(DANGEROUS);
      });

      it(`is JSON with --json where they are ${what}`, () => {
        const { stderr, status } = inProcess(body, true);
        expect(status).to.equal(1);
        expect(stderr).not.to.match(DANGEROUS);
        expect(JSON.parse(stderr).error).to.include({ code: null, message: "internal error" });
      });
    }

    it("and Node's own warnings take the same way", () => {
      const plain = inProcess("process.emitWarning(hostile); return 0", false);
      expect([plain.status, plain.stderr.startsWith("pvbus: warning: ")]).to.deep.equal([0, true]);
      expect(plain.stderr).not.to.match(DANGEROUS);
      expect(JSON.parse(inProcess("process.emitWarning(hostile); return 0", true).stderr).warning).to.equal(
        HOSTILE,
      );
    });
  });
});
