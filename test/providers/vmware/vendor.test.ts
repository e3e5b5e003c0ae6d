import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { VmxHost } from "../../../providers/testing.js";
import { isLong, seed } from "../../support/campaign.js";
import { type OpenVmTools, openVmTools } from "../../support/open-vm-tools.js";
import { pending } from "../../support/pending.js";
import { ROOT } from "../../support/pools.js";
import type { TrapSpec } from "../../support/trap-host/main.js";
import type { OwnOutcome, OwnStep } from "../../support/trap-host/ours.js";
import { type TrapRun, underVmware, whyNoTrapHost } from "../../support/trap-host/trap-host.js";
import { SimulatedVmx } from "../../support/vmware.js";

type Spec = Parameters<typeof underVmware>[1];

const OURS = join(ROOT, "dist/test/support/trap-host/ours.js");
const LONG = "0123456789".repeat(20_000);
const OPEN_FAILS: NonNullable<TrapSpec["faults"]> = Array.from({ length: 40 }, (_, count) => ({
  step: "OPEN",
  count,
  fault: "fail",
}));
const NO_REPLY: NonNullable<TrapSpec["faults"]> = Array.from({ length: 4 }, (_, count) => ({
  step: "RECVSIZE",
  count,
  fault: { ecx: 0x1_0000 },
}));

/** One line of the table: a command, the machine, and what is left by each program. */
interface Row {
  readonly what: string;
  readonly step: OwnStep;
  /** The command where a program takes the words themselves. */
  readonly command?: string;
  readonly spec?: Spec;
}

const get = (what: string, stored: string | undefined, spec: Spec = {}): Row => ({
  what,
  step: { verb: "get", key: "guestinfo.k" },
  spec: { ...spec, variables: stored === undefined ? {} : { "guestinfo.k": stored } },
});
const set = (what: string, key: string, value: string, spec: Spec = {}): Row => ({
  what,
  step: { verb: "set", key, value },
  spec,
});

const ROWS: readonly Row[] = [
  get("get `bar`", "bar"),
  get("get `grüß€` in locale C", "grüß€"),
  get("get `a`, NUL, `b`", "a\0b"),
  get("get `line`, line end", "line\n"),
  get("get an empty value", ""),
  get("get 200 000 bytes", LONG),
  get("get a key that is not there", undefined),
  get("get, denied to the backdoor", "bar", { privilegedCommands: ["info-get"] }),
  get("get, no channel is free", "bar", { faults: OPEN_FAILS }),
  get("get, the host has no reply", "bar", { faults: NO_REPLY }),
  set("set `b c`", "guestinfo.k", "b c"),
  set("set key `guestinfo.k x` to `y`", "guestinfo.k x", "y"),
  set("set, switched off by the host", "guestinfo.k", "v", { setInfoDisabled: true }),
  set("set 70 000 bytes", "guestinfo.k", "v".repeat(70_000)),
];

/** Words for what a program printed and how it ended. */
function ofTool({ report, stdout, stderr }: TrapRun, step: OwnStep): string {
  const ended = report.signal === undefined ? `exit ${report.code}` : `signal ${report.signal}`;
  const said = stderr.trim() === "" ? ended : `${ended} ${code(stderr.trim())}`;
  if (step.verb === "get") return report.code === 0 ? shown(stdout) : said;
  return said + effects(report.variables);
}

function effects(variables: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(variables);
  if (pairs.length === 0) return ", nothing set";
  return pairs
    .map(([key, value]) => `, ${code(`${key}=${shortened(Buffer.from(value, "base64").toString())}`)}`)
    .join("");
}

function ofOurs(outcome: OwnOutcome, { report }: TrapRun, step: OwnStep): string {
  if (outcome.code !== undefined) {
    const sent =
      report.commands.length === 0 && report.steps["SENDSIZE"] === undefined ? ", nothing sent" : "";
    return code(outcome.code) + sent;
  }
  if (step.verb === "set") return `done${effects(report.variables)}`;
  if (outcome.value === null) return "undefined";
  return shown(Buffer.from(outcome.value ?? "", "base64").toString());
}

const code = (text: string): string => `\`${text}\``;
const shortened = (text: string): string =>
  text.length > 40 ? `${text.slice(0, 8)}… (${text.length})` : text;
const shown = (text: string): string =>
  text === "" ? "nothing" : code(shortened(text).replace(/\n/g, "\\n").replace(/\0/g, "\\0"));

