import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { HostctlError } from "../../src/base/hostctl-error.js";
import { openOpenbsdDevice } from "../../src/cli/hostctl/devices.js";
import { runHostctl } from "../../src/cli/hostctl/run.js";
import {
  openPvbusDevice,
  PVBUS_KVOP_MAXSIZE,
  type PvbusDevice,
  readPvbusType,
} from "../../src/native/bsd/pvbus-device.js";
import { openDescriptors } from "../support/descriptors.js";
import { type SimulatedDriver, simulatedPvbusKernel } from "../support/pvbus-kernel.js";

const isLinux = process.platform === "linux";

describe(`OpenBSD's pvbus device${isLinux ? "" : " [pending: Linux only]"}`, () => {
  let folder: string;
  let path: string;
  let values: Map<string, Buffer>;
  const driver: SimulatedDriver = {
    type: "VMware",
    read: (key, room) => {
      const value = values.get(key);
      if (value === undefined) throw new HostctlError("EINVAL");
      if (value.length > room) throw new HostctlError("ERANGE");
      return value;
    },
    write: (key, value, room) => {
      if (room !== 4096) throw new HostctlError("EIO");
      values.set(key, value);
      return Buffer.from("written");
    },
  };
  const open = (wordBytes = 8): PvbusDevice =>
    openPvbusDevice(path, { ioctl: simulatedPvbusKernel(driver, wordBytes), wordBytes });

  before(function () {
    if (!isLinux) this.skip();
  });
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "pvbus-kernel-"));
    path = join(folder, "pvbus0");
    writeFileSync(path, "");
    values = new Map();
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  for (const wordBytes of [8, 4]) {
    it(`asks, reads and writes with ${wordBytes * 8}-bit words`, () => {
      using device = open(wordBytes);
      expect(device.type()).to.equal("VMware");
      expect(String(device.write(Buffer.from("guestinfo.a"), Buffer.from("1 value"), 4096))).to.equal(
        "written",
      );
      expect(String(device.read(Buffer.from("guestinfo.a"), 100))).to.equal("1 value");
    });
  }

  it("serves keys and values up to the kernel's largest, and says where it ends", () => {
    using device = open();
    const key = Buffer.alloc(PVBUS_KVOP_MAXSIZE - 1, "k");
    values.set(String(key), Buffer.alloc(PVBUS_KVOP_MAXSIZE, "v"));
    expect(device.read(key, PVBUS_KVOP_MAXSIZE)).to.have.length(PVBUS_KVOP_MAXSIZE);
    expect(device.read(key, PVBUS_KVOP_MAXSIZE).equals(Buffer.alloc(PVBUS_KVOP_MAXSIZE, "v"))).to.equal(true);
    for (const call of [
      () => device.read(Buffer.alloc(PVBUS_KVOP_MAXSIZE, "k"), 10),
      () => device.read(key, PVBUS_KVOP_MAXSIZE + 1),
      () => device.write(key, Buffer.alloc(PVBUS_KVOP_MAXSIZE)),
    ]) {
      expect(call).to.throw().with.property("code", "ENAMETOOLONG");
    }
  });

  it("gives nothing of an earlier, longer exchange away", () => {
    using device = open();
    values.set("long", Buffer.alloc(2000, "s"));
    values.set("short", Buffer.from("x"));
    device.read(Buffer.from("long"), 4096);
    expect(String(device.read(Buffer.from("short"), 4096))).to.equal("x");
    expect(() => device.read(Buffer.from("none"), 4096))
      .to.throw()
      .with.property("code", "EINVAL");
  });

  it("gives the driver's refusal, and refuses by itself when closed", () => {
    const device = open();
    values.set("a", Buffer.alloc(100, "v"));
    expect(() => device.read(Buffer.from("a"), 50))
      .to.throw()
      .with.property("code", "ERANGE");
    device.close();
    device.close();
    expect(() => device.read(Buffer.from("a"), 500))
      .to.throw()
      .with.property("code", "EBADF");
  });

  it("is asked in a way that the real ioctl takes, and answers nothing on a file", () => {
    const before = openDescriptors();
    expect(readPvbusType(path)).to.equal(undefined);
    expect(readPvbusType(join(folder, "none"))).to.equal(undefined);
    expect(openDescriptors()).to.equal(before);
    using device = openPvbusDevice(path);
    expect(() => device.type())
      .to.throw()
      .with.property("code", "ENOTTY");
  });

  it("serves hostctl, whose words are the kernel's", async () => {
    const hostctl = async (...args: string[]): Promise<[number, string, string]> => {
      const texts = ["", ""];
      const sink = (index: 0 | 1) => ({
        write: (data: Uint8Array | string) => {
          texts[index] += Buffer.from(data as Uint8Array).toString("latin1");
        },
      });
      const code = await runHostctl(args, {
        stdout: sink(0) as never,
        stderr: sink(1) as never,
        readInput: async () => Buffer.alloc(0),
        devices: {
          open: (name, mode) => openOpenbsdDevice(name, mode, { ioctl: simulatedPvbusKernel(driver) }),
        },
      });
      return [code, texts[0] as string, texts[1] as string];
    };
    expect(await hostctl("-t", "-f", path)).to.deep.equal([0, `${path}: VMware\n`, ""]);
    expect(await hostctl("-f", path, "guestinfo.a", "v")).to.deep.equal([0, "written\n", ""]);
    expect(await hostctl("-f", path, "guestinfo.a")).to.deep.equal([0, "v\n", ""]);
    expect(await hostctl("-f", path, "none")).to.deep.equal([1, "", "hostctl: ioctl: Invalid argument\n"]);
    values.set("big", Buffer.alloc(10_000, "v"));
    expect((await hostctl("-f", path, "big"))[1]).to.equal(`${"v".repeat(10_000)}\n`);
    expect(await hostctl("-f", "pvbus77", "a")).to.deep.equal([
      1,
      "",
      "hostctl: open: pvbus77: No such file or directory\n",
    ]);
  });
});
