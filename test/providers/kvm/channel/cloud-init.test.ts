import { closeSync } from "node:fs";
import { expect } from "chai";
import { KvmProvider } from "../../../../providers/kvm/index.js";
import { KvmHostSimulator } from "../../../../providers/testing.js";
import { nodeHost } from "../../../../src/base/host/node-host.js";
import { Call } from "../../../../src/index.js";
import { DeviceStream } from "../../../../src/native/posix/device-stream.js";
import { DeviceDuplex, openPty } from "../../../support/device-duplex.js";
import { pending } from "../../../support/pending.js";
import { findPython, start } from "../../../support/processes.js";

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

describe(`channel of a guest beside cloud-init${python ? "" : " [pending: Debian's cloud-init and python3-serial are not installed]"}`, () => {
  before(function () {
    if (python === undefined) {
      return pending(this, "Debian's cloud-init and python3-serial");
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
