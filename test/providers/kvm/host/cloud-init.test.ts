import { expect } from "chai";
import { openAdministration } from "../../../../providers/kvm/host/index.js";
import { HostFolder } from "../../../support/kvm-guest.js";
import { findPython, start } from "../../../support/processes.js";

const python = findPython("import cloudinit.sources.DataSourceSmartOS");

/** Runs a script with cloud-init's own metadata client, unchanged, and gives what it printed. */
async function withClient(socket: string, body: string): Promise<unknown> {
  const script = `import json, sys
from cloudinit.sources.DataSourceSmartOS import JoyentMetadataSocketClient
with JoyentMetadataSocketClient(sys.argv[1], smartos_type="lx-brand") as c:
    out = []
${body.replace(/^/gm, "    ")}
print(json.dumps(out))`;
  const { code, stdout, stderr } = await start(python as string, ["-c", script, socket]).done;
  expect(code, stderr).to.equal(0);
  return JSON.parse(stdout);
}

/** cloud-init's SmartOS client, which we did not write, as the guest. */
describe(`KVM host beside cloud-init${python ? "" : " [pending: Debian's cloud-init is not installed]"}`, () => {
  before(function () {
    if (python === undefined) this.skip();
  });

  it("serves GET, PUT, KEYS and DELETE to cloud-init's client", async () => {
    await using folder = new HostFolder();
    await folder.serve(["web-1"]);
    await using administration = await openAdministration(folder.state);
    const keys = {
      hostname: "guest1",
      dots: ".a\n..b\nc",
      utf8: "grüße",
      "sdc:uuid": "11223344-5566-7788-99aa-bbccddeeff00",
      "sdc:nics": '[{"mac":"90:b8:d0:f5:e4:f5"}]',
      large: "0123456789abcdef".repeat(20_000),
    };
    for (const [key, value] of Object.entries(keys))
      await administration.set("web-1", key, Buffer.from(value));

    const seen = await withClient(
      folder.socket("web-1"),
      `out += [c.get(k) for k in ("hostname", "nope", "dots", "utf8", "sdc:uuid")]
out += [len(c.get("large")), c.get_json("sdc:nics"), sorted(c.list())]
out += [c.put("pvbus/test", "v1 ü"), c.get("pvbus/test"), c.put("sdc:x", "y"), c.delete("pvbus/test")]
out += [c.get("pvbus/test"), c.delete("pvbus/test"), c.request("WATCH", "x"), c.put("ready", "yes")]`,
    );
    expect(seen).to.deep.equal([
      "guest1",
      null,
      ".a\n..b\nc",
      "grüße",
      "11223344-5566-7788-99aa-bbccddeeff00",
      320_000,
      [{ mac: "90:b8:d0:f5:e4:f5" }],
      ["dots", "hostname", "large", "utf8"],
      "OK",
      "v1 ü",
      null,
      "OK",
      null,
      "OK",
      "OK",
      "OK",
    ]);
    expect(Buffer.from((await administration.get("web-1", "ready")) ?? "").toString()).to.equal("yes");
    expect(await administration.get("web-1", "sdc:x")).to.equal(undefined);
  });

  it("never hears of a watch that an earlier client left on the same line", async () => {
    await using folder = new HostFolder();
    await folder.serve(["web-1"]);
    await using administration = await openAdministration(folder.state);
    await administration.set("web-1", "hostname", Buffer.from("guest1"));
    // One connection, two clients: the first one's watch is on when cloud-init negotiates.
    const seen = await withClient(
      folder.socket("web-1"),
      `import base64, binascii
body = b"00000001 WATCH"
c.fp.write(b"V2 %d %08x %s\\n" % (len(body), binascii.crc32(body), body))
c.fp.flush()
out.append(c.fp.readline().decode().split(" ", 4)[4])
out.append(c._negotiate())
out.append(c.put("hostname", "guest2"))
out.append(c.get("hostname"))`,
    );
    expect(seen).to.deep.equal(["SUCCESS T0s=\n", null, "OK", "guest2"]);
  });
});
