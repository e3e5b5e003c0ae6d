import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { expect } from "chai";
import { decodeOrder, decodeReport, encodeReport } from "../../../../providers/kvm/host/control-messages.js";
import { openAdministration, parseConfiguration } from "../../../../providers/kvm/host/index.js";
import { qemuArguments } from "../../../../providers/kvm/host/launch/arguments.js";
import { parseDescription } from "../../../../providers/kvm/host/launch/description.js";
import { libvirtParts } from "../../../../providers/kvm/host/launch/libvirt.js";
import { PvbusError, pvbusError } from "../../../../src/base/errors.js";
import { HostFolder, TestGuest } from "../../../support/kvm-guest.js";
import { collect } from "../../../support/pools.js";
import { rejects } from "../../../support/rejects.js";

/** What every object has without having been given it. */
const INHERITED = Object.getOwnPropertyNames(Object.prototype);

describe("KVM host and names from outside", () => {
  it("takes every unknown code of the control protocol for one", () => {
    const codes = [...INHERITED, "ERR_NEW", "", 5, null, ["ERR_BUSY"], { toString: "ERR_BUSY" }];
    for (const code of codes) {
      const report = decodeReport(JSON.stringify({ error: { code, message: "it says so", key: "k" } }));
      const error = report !== undefined && "error" in report ? report.error : undefined;
      expect(PvbusError.is(error), JSON.stringify(code)).to.equal(true);
      expect([error?.code, error?.message, error?.key]).to.deep.equal(["ERR_UNAVAILABLE", "it says so", "k"]);
    }
    for (const [message, key] of [
      [5, 5],
      [null, null],
      [{}, []],
      [undefined, undefined],
    ]) {
      const report = decodeReport(JSON.stringify({ error: { code: "ERR_BUSY", message, key } }));
      const error = report !== undefined && "error" in report ? report.error : undefined;
      expect([error?.code, typeof error?.message, error?.key]).to.deep.equal([
        "ERR_BUSY",
        "string",
        undefined,
      ]);
    }
    const known = decodeReport(
      encodeReport({ error: pvbusError("ERR_CONFLICT", "twice", { key: "k" }) }).trim(),
    );
    expect(known).to.have.nested.property("error.code", "ERR_CONFLICT");
    for (const line of ['{"__proto__":{"done":true}}', '{"constructor":1}', '"done"', "[]"])
      expect(decodeReport(line), line).to.equal(undefined);
    for (const name of INHERITED)
      expect(decodeOrder(JSON.stringify({ do: name, guest: "a", key: "k", value: "" }))).to.equal(undefined);
  });

  it("passes on what a newer host says in a code that is not known here", async () => {
    await using folder = new HostFolder();
    mkdirSync(folder.state, { mode: 0o700 });
    const host = createServer((socket) => {
      socket.on("error", () => socket.destroy());
      socket.once("data", () => socket.end('{"error":{"code":"constructor","message":"not today"}}\n'));
    }).listen(join(folder.state, "control.sock"));
    await once(host, "listening");
    await using administration = await openAdministration(folder.state);
    const error = await rejects(administration.get("a", "k"), "ERR_UNAVAILABLE");
    expect(error.message).to.equal("not today");
    await new Promise((resolve) => host.close(resolve));
  });

  it("serves guests and keys of any such name, or refuses the name", async () => {
    await using folder = new HostFolder();
    const guests = INHERITED.filter((name) => !name.startsWith("_"));
    await folder.serve(guests);
    await using administration = await openAdministration(folder.state);
    for (const [at, name] of guests.entries()) {
      await using guest = await TestGuest.connect(folder.socket(name));
      for (const key of INHERITED) {
        expect(await guest.get(key), key).to.equal(undefined);
        expect(await guest.put(key, `${at}`)).to.equal("OK");
        expect(await guest.get(key)).to.equal(`${at}`);
      }
      expect(await guest.say("GET __proto__\n")).to.equal("SUCCESS");
      const entries = await collect(administration.list(name));
      expect(entries.map(({ key }) => key)).to.deep.equal([...INHERITED].sort());
    }
    expect(await administration.guests()).to.deep.equal([...guests].sort());
    for (const name of INHERITED.filter((each) => each.startsWith("_"))) {
      const refused = await folder
        .serve([name], { directory: join(folder.path, "other") })
        .catch((error) => error);
      expect(refused, name).to.be.instanceOf(TypeError);
    }
  });

  it("reads configurations and descriptions with such names as any others", () => {
    for (const name of INHERITED) {
      const field = JSON.stringify(name);
      const texts = [
        `{${field}: {}}`,
        `{"limits": {${field}: 5}}`,
        `{"guests": {"a": {${field}: []}}}`,
        `{"guests": {"a": {"limits": {${field}: 5}}}}`,
        `{"guests": {"a": {"socketOwner": {"uid": 1, "gid": 1, ${field}: 1}}}}`,
      ];
      for (const text of texts)
        expect(() => parseConfiguration(JSON.parse(text)), text).to.throw(TypeError, `has no field ${name}`);
      const guest = (): unknown =>
        parseConfiguration(JSON.parse(`{"guests": {${field}: {}}}`)).guests[0]?.name;
      if (name.startsWith("_")) expect(guest, name).to.throw(TypeError);
      else expect(guest()).to.equal(name);
      const description = parseDescription(JSON.parse(`{"keys": {${field}: "<v>"}}`));
      expect(description.keys.map(({ key }) => key)).to.deep.equal([name]);
      expect(qemuArguments(description, () => undefined).join(" ")).to.include(`org.pvbus:${name}=<v>`);
      expect(
        libvirtParts(description, () => undefined)
          .map(({ xml }) => xml)
          .join(),
      ).to.include("&lt;v&gt;");
    }
  });
});