describe("VMware's own tools and ours under the trap host", function () {
  this.timeout(120_000);
  let tools: OpenVmTools;

  before(function () {
    const found = openVmTools();
    if ("why" in found) return pending(this, found.why);
    const why = whyNoTrapHost();
    if (why !== undefined) return pending(this, why);
    tools = found;
    // Where it could, the instructions would fault by themselves; in their place stand illegal ones, in memory alone.
    if (!/\bcpuid_fault\b/.test(readFileSync("/proc/cpuinfo", "latin1")))
      console.warn(
        "      this processor cannot make CPUID fault: its instructions are replaced as they are mapped",
      );
  });

  const rpctool = (text: string, spec: Spec = {}): Promise<TrapRun> =>
    underVmware([tools.program("vmware-rpctool"), text], {
      ...spec,
      env: { ...tools.env, LC_ALL: "C", ...spec.env },
    });
  const toolsd = (text: string, spec: Spec = {}): Promise<TrapRun> =>
    underVmware([tools.program("vmtoolsd"), "--cmd", text], { ...spec, env: { ...tools.env, LC_ALL: "C" } });
  const ours = async (
    steps: readonly OwnStep[],
    spec: Spec = {},
    options: object = {},
  ): Promise<{ run: TrapRun; outcomes: readonly OwnOutcome[] }> => {
    const run = await underVmware(
      [process.execPath, OURS, JSON.stringify(steps), JSON.stringify(options)],
      spec,
    );
    if (run.stdout === "")
      throw new Error(`ours ended by ${run.report.signal ?? run.report.code}: ${run.stderr}`);
    return { run, outcomes: JSON.parse(run.stdout) as OwnOutcome[] };
  };

  it("both take the machine for VMware's, and neither for one when it names itself QEMU's", async () => {
    expect((await underVmware([tools.program("vmware-checkvm")], { env: tools.env })).stdout).to.include(
      "(good)",
    );
    const kvm = { signature: "KVMKVMKVM\0\0\0" };
    const other = await rpctool("info-get guestinfo.k", kvm);
    expect([other.report.code, other.report.traps]).to.deep.equal([255, 0]);
    const script = `const { openPvbus } = await import(${JSON.stringify(`${ROOT}/dist/src/index.js`)});
      await using bus = await openPvbus({ interfaces: [{ type: "VMware" }] });
      await bus.primary.read("guestinfo.k").catch(({ code }) => console.log(code));`.replace(
      "await using",
      "const",
    );
    const own = await underVmware([process.execPath, "--input-type=module", "-e", script], kvm);
    expect([own.stdout, own.report.traps]).to.deep.equal(["ERR_NO_INTERFACE\n", 0]);
  });

  it("QEMU's imitation of the port, under VMware's name, is an imitation for ours; the tool prints NULL", async () => {
    const spec = { messages: false, variables: { "guestinfo.k": "v" } };
    expect((await rpctool("info-get guestinfo.k", spec)).stderr).to.include("NULL");
    const { outcomes } = await ours([{ verb: "get", key: "guestinfo.k" }], spec);
    expect(outcomes[0]).to.include({ code: "ERR_UNAVAILABLE" });
    expect(outcomes[0]?.message).to.include("imitation");
  });

  it("a port that faults, as the host's owner can have it, ends neither", async () => {
    const closed = await rpctool("info-get guestinfo.k", { backdoor: false });
    expect(closed.report.signal).to.equal(undefined);
    const { outcomes, run } = await ours(
      [{ verb: "get", key: "guestinfo.k" }],
      { backdoor: false },
      { transport: "backdoor" },
    );
    expect(run.report.code).to.equal(0);
    expect(outcomes[0]).to.include({ code: "ERR_UNAVAILABLE" });
    expect(outcomes[0]?.message).to.include("the instruction faults");
  });

  it("ours calls the hypervisor by vmcall where the port faults and CPUID offers that", async function () {
    const spec = { vmcall: true, variables: { "guestinfo.foo": "x".repeat(1000) } };
    const steps = [
      { verb: "get", key: "guestinfo.foo" },
      { verb: "set", key: "guestinfo.bar", value: "b c" },
    ] as const;
    const { run, outcomes } = await ours(steps, spec);
    if (outcomes[0]?.message?.includes("vmcall: nobody answers")) {
      return pending(this, "vmcall does not fault on this processor, so that nobody can stand in for it");
    }
    expect(Buffer.from(outcomes[0]?.value ?? "", "base64")).to.have.length(1000);
    expect(run.report.variables["guestinfo.bar"]).to.equal(Buffer.from("b c").toString("base64"));
    expect(run.report.steps).to.include({ "HB OUT": 2, "HB IN": 2 });
    const { run: low } = await ours(steps, { ...spec, highBandwidth: false });
    expect(low.report.steps["SENDPAYLOAD"]).to.be.above(10);
    expect(low.report.variables).to.deep.equal(run.report.variables);
  });

  it("send the same operations for one get", async () => {
    const spec = { variables: { "guestinfo.foo": "bar" } };
    const vendor = await rpctool("info-get guestinfo.foo", spec);
    const { run } = await ours([{ verb: "get", key: "guestinfo.foo" }], spec);
    // These two steps take nothing in EBX, and the vendor's library sets it for neither (see Message_Receive and
    // Message_CloseAllocated): it is what the stack holds there. Lazy binding of a symbol saves the vector registers over
    // it, 0 as a rule; but the processor leaves out those that are in their initial state, so that an old address shows now
    // and then on a busy machine. With LD_BIND_NOW it shows in every run.
    const messages = ({ report }: TrapRun): string[] =>
      report.trace
        .filter((each) => !each.startsWith("GETVERSION"))
        .map((each) => each.replace(/^(RECVSIZE|CLOSE) .*/, "$1"));
    expect(messages(run)).to.deep.equal(messages(vendor));
    const bound = await rpctool("info-get guestinfo.foo", { ...spec, env: { LD_BIND_NOW: "1" } });
    expect(messages(run)).to.deep.equal(messages(bound));
    expect(run.report.commands).to.deep.equal(vendor.report.commands);
    expect(run.report.traps).to.be.below(vendor.report.traps);
  });

  for (const highBandwidth of [true, false]) {
    it(`need no more traps than the tool ${highBandwidth ? "in high" : "in low"} bandwidth, and fewer when the channel is kept`, async () => {
      const step: OwnStep = { verb: "get", key: "guestinfo.k" };
      // In low bandwidth the last one takes 16,384 traps a run.
      for (const size of isLong || highBandwidth ? [10, 1024, 65_536] : [10, 1024]) {
        const spec = { highBandwidth, variables: { "guestinfo.k": "x".repeat(size) } };
        const [vendor, first, four] = await Promise.all([
          rpctool("info-get guestinfo.k", spec).then(({ report }) => report),
          ours([step], spec).then(({ run }) => run.report),
          ours([step, step, step, step], spec).then(({ run }) => run.report),
        ]);
        expect(first.traps, `${size} bytes`).to.be.below(vendor.traps);
        expect((four.traps - first.traps) / 3, `${size} bytes, following`).to.be.below(first.traps);
        expect(first.bytes).to.equal(vendor.bytes);
      }
    });
  }

  it("recover in the same way from checkpoints", async () => {
    const variables = { "guestinfo.foo": "bar" };
    for (const step of ["HB OUT", "HB IN", "RECVSTATUS"] as const) {
      const spec: Spec = { variables, faults: [{ step, count: 0, fault: "checkpoint" }] };
      const vendor = await rpctool("info-get guestinfo.foo", spec);
      const { run, outcomes } = await ours([{ verb: "get", key: "guestinfo.foo" }], spec);
      expect([vendor.stdout, outcomes[0]?.value]).to.deep.equal([
        "bar\n",
        Buffer.from("bar").toString("base64"),
      ]);
      const { GETVERSION: _, ...theirs } = vendor.report.steps;
      const { GETVERSION: __, ...own } = run.report.steps;
      expect(own, step).to.deep.equal(theirs);
    }
  });

  it("go to the host's vsock alike: context 0, port 976, a privileged port of their own", async () => {
    await using vmx = await SimulatedVmx.start(new VmxHost({ variables: { "guestinfo.foo": "bar" } }));
    const spec = { vsockPath: vmx.path };
    const vendor = await toolsd("info-get guestinfo.foo", spec);
    const { run, outcomes } = await ours(Array(3).fill({ verb: "get", key: "guestinfo.foo" }), spec);
    expect(vendor.stdout).to.equal("bar\n");
    expect(outcomes.map(({ value }) => value)).to.deep.equal(Array(3).fill("YmFy"));
    const [theirs, own] = [vendor.report.connections, run.report.connections];
    expect([theirs.length, own.length]).to.deep.equal([1, 1]);
    expect(own[0])
      .to.include({ cid: theirs[0]?.cid, port: theirs[0]?.port })
      .and.include({ cid: 0, port: 976 });
    expect(own[0]?.from).to.be.within(512, 1023);
    expect(run.report.traps, "no backdoor").to.equal(0);
  });

  it("without a privileged port go unprivileged; what needs privilege is not sent by ours", async () => {
    const host = new VmxHost({ variables: { "guestinfo.foo": "bar" } });
    await using vmx = await SimulatedVmx.start(host);
    const spec = { vsockPath: vmx.path, refusePrivilegedPorts: true };
    const plain = await ours([{ verb: "get", key: "guestinfo.foo" }], spec);
    expect(plain.run.report.connections.map(({ from }) => from)).to.deep.equal([0xffff_ffff]);
    const before = host.commands.length;
    const demanded = await ours([{ verb: "get", key: "guestinfo.foo" }], spec, { privilege: "require" });
    expect(demanded.outcomes[0]).to.include({ code: "ERR_PERMISSION" });
    const secret = await ours([{ verb: "get", key: "k" }], spec, { dataset: "app" });
    expect(secret.outcomes[0]).to.include({ code: "ERR_PERMISSION" });
    expect(host.commands).to.have.length(before);
  });

  it("without vsock take the backdoor at once", async () => {
    const spec = { variables: { "guestinfo.foo": "bar" } };
    expect((await toolsd("info-get guestinfo.foo", spec)).report.steps["OPEN"]).to.equal(1);
    expect((await ours([{ verb: "get", key: "guestinfo.foo" }], spec)).run.report.steps["OPEN"]).to.equal(1);
  });

  it("word the namespace database alike", async () => {
    const host = new VmxHost();
    const pairs = host.namespaces.create("com.example.ns");
    await using vmx = await SimulatedVmx.start(host);
    const command = (...args: readonly string[]): Promise<TrapRun> =>
      underVmware([tools.program("vmware-namespace-cmd"), ...args], { env: tools.env, vsockPath: vmx.path });
    await command("set-key", "com.example.ns", "-k", "k1", "-v", "v1");
    expect([...pairs]).to.deep.equal([["k1", "v1"]]);
    await command("set-key", "com.example.ns", "-k", "k1", "-o", "v1", "-v", "v2");
    expect((await command("get-value", "com.example.ns", "-k", "k1")).stdout.trim()).to.equal("v2");
    await command("delete-key", "com.example.ns", "-k", "k1");
    expect([...pairs]).to.deep.equal([]);
    expect(host.commands).to.deep.equal([
      "namespace-priv-set-keys com.example.ns\x001\x000\0k1\0v1\0\0",
      "namespace-priv-set-keys com.example.ns\x001\x001\0k1\0v2\0v1\0",
      "namespace-priv-get-values com.example.ns\0k1\0",
      "namespace-priv-set-keys com.example.ns\x001\x000\0k1\0\0\0",
    ]);
  });

  it("VMware's library, called by ours, serves as a last way", async () => {
    const spec = { variables: { "guestinfo.k": "a\0b" }, env: tools.env };
    const steps: readonly OwnStep[] = [
      { verb: "get", key: "guestinfo.k" },
      { verb: "get", key: "guestinfo.none" },
      { verb: "set", key: "guestinfo.n", value: "b c" },
    ];
    const { run, outcomes } = await ours(steps, spec, { transport: "libvmtools" });
    expect(outcomes[0]?.value).to.equal(Buffer.from("a\0b").toString("base64"));
    expect(outcomes[1]?.value).to.equal(null);
    expect(run.report.variables["guestinfo.n"]).to.equal(Buffer.from("b c").toString("base64"));
  });

  it("give what the table in docs/vmware.md says", async () => {
    const cells = (line: string): string => line.replace(/ +\|/g, " |").replace(/-{3,}/g, "---").trim();
    const page = readFileSync(join(ROOT, "docs/vmware.md"), "utf8").split("\n").map(cells);
    const head = page.indexOf("| command | `vmware-rpctool` | `vmtoolsd --cmd` | pvbus |");
    const table = page.slice(head + 2, head + 2 + ROWS.length);
    expect(page[head + 2 + ROWS.length], "the end of the table").to.equal("");
    // Three starts under a tracer each: in short a third of them, another one each time.
    const third = seed() % 3;
    for (const [at, { what, step, spec }] of ROWS.entries()) {
      if (!isLong && at % 3 !== third) continue;
      const text = step.verb === "get" ? `info-get ${step.key}` : `info-set ${step.key} ${step.value}`;
      const [tool, daemon, { run, outcomes }] = await Promise.all([
        rpctool(text, spec),
        toolsd(text, spec),
        ours([step], spec),
      ]);
      const theirs = [tool, daemon].map((each) => ofTool(each, step));
      expect(table[at]).to.equal(
        `| ${[what, ...theirs, ofOurs(outcomes[0] as OwnOutcome, run, step)].join(" | ")} |`,
      );
    }
  });
});
