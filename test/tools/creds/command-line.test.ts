import { expect } from "chai";
import { commandLineCredentials } from "../../../src/tools/creds/command-line.js";
import { isCredentialName } from "../../../src/tools/creds/names.js";

const read = (line: string): [string, string | undefined][] =>
  commandLineCredentials(line).map(({ name, value }) => [
    name,
    value && Buffer.from(value).toString("latin1"),
  ]);

describe("credentials of the kernel's command line", () => {
  for (const [line, found] of [
    ["root=/dev/vda systemd.set_credential=n:v quiet", [["n", "v"]]],
    [
      "systemd.set_credential=a:1 systemd.set_credential=b:2\n",
      [
        ["a", "1"],
        ["b", "2"],
      ],
    ],
    ["systemd.set_credential=n:a:b=c", [["n", "a:b=c"]]],
    ["systemd.set_credential=n:", [["n", ""]]],
    ['systemd.set_credential="n:a b"', [["n", "a b"]]],
    ["systemd.set_credential=n:'a \"b'c", [["n", 'a "bc']]],
    ["systemd.set-credential=n:v", [["n", "v"]]],
    ["systemd.set_credential_binary=n:AP8BAg==", [["n", "\x00\xff\x01\x02"]]],
    ["systemd.set_credential_binary=n:!!!", [["n", undefined]]],
    ["systemd.set_credential=n", []],
    ["rd.systemd.set_credential=n:v systemd.set_credentials=n:v", []],
    ["", []],
  ] as const)
    it(`of ${JSON.stringify(line)} are those that systemd takes`, () => {
      expect(read(line)).to.deep.equal(found);
    });

  it("have names of files in printable ASCII, without a colon", () => {
    for (const name of ["a", "vmm.notify_socket", "a b", ".hidden", "x".repeat(255)])
      expect(isCredentialName(name), name).to.equal(true);
    for (const name of ["", ".", "..", "a/b", "a:b", "ä", "a\n", "a\0", "x".repeat(256)])
      expect(isCredentialName(name), name).to.equal(false);
  });
});
