import { expect } from "chai";
import fc from "fast-check";
import {
  type VmxBackdoor,
  type VmxBackdoorOptions,
  type VmxFault,
  VmxHost,
  type VmxStep,
} from "../../../providers/testing.js";
import { RpciSession, VmwareStore } from "../../../providers/vmware/index.js";
import { BackdoorTransport } from "../../../providers/vmware/transport/backdoor.js";
import { SILENT } from "../../../src/base/host/node-host.js";
import { Call, PvbusError } from "../../../src/index.js";
import { rejects } from "../../support/rejects.js";
import { backdoorStore } from "../../support/vmware.js";

const FIXED: VmxBackdoorOptions = { fixedCookies: [0x11223344, 0x55667788] };
const STEPS: readonly VmxStep[] = [
  "OPEN",
  "SENDSIZE",
  "HB OUT",
  "SENDPAYLOAD",
  "RECVSIZE",
  "HB IN",
  "RECVPAYLOAD",
  "RECVSTATUS",
  "CLOSE",
];
const hex = (number: number): string => number.toString(16).toUpperCase().padStart(8, "0");
const call = (): Call => new Call({ timeoutMs: 5000 });

/** The operations as the reference writes them. */
function lines(machine: VmxBackdoor): string[] {
  return machine.traps.map(({ step, in: i, out: o }) => {
    if (step === "HB OUT" || step === "HB IN") {
      const cookies =
        step === "HB OUT" ? `DI=${hex(i.edi)} BP=${hex(i.ebp)}` : `SI=${hex(i.esi)} BP=${hex(i.ebp)}`;
      return `${step} B=${hex(i.ebx)} CX=${i.ecx.toString(16)} D=${hex(i.edx)} ${cookies} -> B=${hex(o.ebx)} CX=${o.ecx}`;
    }
    return `${step} B=${hex(i.ebx)} C=${hex(i.ecx)} D=${hex(i.edx)} SI=${hex(i.esi)} DI=${hex(i.edi)} -> C=${hex(o.ecx)}`;
  });
}

async function get(store: VmwareStore, key = "guestinfo.foo"): Promise<string | undefined> {
  const bytes = await store.read(key, call());
  return bytes && Buffer.from(bytes).toString();
}

const bar = (): VmxHost => new VmxHost({ variables: { "guestinfo.foo": "bar" } });

