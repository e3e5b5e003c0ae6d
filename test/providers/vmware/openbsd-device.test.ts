import { expect } from "chai";
import { describeProviderConformance, VmxHost } from "../../../providers/testing.js";
import { VmwareHostctlStore } from "../../../providers/vmware/hostctl.js";
import { RpciSession, VmwareStore } from "../../../providers/vmware/index.js";
import { OPENBSD_VALUE_BYTES } from "../../../providers/vmware/protocol/keys.js";
import { OpenbsdDeviceTransport } from "../../../providers/vmware/transport/openbsd-device.js";
import { SILENT } from "../../../src/base/host/node-host.js";
import { Call, HostctlError } from "../../../src/index.js";
import type { PvbusNode, PvbusNodes } from "../../../src/native/bsd/pvbus-device.js";
import { rejects } from "../../support/rejects.js";
import { backdoorStore } from "../../support/vmware.js";

const call = (): Call => new Call({ timeoutMs: 5000 });
const text = (bytes: Uint8Array | undefined): string | undefined => bytes && Buffer.from(bytes).toString();

async function errno(work: Promise<unknown>): Promise<string | undefined> {
  const outcome: unknown = await work.catch((error) => error);
  return outcome instanceof HostctlError ? outcome.errno : undefined;
}

describe("VMware as OpenBSD's kernel serves it", () => {
  const open = (variables = {}) => {
    const { store } = backdoorStore(new VmxHost({ variables }));
    const kernel = new VmwareHostctlStore(store);
    return {
      read: (key: string, room = 4096) => kernel.read(Buffer.from(key), room, call()),
      write: (key: string, value: string) => kernel.write(Buffer.from(key), Buffer.from(value), call()),
    };
  };

  it("reads and writes; a write leaves nothing in the buffer", async () => {
    const { read, write } = open({ "guestinfo.hostname": "vm-111" });
    expect(text(await read("guestinfo.hostname"))).to.equal("vm-111");
    expect(text(await write("guestinfo.ip", "192.0.2.7"))).to.equal("");
    expect(text(await read("guestinfo.ip"))).to.equal("192.0.2.7");
  });

  it("has EINVAL for every refusal of the host", async () => {
    const { read, write } = open();
    expect(await errno(read("guestinfo.nope"))).to.equal("EINVAL");
    expect(await errno(read("x"))).to.equal("EINVAL");
    expect(await errno(write("machine.id", "x"))).to.equal("EINVAL");
  });

  it("counts the reply's two bytes and the NUL against the buffer", async () => {
    const { read } = open({ "guestinfo.v": "x".repeat(61) });
    expect(text(await read("guestinfo.v", 64))).to.have.length(61);
    expect(await errno(read("guestinfo.v", 63))).to.equal("ERANGE");
  });

  it("takes a command of 4095 bytes and not one more", async () => {
    const { write } = open();
    const room = 4095 - "info-set guestinfo.v ".length;
    expect(text(await write("guestinfo.v", "x".repeat(room)))).to.equal("");
    expect(await errno(write("guestinfo.v", "x".repeat(room + 1)))).to.equal("EINVAL");
  });

  it("hands a key over as it is: what a space makes of it is the kernel's way", async () => {
    const { read, write } = open();
    await write("guestinfo.a", "b c");
    expect(text(await read("guestinfo.a"))).to.equal("b c");
    expect(await errno(read("guestinfo.a b"))).to.equal("EINVAL");
  });

  it("ends a value at its NUL", async () => {
    const { read } = open({ "guestinfo.v": "ab\0cd" });
    expect(text(await read("guestinfo.v"))).to.equal("ab");
  });
});

/** Errno as the native device reports it. */
function failure(code: string): Error {
  return Object.assign(new Error(code), { code, syscall: "ioctl" });
}

/** /dev/pvbus0 is KVM's, /dev/pvbus1 VMware's, with the driver's own limits in front of a host. */
class SimulatedNodes implements PvbusNodes {
  readonly host: VmxHost;
  readonly #log: string[] = [];
  isRoot = true;
  types: readonly string[] = ["KVM", "VMware"];

  constructor(host: VmxHost = new VmxHost()) {
    this.host = host;
  }

  get opened(): readonly string[] {
    return this.#log;
  }

  paths(): readonly string[] {
    return this.types.map((_, at) => `/dev/pvbus${at}`);
  }

