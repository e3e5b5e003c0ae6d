import { expect } from "chai";
import {
  type CheckedOptions,
  checkOptions,
  type GivenOptions,
  type OptionSchema,
  optionFromText,
  optionRows,
} from "../../src/base/options.js";

const SCHEMA = {
  durable: { kind: "boolean", line: "wait for the disk", default: false },
  transport: { kind: "choice", choices: ["auto", "vsock"], line: "the way to the host", default: "auto" },
  pollMs: { kind: "number", line: "first pause", default: 250, least: 10, most: 1000 },
  ratio: { kind: "number", line: "a share", whole: false, least: 0 },
  namespace: { kind: "text", line: "namespace", default: "org.pvbus", pattern: /^[a-z0-9.]{1,48}$/ },
  directory: { kind: "text", line: "pool directory", refusal: "must be a path" },
  writablePools: { kind: "list", of: "pool names", line: "pools to write" },
} as const satisfies OptionSchema;

const check = (given?: Record<string, unknown>) => checkOptions("demo", SCHEMA, given);
const read = (name: string, text: string): unknown => optionFromText("demo", SCHEMA, name, text);

describe("option schema", () => {
  it("adds defaults, and gives the types that follow from it", () => {
    const options: CheckedOptions<typeof SCHEMA> = check({ pollMs: 20, directory: "/x", durable: undefined });
    const {
      transport,
      pollMs,
      directory,
    }: { transport: "auto" | "vsock"; pollMs: number; directory?: string } = options;
    expect([transport, pollMs, directory]).to.deep.equal(["auto", 20, "/x"]);
    expect(options).to.deep.equal({
      durable: false,
      transport: "auto",
      pollMs: 20,
      namespace: "org.pvbus",
      directory: "/x",
    });
    const given: GivenOptions<typeof SCHEMA> = { writablePools: ["Guest"], transport: undefined };
    expect(check(given)).to.have.property("writablePools").that.deep.equals(["Guest"]);
  });

  for (const [given, message] of [
    [{ durable: 1 }, "demo option durable must be true or false"],
    [{ transport: "x" }, "demo option transport is one of auto, vsock"],
    [{ pollMs: "20" }, "demo option pollMs must be a whole number from 10 to 1000"],
    [{ pollMs: 20.5 }, "demo option pollMs must be a whole number from 10 to 1000"],
    [{ pollMs: Number.NaN }, "demo option pollMs must be a whole number from 10 to 1000"],
    [{ ratio: -1 }, "demo option ratio must be a number, 0 or more"],
    [{ namespace: "" }, "demo option namespace must be a name, such as org.pvbus"],
    [{ namespace: "A" }, "demo option namespace must be a name, such as org.pvbus"],
    [{ directory: "" }, "demo option directory must be a path"],
    [{ directory: null }, "demo option directory must be a path"],
    [{ writablePools: "Guest" }, "demo option writablePools must be a list of pool names"],
    [{ writablePools: ["Guest", 1] }, "demo option writablePools must be a list of pool names"],
    [
      { Durable: true },
      "demo has no option Durable; it has durable, transport, pollMs, ratio, namespace, directory, writablePools",
    ],
  ] as const)
    it(`refuses ${JSON.stringify(given)}`, () => {
      expect(() => check(given)).to.throw(TypeError, message);
    });

  it("has no option by the name of a member of every object", () => {
    for (const name of ["constructor", "__proto__", "toString", "hasOwnProperty"]) {
      const given = JSON.parse(`{"${name}":1}`);
      expect(() => check(given)).to.throw(TypeError, `demo has no option ${name}`);
      expect(() => read(name, "1")).to.throw(TypeError, `demo has no option ${name}`);
    }
    expect(() => checkOptions("none", {}, { x: 1 })).to.throw("none has no option x; it has none");
  });

  it("reads the command line's text by kind, so that 123 and true may stay texts", () => {
    expect(read("namespace", "123")).to.equal("123");
    expect(read("namespace", "true")).to.equal("true");
    expect(read("pollMs", "123")).to.equal(123);
    expect(read("ratio", "0.25")).to.equal(0.25);
    expect([read("durable", "true"), read("durable", "false")]).to.deep.equal([true, false]);
    expect(read("writablePools", "Guest,External")).to.deep.equal(["Guest", "External"]);
    for (const [name, text] of [
      ["durable", "yes"],
      ["durable", ""],
      ["pollMs", ""],
      ["pollMs", "1e3"],
      ["pollMs", "0x20"],
      ["pollMs", "9"],
      ["transport", "backdoor"],
      ["namespace", "a/b"],
      ["directory", ""],
    ] as const)
      expect(() => read(name, text), `${name}=${text}`).to.throw(TypeError, `demo option ${name}`);
  });

  it("is told by rows for help and documentation", () => {
    expect(optionRows(SCHEMA).map((row) => [row.name, row.takes, row.default])).to.deep.equal([
      ["durable", "true|false", "false"],
      ["transport", "auto|vsock", "auto"],
      ["pollMs", "NUMBER", "250"],
      ["ratio", "NUMBER", undefined],
      ["namespace", "TEXT", "org.pvbus"],
      ["directory", "TEXT", undefined],
      ["writablePools", "TEXT,TEXT", undefined],
    ]);
    expect(optionRows(SCHEMA)[0]?.line).to.equal("wait for the disk");
  });
});
