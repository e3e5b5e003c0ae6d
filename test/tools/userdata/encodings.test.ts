import { gzipSync } from "node:zlib";
import { expect } from "chai";
import fc from "fast-check";
import type { BootDataReader } from "../../../src/contract/boot-data.js";
import {
  decodeAnnounced,
  decodeBase64OrText,
  decodeNamed,
  decodePlain,
  MAX_BOOT_DATA_BYTES,
} from "../../../src/tools/userdata/encodings.js";
import { rejects } from "../../support/rejects.js";

const CONFIG = "#cloud-config\nhostname: x\n";
const BASE64 = "I2Nsb3VkLWNvbmZpZwpob3N0bmFtZTogeAo=";
const GZIP = gzipSync(CONFIG).toString("base64");

/** What the readers make of a name: data, or our refusal where theirs is one or a silent misreading. */
const VECTORS: readonly (readonly [
  encoding: string,
  value: string | Uint8Array,
  cloudInit: string,
  ignition: string,
])[] = [
  ["", CONFIG, CONFIG.trimEnd(), CONFIG],
  ["base64", BASE64, CONFIG, CONFIG],
  ["b64", BASE64, CONFIG, CONFIG],
  ["gzip+base64", GZIP, CONFIG, CONFIG],
  ["gz+b64", GZIP, CONFIG, CONFIG],
  ["gzip+b64", GZIP, "ERR_VALUE_INVALID", CONFIG],
  ["gz+base64", GZIP, "ERR_VALUE_INVALID", CONFIG],
  ["gzip", gzipSync(CONFIG), "ERR_VALUE_INVALID", CONFIG],
  ["gz", gzipSync(CONFIG), "ERR_VALUE_INVALID", CONFIG],
  ["plaintext", CONFIG, CONFIG.trimEnd(), "ERR_VALUE_INVALID"],
  ["GZIP+BASE64", GZIP, "ERR_VALUE_INVALID", "ERR_VALUE_INVALID"],
  ["BASE64", BASE64, "ERR_VALUE_INVALID", "ERR_VALUE_INVALID"],
  ["rot13", CONFIG, "ERR_VALUE_INVALID", "ERR_VALUE_INVALID"],
  ["base64\n", BASE64, CONFIG, "ERR_VALUE_INVALID"],
  [" ", CONFIG, CONFIG.trimEnd(), "ERR_VALUE_INVALID"],
  ["base64", `${BASE64.slice(0, 10)}\n${BASE64.slice(10)}`, CONFIG, CONFIG],
  ["base64", `${BASE64.slice(0, 10)} ${BASE64.slice(10)}`, CONFIG, "ERR_VALUE_INVALID"],
  ["base64", `${BASE64}\n`, CONFIG, CONFIG],
  ["base64", "not base64!", "ERR_VALUE_INVALID", "ERR_VALUE_INVALID"],
  ["base64", BASE64.replace("=", ""), "ERR_VALUE_INVALID", "ERR_VALUE_INVALID"],
  ["base64", BASE64.replaceAll("I", "-"), "ERR_VALUE_INVALID", "ERR_VALUE_INVALID"],
  ["gzip+base64", BASE64, "ERR_VALUE_INVALID", "ERR_VALUE_INVALID"],
  [
    "gzip+base64",
    gzipSync(CONFIG).subarray(0, -9).toString("base64"),
    "ERR_VALUE_INVALID",
    "ERR_VALUE_INVALID",
  ],
];

async function outcome(
  reader: BootDataReader,
  value: string | Uint8Array,
  encoding: string,
): Promise<string> {
  try {
    const decoded = await decodeNamed(reader, Buffer.from(value as string), encoding);
    return "absent" in decoded ? `absent: ${decoded.absent}` : Buffer.from(decoded.value).toString();
  } catch (error) {
    return (error as { code: string }).code;
  }
}

