import { expect } from "chai";
import { fieldOf, serialMetadata, withInstanceId } from "../../../src/tools/userdata/metadata.js";

describe("metadata", () => {
  for (const [name, metadata, field] of [
    ["JSON with a mapping", '{"network": {"version": 2}}', { document: '{"version":2}\n' }],
    ["JSON with a text", '{"network": "abcd"}', { text: "abcd" }],
    ["JSON without it", '{"other": 1}', undefined],
    [
      "YAML with a mapping",
      "instance-id: a\nnetwork:\n  version: 2\n  ethernets:\n    e: {}\nlocal-hostname: x\n",
      { document: "version: 2\nethernets:\n  e: {}\n" },
    ],
    ["YAML with a text", "network: abcd\nnetwork.encoding: base64\n", { text: "abcd" }],
    ["YAML with a quoted text and key", `"network": 'ab cd'\n`, { text: "ab cd" }],
    ["YAML with a comment behind it", "network: abcd # as base64\n", { text: "abcd" }],
    ["YAML with a block of text", "network: |\n  abcd\n  efgh\nother: 1\n", { text: "abcd\nefgh" }],
    ["YAML in one line", "network: {version: 2}\n", { document: "{version: 2}\n" }],
    ["YAML with it inside of another key", "other:\n  network: no\n", undefined],
    ["YAML with nothing in it", "network:\nother: 1\n", undefined],
    ["nothing", "", undefined],
  ] as const)
    it(`finds the network in ${name}`, () => {
      expect(fieldOf(metadata, "network")).to.deep.equal(field);
    });

  it("tells a key from one that begins so", () => {
    expect(fieldOf("network.encoding: base64\n", "network")).to.equal(undefined);
    expect(fieldOf("network.encoding: base64\n", "network.encoding")).to.deep.equal({ text: "base64" });
  });

  for (const [name, metadata, expected] of [
    ["nothing", "", "instance-id: i\n"],
    ["YAML", "local-hostname: x\n", "instance-id: i\nlocal-hostname: x\n"],
    ["YAML that begins a document", "# mine\n---\na: 1\n", "# mine\n---\ninstance-id: i\na: 1\n"],
    ["YAML that begins a document at its end", "---", "---\ninstance-id: i\n"],
    ["JSON", '{"a":1}', '{\n "instance-id": "i",\n "a": 1\n}\n'],
    ["YAML that has one", "instance-id: mine\n", "instance-id: mine\n"],
    [
      "JSON that has none but its name",
      '{"instance-id":null,"a":1}',
      '{\n "instance-id": "i",\n "a": 1\n}\n',
    ],
    ["YAML that has none but its name", "a: 1\ninstance-id:\n", "instance-id: i\na: 1\n"],
    ["JSON that has one", '{"instance-id":"mine"}', '{"instance-id":"mine"}'],
  ] as const)
    it(`gets an instance id in ${name}`, () => {
      expect(withInstanceId(metadata, "i")).to.equal(expected);
    });

  it("without one in a form that takes no line is refused", () => {
    expect(() => withInstanceId("{a: 1}", "i")).to.throw(/give it an instance-id/);
  });

  for (const [serial, fields] of [
    [
      "ds=nocloud;s=file:///dir/;i=abc;h=hh",
      { seedfrom: "file:///dir/", "instance-id": "abc", "local-hostname": "hh" },
    ],
    ["ds=nocloud-net;s=http://x/", { seedfrom: "http://x/" }],
    ["ds=nocloud", undefined],
    ["ds=NoCloud;i=abc", undefined],
    ["nocloud;i=abc", undefined],
    ["VMware-56 4d", undefined],
    ["", undefined],
  ] as const)
    it(`of the serial number ${JSON.stringify(serial)} is what cloud-init takes from it`, () => {
      expect(serialMetadata(serial)).to.deep.equal(fields);
    });
});
