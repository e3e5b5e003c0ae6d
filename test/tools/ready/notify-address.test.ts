import { expect } from "chai";
import { notifyMessage, parseNotifyAddress } from "../../../src/tools/ready/notify-address.js";

describe("the address of vmm.notify_socket", () => {
  for (const [text, address] of [
    ["vsock:2:9999", { kind: "vsock", type: undefined, cid: 2, port: 9999 }],
    ["vsock-stream:1:9998", { kind: "vsock", type: "stream", cid: 1, port: 9998 }],
    ["vsock-seqpacket:2:1", { kind: "vsock", type: "seqpacket", cid: 2, port: 1 }],
    ["vsock-dgram:2:1", { kind: "vsock", type: "datagram", cid: 2, port: 1 }],
    ["/run/notify", { kind: "unix", path: "/run/notify" }],
    ["@abstract", { kind: "unix", path: "@abstract" }],
    ["vsock:2", undefined],
    ["vsock::9999", undefined],
    ["vsock:2:4294967296", undefined],
    ["vsock:-1:1", undefined],
    ["tcp:1:2", undefined],
    ["relative", undefined],
    ["", undefined],
    ["/", undefined],
  ] as const)
    it(`${JSON.stringify(text)} is ${address === undefined ? "none" : "one"}`, () => {
      expect(parseNotifyAddress(text)).to.deep.equal(address);
    });

  it("gets the message that systemd sends, byte for byte", () => {
    expect(Buffer.from(notifyMessage({ ready: true })).toString("hex")).to.equal(
      "52454144593d310a5354415455533d52656164792e",
    );
    expect(notifyMessage({ ready: true, status: "up" })).to.equal("READY=1\nSTATUS=up");
    expect(notifyMessage({ ready: false, status: "no disk" })).to.equal("STATUS=no disk\nERRNO=1");
  });
});