  open(path: string, { writable = false }: { readonly writable?: boolean }): PvbusNode {
    if (writable && !this.isRoot) throw failure("EACCES");
    this.#log.push(`${path} ${writable ? "rw" : "r"}`);
    const ask = (command: Buffer, room: number): Buffer => {
      if (command.length >= 4096) throw failure("EINVAL");
      const reply = this.host.answer(command, { privileged: false });
      if (reply.length + 1 > room) throw failure("ERANGE");
      if (!reply.toString().startsWith("1 ")) throw failure("EINVAL");
      return reply.subarray(2);
    };
    return {
      type: () => {
        const type = this.types[Number(path.at(-1))];
        if (type === undefined || type === "") throw failure("ENXIO");
        return type;
      },
      read: (key, room) => ask(Buffer.concat([Buffer.from("info-get "), key]), room),
      write: (key, value, room = 1) =>
        ask(Buffer.concat([Buffer.from("info-set "), key, Buffer.from(" "), value]), room),
      close: () => void this.#log.push(`${path} closed`),
    };
  }
}

function hostctlStore(nodes: SimulatedNodes, settings = {}): VmwareStore {
  const session = new RpciSession({ first: new OpenbsdDeviceTransport(nodes), logger: SILENT });
  return new VmwareStore(session, settings, OPENBSD_VALUE_BYTES);
}

describe("VMware through OpenBSD's kernel", () => {
  it("finds its device among others, and opens it for writing when something is written", async () => {
    const nodes = new SimulatedNodes();
    const store = hostctlStore(nodes);
    expect(await store.read("guestinfo.a", call())).to.equal(undefined);
    await store.write("guestinfo.a", Buffer.from("b c"), call());
    expect(text(await store.read("guestinfo.a", call()))).to.equal("b c");
    await store.close();
    expect(nodes.opened.filter((each) => !each.endsWith("closed"))).to.deep.equal([
      "/dev/pvbus0 r",
      "/dev/pvbus1 r",
      "/dev/pvbus1 r",
      "/dev/pvbus1 rw",
    ]);
    expect(nodes.opened.filter((each) => each.endsWith("closed"))).to.have.length(4);
  });

  it("reads what the kernel hands over, and says so beyond that", async () => {
    const nodes = new SimulatedNodes();
    const store = hostctlStore(nodes);
    nodes.host.set("guestinfo.a", "x".repeat(65_533));
    expect(await store.read("guestinfo.a", call())).to.have.length(65_533);
    nodes.host.set("guestinfo.a", "x".repeat(65_534));
    await rejects(store.read("guestinfo.a", call()), "ERR_VALUE_TOO_LONG");
  });

  it("refuses before it writes what the driver would not take", async () => {
    const nodes = new SimulatedNodes();
    const store = hostctlStore(nodes);
    const key = `guestinfo.${"k".repeat(245)}`;
    await store.write(key, Buffer.alloc(OPENBSD_VALUE_BYTES, "v"), call());
    const before = nodes.host.commands.length;
    await rejects(
      store.write("guestinfo.a", Buffer.alloc(OPENBSD_VALUE_BYTES + 1, "v"), call()),
      "ERR_VALUE_TOO_LONG",
    );
    expect(nodes.host.commands).to.have.length(before);
  });

  it("tells who may write, and what the driver has no call for", async () => {
    const nodes = new SimulatedNodes();
    nodes.isRoot = false;
    const store = hostctlStore(nodes);
    const error = await rejects(store.write("guestinfo.a", Buffer.from("v"), call()), "ERR_PERMISSION");
    expect(error.message).to.include("writing root");
    expect(await store.rpc("log", "x", call())).to.deep.equal({ accepted: false, words: "Unknown command" });
    await rejects(store.dataSets.list(call()), "ERR_PERMISSION");
  });

  it("says that there is none where no device is VMware's", async () => {
    const nodes = new SimulatedNodes();
    nodes.types = ["KVM", ""];
    await rejects(hostctlStore(nodes).read("guestinfo.a", call()), "ERR_UNAVAILABLE");
  });

  describeProviderConformance(
    "VmwareStore through OpenBSD's kernel",
    () => {
      const host = new VmxHost({ variables: { "guestinfo./host": "theirs" } });
      return {
        open: async () => hostctlStore(new SimulatedNodes(host), { pollMs: 5, longestPollMs: 20 }),
        keys: {
          writable: (label) => `guestinfo.conformance.${label}`,
          prefix: "guestinfo.conformance",
          readOnly: ["guestinfo./host"],
        },
      };
    },
    { without: ["delete", "list", "binary", "pools", "provider", "given", "take", "insert", "hostChanges"] },
  );
});
