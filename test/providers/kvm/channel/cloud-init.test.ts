import { spawn } from "node:child_process";
import { closeSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect } from "chai";
import { KvmProvider } from "../../../../providers/kvm/index.js";
import { KvmHostSimulator } from "../../../../providers/testing.js";
import { nodeHost } from "../../../../src/base/host/node-host.js";
import { Call } from "../../../../src/index.js";
import { DeviceStream } from "../../../../src/native/posix/device-stream.js";
import { DeviceDuplex, openPty } from "../../../support/device-duplex.js";
import { pending } from "../../../support/pending.js";
import { findPython, start } from "../../../support/processes.js";
import { rejects } from "../../../support/rejects.js";

const python = findPython("import serial, cloudinit.sources.DataSourceSmartOS");
const ROUNDS = 8;

/** Opens the line, asks and closes it again and again, as cloud-init does at boot. */
const CLIENT = `import sys
from cloudinit.sources.DataSourceSmartOS import JoyentMetadataSerialClient
for n in range(int(sys.argv[2])):
    with JoyentMetadataSerialClient(sys.argv[1], timeout=5, smartos_type="kvm") as c:
        assert c.get("hostname") == "web-1"
        assert c.put("cloud-init", str(n)) == "OK"
        assert c.get("cloud-init") == str(n)
print("done")`;

/** Writes one key at another place of the same host, when it is told to. */
const WRITER = `import sys
from cloudinit.sources.DataSourceSmartOS import JoyentMetadataSocketClient
with JoyentMetadataSocketClient(sys.argv[1], smartos_type="lx-brand") as c:
    print("ready", flush=True)
    sys.stdin.readline()
    print(c.put("k", "cloud-init"), flush=True)`;

describe(`channel of a guest beside cloud-init${python ? "" : " [pending: Debian's cloud-init and python3-serial are not installed]"}`, () => {
  before(function () {
    if (python === undefined) {
      return pending(this, "Debian's cloud-init and python3-serial");
    }
  });

  it("overwrites nothing that cloud-init wrote while a change of its own got lost, on a host of kind smartos", async () => {
    const folder = mkdtempSync(join(tmpdir(), "pvbus-kvm-"));
    const host = await KvmHostSimulator.listen(join(folder, "meta.sock"), { dialect: "smartos" });
    host.set("k", "before");
    const { fd, path, keeper } = openPty();
    const line = await DeviceDuplex.over((options) => new DeviceStream(fd, options));
    host.serve(line);
    const hear = line.listeners("data") as ((data: Buffer) => void)[];
    let isDeaf = false;
    const lost = new Promise<void>((resolve) => {
      line.removeAllListeners("data").on("data", (data: Buffer) => {
        if (data.includes(" PUT ")) {
          isDeaf = true;
          resolve();
        }
        if (!isDeaf) for (const each of hear) each(data);
      });
    });
    const store = await new KvmProvider(nodeHost()).open({ channel: `serial:${path}` });
    const writer = spawn(python as string, ["-c", WRITER, join(folder, "meta.sock")], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    const said = createInterface(writer.stdout)[Symbol.asyncIterator]();
    try {
      expect((await said.next()).value).to.equal("ready");
      const call = new Call({ timeoutMs: 60_000 });
      const writing = rejects(
        store.write?.("meta/k", Buffer.from("ours"), call) as Promise<void>,
        "ERR_CONFLICT",
      );
      await lost;
      writer.stdin.end("\n");
      expect((await said.next()).value).to.equal("OK");
      isDeaf = false;
      await writing;
      expect(`${host.get("k")}`).to.equal("cloud-init");
    } finally {
      writer.kill("SIGKILL");
      await store.close();
      await host.stop();
      closeSync(keeper);
      rmSync(folder, { recursive: true });
    }
  });

  for (const dialect of ["pvbus", "smartos"] as const) {
    it(`takes turns on one serial line of a host of kind ${dialect}`, async () => {
      const host = new KvmHostSimulator({ dialect });
      host.set("hostname", "web-1");
      const { fd, path, keeper } = openPty();
      host.serve(await DeviceDuplex.over((options) => new DeviceStream(fd, options)));
      const channel = `serial:${path}`;
      const store = await new KvmProvider(nodeHost()).open({ channel, options: { idleMs: 0 } });
      try {
        const other = start(python as string, ["-c", CLIENT, path, `${ROUNDS}`]);
        let rounds = 0;
        let isRunning = true;
        other.done.finally(() => {
          isRunning = false;
        });
        for (; isRunning; rounds++) {
          const call = new Call({ timeoutMs: 15_000 });
          await store.write?.("meta/ours", Buffer.from(`${rounds}`), call);
          expect(`${Buffer.from((await store.read("meta/ours", call)) ?? [])}`).to.equal(`${rounds}`);
        }
        expect(await other.done).to.include({ code: 0, stdout: "done\n" });
        expect(rounds).to.be.greaterThan(1);
        expect(`${host.get("cloud-init")}`).to.equal(`${ROUNDS - 1}`);
      } finally {
        await store.close();
        host.disconnect();
        closeSync(keeper);
      }
    });
  }
});