describe("VMware backdoor channel", () => {
  it("gets a value in high bandwidth as VMware's tool does, and leaves the channel open", async () => {
    const { store, machine } = backdoorStore(bar(), FIXED);
    expect(await get(store)).to.equal("bar");
    await store.close();
    expect(lines(machine)).to.deep.equal([
      "OPEN B=C9435052 C=0000001E D=00005658 SI=00000000 DI=00000000 -> C=00010000",
      "SENDSIZE B=00000016 C=0001001E D=00005658 SI=11223344 DI=55667788 -> C=00810000",
      "HB OUT B=00010000 CX=16 D=00005659 DI=55667788 BP=11223344 -> B=00010000 CX=0",
      "RECVSIZE B=00000000 C=0003001E D=00005658 SI=11223344 DI=55667788 -> C=00830000",
      "HB IN B=00010000 CX=5 D=00005659 SI=11223344 BP=55667788 -> B=00010000 CX=0",
      "RECVSTATUS B=00000001 C=0005001E D=00005658 SI=11223344 DI=55667788 -> C=00010000",
      "CLOSE B=00000000 C=0006001E D=00005658 SI=11223344 DI=55667788 -> C=00010000",
    ]);
    expect(machine.open).to.equal(0);
  });

  it("gets a value in low bandwidth word by word, 13 operations in all", async () => {
    const { store, machine } = backdoorStore(bar(), { ...FIXED, highBandwidth: false });
    expect(await get(store)).to.equal("bar");
    await store.close();
    const words = (step: VmxStep, side: "in" | "out"): string[] =>
      machine.traps.filter((trap) => trap.step === step).map((trap) => hex(trap[side].ebx));
    expect(words("SENDPAYLOAD", "in")).to.deep.equal([
      "6F666E69",
      "7465672D",
      "65756720",
      "6E697473",
      "662E6F66",
      "00006F6F",
    ]);
    expect(words("RECVPAYLOAD", "in")).to.deep.equal(["00000001", "00000001"]);
    expect(words("RECVPAYLOAD", "out")).to.deep.equal(["61622031", "00000072"]);
    expect(machine.traps).to.have.length(13);
  });

  it("sends a tail of three bytes in the low ones", async () => {
    const { store, machine } = backdoorStore(new VmxHost(), { highBandwidth: false });
    await store.rpc("ab", "1234", call());
    const last = machine.traps.filter((trap) => trap.step === "SENDPAYLOAD").at(-1);
    expect(hex(last?.in.ebx ?? 0)).to.equal("00343332");
  });

  it("does without cookies where the host knows none", async () => {
    const { store, machine } = backdoorStore(bar(), { cookies: false });
    expect(await get(store)).to.equal("bar");
    const [first, second, third] = machine.traps;
    expect([first?.in.ebx, second?.in.ebx].map((ebx) => hex(ebx ?? 0))).to.deep.equal([
      "C9435052",
      "49435052",
    ]);
    expect([third?.in.esi, third?.in.edi]).to.deep.equal([0, 0]);
  });

  it("begins where a checkpoint demands", async () => {
    const steps = async (step: VmxStep, highBandwidth: boolean): Promise<string> => {
      const fault = (at: VmxStep, count: number): VmxFault | undefined =>
        at === step && count === 0 ? "checkpoint" : undefined;
      const { store, machine } = backdoorStore(bar(), { highBandwidth, fault });
      expect(await get(store)).to.equal("bar");
      const short = { "HB OUT": "out", "HB IN": "in", SENDPAYLOAD: "w", RECVPAYLOAD: "r" } as Record<
        string,
        string
      >;
      return machine.traps.map((trap) => short[trap.step ?? ""] ?? trap.step).join(" ");
    };
    expect(await steps("HB OUT", true)).to.equal("OPEN SENDSIZE out SENDSIZE out RECVSIZE in RECVSTATUS");
    expect(await steps("HB IN", true)).to.equal("OPEN SENDSIZE out RECVSIZE in RECVSIZE in RECVSTATUS");
    expect(await steps("RECVSTATUS", true)).to.equal(
      "OPEN SENDSIZE out RECVSIZE in RECVSTATUS RECVSIZE in RECVSTATUS",
    );
    expect(await steps("SENDPAYLOAD", false)).to.equal(
      "OPEN SENDSIZE w SENDSIZE w w w w w w RECVSIZE r r RECVSTATUS",
    );
    expect(await steps("RECVPAYLOAD", false)).to.equal(
      "OPEN SENDSIZE w w w w w w RECVSIZE r RECVSIZE r r RECVSTATUS",
    );
  });

  it("keeps the channel: five operations for each command behind the first", async () => {
    const { store, machine } = backdoorStore(bar());
    await get(store);
    const first = machine.traps.length;
    await get(store);
    expect([first, machine.traps.length - first]).to.deep.equal([6, 5]);
  });

  it("opens another channel when the host closed the idle one, without counting it as a failure", async () => {
    const host = bar();
    const { store, machine } = backdoorStore(host);
    await get(store);
    machine.dropAll();
    expect(await get(store)).to.equal("bar");
    expect((await store.rpc("log", "x", call())).accepted).to.equal(true);
    machine.dropAll();
    expect((await store.rpc("log", "once", call())).accepted).to.equal(true);
    expect(host.commands.filter((each) => each === "log once")).to.have.length(1);
  });

  it("gives an idle channel back, so that programs that stay do not use them up", async () => {
    const { machine } = backdoorStore(bar());
    const transport = new BackdoorTransport(machine, 1);
    const request = Buffer.from("info-get guestinfo.foo");
    for (let round = 0; round < 3; round++) {
      expect(Buffer.from(await transport.exchange(request, call())).toString()).to.equal("1 bar");
      while (machine.open > 0) await new Promise((done) => setTimeout(done, 1));
    }
    expect(machine.traps.filter(({ step }) => step === "CLOSE")).to.have.length(3);
    await transport.close();
    await transport.close();
    expect(machine.traps.filter(({ step }) => step === "CLOSE")).to.have.length(3);
  });

  it("moves a reply of 200000 bytes in as many operations as there are words", async () => {
    const host = new VmxHost({ variables: { "guestinfo.foo": "x".repeat(200_000) } });
    for (const [highBandwidth, traps] of [
      [true, 7],
      [false, 50_012],
    ] as const) {
      const { store, machine } = backdoorStore(host, { highBandwidth });
      expect((await store.read("guestinfo.foo", call()))?.length).to.equal(200_000);
      await store.close();
      expect(machine.traps).to.have.length(traps);
    }
  });

  it("moves values of every length around a word exactly", async () => {
    for (const highBandwidth of [true, false]) {
      const { store } = backdoorStore(new VmxHost(), { highBandwidth });
      for (let length = 0; length <= 40; length++) {
        const value = Buffer.from("0123456789abcdefghijklmnopqrstuvwxyzABCD").subarray(0, length);
        await store.write("guestinfo.v", value, call());
        expect(await get(store, "guestinfo.v")).to.equal(value.toString());
      }
    }
  });

  it("takes the longest value both ways, and sends nothing of a longer one", async () => {
    for (const highBandwidth of [true, false]) {
      const { store, machine } = backdoorStore(new VmxHost(), { highBandwidth });
      const key = `guestinfo.${"k".repeat(245)}`;
      const longest = Buffer.alloc(store.capabilities.limits?.maxValueBytes ?? 0, "longest");
      await store.write(key, longest, call());
      expect(Buffer.compare((await store.read(key, call())) ?? Buffer.alloc(0), longest)).to.equal(0);
      const before = machine.traps.length;
      await rejects(
        store.write(key, Buffer.concat([longest, Buffer.from("x")]), call()),
        "ERR_VALUE_TOO_LONG",
      );
      expect(machine.traps).to.have.length(before);
    }
  });

  it("takes a whole command of 65536 bytes, and sends nothing of one more", async () => {
    const host = new VmxHost();
    const { store, machine } = backdoorStore(host);
    const most = Buffer.alloc(65_536 - "log ".length, "x");
    expect((await store.rpc("log", most, call())).accepted).to.equal(true);
    expect(host.commands.at(-1)).to.have.length(65_536);
    const before = machine.traps.length;
    await rejects(store.rpc("log", Buffer.concat([most, Buffer.from("x")]), call()), "ERR_VALUE_TOO_LONG");
    expect(machine.traps).to.have.length(before);
  });

  it("knows QEMU's imitation, which has no channel, and does not ask twice", async () => {
    const { store, machine } = backdoorStore(bar(), { messages: false });
    const error = await rejects(get(store), "ERR_UNAVAILABLE");
    expect(error.message).to.include("imitation");
    expect(machine.traps).to.have.length(1);
  });

  it("uses no string instruction where the hypervisor cannot see the memory", async () => {
    const host = bar();
    const { machine } = backdoorStore(host);
    machine.seesMemory = false;
    const session = new RpciSession({ first: new BackdoorTransport(machine), logger: SILENT });
    expect(await get(new VmwareStore(session))).to.equal("bar");
    expect(machine.traps.some(({ step }) => step?.startsWith("HB"))).to.equal(false);
  });

  it("goes on in low bandwidth behind a string instruction that failed", async () => {
    for (const step of ["HB OUT", "HB IN"] as const) {
      const fault = (at: VmxStep): VmxFault | undefined => (at === step ? "fail" : undefined);
      const { store, machine } = backdoorStore(bar(), { fault });
      expect(await get(store)).to.equal("bar");
      expect(await get(store)).to.equal("bar");
      expect(machine.traps.filter((trap) => trap.step === step)).to.have.length(1);
    }
  });

  it("waits a little for a free channel, then says that there is none", async () => {
    const host = bar();
    let refusals = 2;
    const soon = backdoorStore(host, {
      cookies: true,
      fault: (at) => (at === "OPEN" && refusals-- > 0 ? "fail" : undefined),
    });
    expect(await get(soon.store)).to.equal("bar");
    const never = backdoorStore(host, { channels: 0 });
    await rejects(get(never.store), "ERR_BUSY");
    expect(never.machine.traps.length).to.be.within(4, 40);
  });

  describe("a fault in one step", () => {
    const faults: readonly VmxFault[] = ["checkpoint", "fail", "close"];
    for (const step of STEPS) {
      for (const fault of faults) {
        it(`${step}, ${fault}: once is mended, for ever is a typed error after few operations`, async () => {
          const highBandwidth = !/PAYLOAD/.test(step);
          const once = (at: VmxStep, count: number): VmxFault | undefined =>
            at === step && count === 0 ? fault : undefined;
          const mended = backdoorStore(bar(), { highBandwidth, fault: once });
          expect(await get(mended.store)).to.equal("bar");
          await mended.store.close();
          // A channel whose CLOSE fails stays the host's affair.
          expect(mended.machine.open).to.be.at.most(step === "CLOSE" && fault !== "close" ? 1 : 0);

          const always = (at: VmxStep): VmxFault | undefined => (at === step ? fault : undefined);
          const broken = backdoorStore(bar(), { highBandwidth, fault: always });
          const outcome = await get(broken.store).catch((error) => error);
          if (step === "CLOSE" || step.startsWith("HB")) {
            // The reply is there, or low bandwidth gets it.
            if (fault !== "checkpoint" || step === "CLOSE") expect(outcome).to.equal("bar");
          } else {
            expect(PvbusError.is(outcome), String(outcome)).to.equal(true);
            expect(outcome.code).to.be.oneOf(["ERR_DISCONNECTED", "ERR_BUSY"]);
          }
          await broken.store.close();
          expect(broken.machine.traps.length).to.be.below(120);
        });
      }
    }
  });

  describe("a host that does not keep to the protocol", () => {
    const answering = (step: VmxStep, fault: VmxFault): VmwareStore =>
      backdoorStore(bar(), { fault: (at) => (at === step ? fault : undefined) }).store;

    it("has no reply", async () => {
      await rejects(get(answering("RECVSIZE", { ecx: 0x10000 })), "ERR_PROTOCOL");
    });

    it("announces more than anybody takes", async () => {
      for (const ebx of [8 * 1024 * 1024 + 1, 0xffff_ffff])
        await rejects(get(answering("RECVSIZE", { ecx: 0x30000, edx: 0x10000, ebx })), "ERR_PROTOCOL");
    });

    it("sends something else than a length or a part of the reply", async () => {
      await rejects(get(answering("RECVSIZE", { ecx: 0x30000, edx: 0x20000, ebx: 5 })), "ERR_PROTOCOL");
      const { store } = backdoorStore(bar(), {
        highBandwidth: false,
        fault: (at) => (at === "RECVPAYLOAD" ? { ecx: 0x10000, edx: 0x10000, ebx: 1 } : undefined),
      });
      await rejects(get(store), "ERR_PROTOCOL");
    });

    it("replies with nothing, one byte, or what is no reply", async () => {
      const host = bar();
      const { store } = backdoorStore(host);
      for (const reply of ["", "1", "X bar"]) {
        host.nextReply = Buffer.from(reply);
        await rejects(get(store), "ERR_PROTOCOL");
      }
      expect(await get(store)).to.equal("bar");
    });
  });

  it("gives up between two operations when the call ends, and takes the reply back", async () => {
    const host = new VmxHost({ variables: { "guestinfo.foo": "x".repeat(100_000) } });
    const user = new AbortController();
    const fault = (step: VmxStep, count: number): undefined => {
      if (step === "RECVPAYLOAD" && count === 5000) user.abort(new Error("enough"));
    };
    const { store, machine } = backdoorStore(host, { highBandwidth: false, fault });
    const error = await rejects(
      store.read("guestinfo.foo", new Call({ signal: user.signal })),
      "ERR_ABORTED",
    );
    expect(error.cause).to.have.property("message", "enough");
    await store.close();
    const end = machine.traps.slice(-2).map(({ step, in: { ebx } }) => [step, ebx]);
    expect(end).to.deep.equal([
      ["RECVPAYLOAD", 0],
      ["CLOSE", 0],
    ]);
    expect(machine.open).to.equal(0);
  });

  it("with any faults anywhere gives the exact value or a typed error, and never sends a command twice that must not be", async () => {
    const someFault = fc.record({
      step: fc.constantFrom(...STEPS),
      count: fc.nat({ max: 12 }),
      kind: fc.constantFrom<VmxFault>("checkpoint", "fail", "close"),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(someFault, { maxLength: 12 }),
        fc.boolean(),
        fc.boolean(),
        fc.string({ maxLength: 300, unit: fc.constantFrom("a", " ", "€", "\n", "1") }),
        async (faults, highBandwidth, cookies, value) => {
          const host = new VmxHost();
          const fault = (step: VmxStep, count: number): VmxFault | undefined =>
            faults.find((each) => each.step === step && each.count === count)?.kind;
          const { store, machine } = backdoorStore(host, { highBandwidth, cookies, fault });
          const attempt = async <T>(work: Promise<T>): Promise<T | PvbusError> =>
            work.catch((error: unknown) => {
              if (PvbusError.is(error)) return error;
              throw error;
            });
          const written = await attempt(store.write("guestinfo.v", Buffer.from(value), call()));
          if (written === undefined)
            expect(Buffer.from(host.get("guestinfo.v") ?? []).toString()).to.equal(value);
          host.set("guestinfo.v", value);
          const found = await attempt(store.read("guestinfo.v", call()));
          if (!PvbusError.is(found)) expect(Buffer.from(found ?? []).toString()).to.equal(value);
          await attempt(store.rpc("log", "once", call()));
          expect(host.commands.filter((each) => each === "log once").length).to.be.at.most(1);
          await store.close();
          expect(machine.traps.length).to.be.below(3000);
        },
      ),
      { numRuns: 400 },
    );
  });
});