describe("encodings of boot data", () => {
  for (const [encoding, value, cloudInit, ignition] of VECTORS)
    it(`${JSON.stringify(encoding)} of ${Buffer.from(value as string).length} bytes is what its readers take, and no more`, async () => {
      expect(await outcome("cloud-init", value, encoding)).to.equal(cloudInit);
      expect(await outcome("ignition", value, encoding)).to.equal(ignition);
    });

  it("take what a reader has removed for nothing", async () => {
    for (const [value, encoding] of [
      ["---", " "],
      ["---\n", ""],
      ["---", "base64"],
      [" ", " "],
      ["", ""],
    ] as const)
      expect(await outcome("cloud-init", value, encoding), value).to.match(/^absent: /);
    expect(await outcome("ignition", "e30K", "base64")).to.equal("absent: Ignition has removed it");
    expect(await outcome("ignition", "", "")).to.equal("absent: it is empty");
    expect(await outcome("ignition", "{}\n", "")).to.equal("{}\n");
  });

  it("stop a small value that would grow without end", async () => {
    const bomb = gzipSync(Buffer.alloc(MAX_BOOT_DATA_BYTES + 1));
    expect(bomb.length).to.be.lessThan(32 * 1024);
    for (const reader of ["cloud-init", "ignition"] as const)
      await rejects(
        decodeNamed(reader, Buffer.from(bomb.toString("base64")), "gzip+base64"),
        "ERR_VALUE_TOO_LONG",
      );
    const most = gzipSync(Buffer.alloc(MAX_BOOT_DATA_BYTES)).toString("base64");
    const decoded = await decodeNamed("cloud-init", Buffer.from(most), "gzip+base64");
    expect("value" in decoded && decoded.value.length).to.equal(MAX_BOOT_DATA_BYTES);
    expect(() => decodePlain(Buffer.alloc(MAX_BOOT_DATA_BYTES + 1))).to.throw(/more than 16777216 bytes/);
  });

  it("unpack no more of it than that", async () => {
    const member = gzipSync(Buffer.alloc(MAX_BOOT_DATA_BYTES - 1));
    const bomb = Buffer.concat(Array.from({ length: 40 }, () => member)).toString("base64");
    const before = process.resourceUsage().maxRSS;
    await rejects(decodeNamed("ignition", Buffer.from(bomb), "gz+b64"), "ERR_VALUE_TOO_LONG");
    expect(process.resourceUsage().maxRSS - before).to.be.lessThan(200 * 1024);
  });

  it("say which names are known, and never quote the value", async () => {
    const error = await rejects(
      decodeNamed("cloud-init", Buffer.from("secret"), "BASE64"),
      "ERR_VALUE_INVALID",
    );
    expect(error.message).to.contain('"BASE64"').and.contain("base64, b64, gzip+base64, gz+b64");
    expect(error.message).not.to.contain("secret");
  });

  it("give back what was encoded, whatever it is", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ minLength: 1, maxLength: 300 }),
        fc.boolean(),
        async (bytes, isPacked) => {
          const packed = Buffer.from(isPacked ? gzipSync(bytes) : bytes).toString("base64");
          const name = isPacked ? "gzip+base64" : "base64";
          for (const reader of ["cloud-init", "ignition"] as const) {
            const decoded = await decodeNamed(reader, Buffer.from(packed), name);
            if ("absent" in decoded) expect(Buffer.from(bytes).toString()).to.equal("{}\n");
            else expect(Buffer.from(decoded.value)).to.deep.equal(Buffer.from(bytes));
          }
        },
      ),
      { numRuns: 100 },
    );
  });

  it("either decode or refuse any bytes with a code", async () => {
    const names = VECTORS.map(([name]) => name);
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 60 }), fc.constantFrom(...names), async (bytes, name) => {
        for (const reader of ["cloud-init", "ignition"] as const)
          expect(await outcome(reader, bytes, name)).not.to.equal(undefined);
      }),
      { numRuns: 200 },
    );
  });

  it("of OVF properties are base64 or text, of the metadata channel what a key announces", async () => {
    expect(decodeBase64OrText(BASE64)).to.deep.include({ encoding: "base64", value: Buffer.from(CONFIG) });
    expect(decodeBase64OrText(CONFIG)).to.deep.include({ encoding: "plain", value: Buffer.from(CONFIG) });
    expect(decodeAnnounced(Buffer.from(BASE64))).to.deep.include({ value: Buffer.from(CONFIG) });
    expect(() => decodeAnnounced(Buffer.from(CONFIG))).to.throw(/no padded base64/);
  });
});
