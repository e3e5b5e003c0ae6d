import { crc32 } from "node:zlib";
import { expect } from "chai";
import fc from "fast-check";
import {
  decodeAnswer,
  decodeCapabilities,
  encodeAnswer,
  encodeCapabilities,
} from "../../src/mdata/answer.js";
import { decodeBase64, decodeShortAscii, encodeBase64 } from "../../src/mdata/base64.js";
import { decodeFrame, decodeFrameHead, encodeFrame, isFrame } from "../../src/mdata/frame.js";
import { LineReader } from "../../src/mdata/line-reader.js";
import { encodePlainValue, PlainAnswerReader } from "../../src/mdata/plain.js";
import { decodeRequest, encodeRequest, type Request } from "../../src/mdata/request.js";
import { ANSWER_VECTORS, REQUEST_VECTORS } from "./vectors.js";

const text = (bytes: Uint8Array | undefined): string | undefined =>
  bytes && Buffer.from(bytes).toString("utf8");
const word = (line: string): string => line.split(" ")[4] ?? "";

describe("metadata frames", () => {
  for (const { line, says } of [...REQUEST_VECTORS, ...ANSWER_VECTORS]) {
    it(`reads and writes ${line.slice(0, 60)}`, () => {
      const frame = decodeFrame(Buffer.from(line));
      expect(frame?.id).to.equal(line.split(" ")[3]);
      expect(frame?.word).to.equal(word(line));
      expect(frame?.payload === undefined ? undefined : text(decodeBase64(frame.payload))).to.equal(says);
      expect(frame && encodeFrame(frame).toString("latin1")).to.equal(`${line}\n`);
    });
  }

  it("has the bytes of the reference", () => {
    expect(encodeRequest("00000001", { command: "KEYS" }).toString("hex")).to.equal(
      "563220313320663239616566333820303030303030303120 4b4559530a".replace(" ", ""),
    );
  });

  for (const { line } of REQUEST_VECTORS) {
    it(`takes the request ${line} apart and puts it together`, () => {
      const frame = decodeFrame(Buffer.from(line));
      const request = frame && decodeRequest(frame);
      expect(request).to.be.an("object");
      expect(encodeRequest(line.split(" ")[3] ?? "", request as Request).toString("latin1")).to.equal(
        `${line}\n`,
      );
    });
  }

  for (const { line } of ANSWER_VECTORS) {
    it(`takes the answer ${line.slice(0, 60)} apart and puts it together`, () => {
      const frame = decodeFrame(Buffer.from(line));
      const answer = frame && decodeAnswer(frame);
      expect(answer && encodeAnswer(line.split(" ")[3] ?? "", answer).toString("latin1")).to.equal(
        `${line}\n`,
      );
    });
  }

  it("accepts several blanks between fields and blanks or a carriage return behind", () => {
    const body = "1e9887d1   SUCCESS  YQ==";
    const frame = encodeFrame({ id: "1e9887d1", word: "  SUCCESS ", payload: "YQ==" }).toString().trimEnd();
    expect(frame).to.match(new RegExp(`${body}$`));
    for (const end of ["", " ", "\r", " \r"])
      expect(decodeFrame(Buffer.from(frame.replaceAll("V2 ", "V2  ") + end))).to.deep.equal({
        id: "1e9887d1",
        word: "SUCCESS",
        payload: "YQ==",
      });
  });

  const good = "V2 17 e8bac850 01eaf614 NOTFOUND";
  for (const [what, broken] of [
    ["an upper-case checksum", good.replace("e8bac850", "E8BAC850")],
    ["a checksum without its zeros", "V2 13 e8a1e 000021f4 KEYS"],
    ["a wrong checksum", good.replace("e8bac850", "e8bac851")],
    ["a wrong length", good.replace("17", "18")],
    ["a length of many digits", good.replace("17", "99999999999")],
    ["a changed body", good.replace("NOTFOUND", "NOTFOUNE")],
    ["no body", "V2 0 00000000 "],
    ["nothing", "V2"],
    ["another version", good.replace("V2", "V3")],
    ["a blank in front", ` ${good}`],
    ["half of it", good.slice(0, 20)],
  ] as const) {
    it(`refuses ${what}`, () => expect(decodeFrame(Buffer.from(broken))).to.equal(undefined));
  }

  it("refuses an id that is none, and a body without a word, whatever the checksum", () => {
    for (const [id, command] of [
      ["1234567", "KEYS"],
      ["123456789", "KEYS"],
      ["1234567g", "KEYS"],
      ["12345678", ""],
      ["12345678", "W".repeat(33)],
    ] as const)
      expect(decodeFrame(encodeFrame({ id, word: command, payload: undefined }).subarray(0, -1))).to.equal(
        undefined,
      );
  });

  it("tells lines that are meant as frames", () => {
    expect(
      ["V2", "V2 1", "V2_OK", "V", "", "FAILURE"].map((line) => isFrame(Buffer.from(line))),
    ).to.deep.equal([true, true, false, false, false, false]);
  });

  it("knows id and command of a frame that is too long, if its length is true", () => {
    const frame = encodeRequest("0123abcd", { command: "PUT", key: "k", value: Buffer.alloc(5000) });
    expect(decodeFrameHead(frame.subarray(0, 256), frame.length - 1)).to.deep.equal({
      id: "0123abcd",
      word: "PUT",
      payload: undefined,
    });
    expect(decodeFrameHead(frame.subarray(0, 256), frame.length)).to.equal(undefined);
    expect(decodeFrameHead(Buffer.from("GET x"), 5)).to.equal(undefined);
  });

  it("reads frames as their grammar has them, however they are changed", () => {
    const byGrammar = (line: Buffer): unknown => {
      const whole = line.toString("latin1").replace(/[ \r\t]+$/, "");
      const [head, length, checksum] = /^V2 +(\d{1,10}) +([0-9a-f]{8}) +/.exec(whole) ?? [];
      const body = whole.slice(head?.length);
      const sum = crc32(Buffer.from(body, "latin1"));
      if (head === undefined || Number(length) !== body.length || Number.parseInt(checksum ?? "", 16) !== sum)
        return undefined;
      const [, id, word, payload] = /^([0-9a-fA-F]{8}) +([^ ]{1,32})(?: +(.+)|$)/s.exec(body) ?? [];
      return id === undefined ? undefined : { id, word, payload };
    };
    const characters = fc.constantFrom(..."V2 0aAfFgG9\x10\x19\r\t=\xe9");
    const change = fc.tuple(fc.nat(60), fc.nat(2), fc.array(characters, { maxLength: 3 }));
    const body = fc.array(characters, { maxLength: 90 }).map((all) => all.join(""));
    let read = 0;
    fc.assert(
      fc.property(body, fc.option(change), fc.boolean(), (rest, changed, isWhole) => {
        const text = isWhole ? `1e9887D1 GET${rest}` : rest;
        const bytes = Buffer.from(text.replace(/[ \r\t]+$/, ""), "latin1");
        const head = `V2 ${bytes.length} ${crc32(bytes).toString(16).padStart(8, "0")} `;
        let line = `${head}${bytes.toString("latin1")}`;
        if (changed !== null) {
          const [at, gone, added] = changed;
          line = line.slice(0, at) + added.join("") + line.slice(at + gone);
        }
        const found = decodeFrame(Buffer.from(line, "latin1"));
        if (found !== undefined) read++;
        expect(found, JSON.stringify(line)).to.deep.equal(byGrammar(Buffer.from(line, "latin1")));
      }),
      { numRuns: 3_000 },
    );
    expect(read, "frames that were whole").to.be.greaterThan(300);
  });

  it("decodes and encodes short base64 as Node does", () => {
    const characters = fc.constantFrom(..."ABYZabyz0189+/=-_ \xe9\u0141");
    fc.assert(
      fc.property(
        fc.array(characters, { maxLength: 70 }),
        fc.uint8Array({ maxLength: 60 }),
        (text, bytes) => {
          expect(encodeBase64(bytes)).to.equal(Buffer.from(bytes).toString("base64"));
          const short = decodeShortAscii(text.join(""));
          if (short !== undefined)
            expect(Buffer.from(short, "latin1")).to.deep.equal(decodeBase64(text.join("")));
          const ascii = Buffer.from(bytes.map((byte) => byte & 0x7f));
          if (ascii.length <= 48)
            expect(decodeShortAscii(ascii.toString("base64"))).to.equal(ascii.toString("latin1"));
        },
      ),
      { numRuns: 3_000 },
    );
  });

  it("keeps any frame of any payload", () => {
    fc.assert(
      fc.property(fc.nat(0xffff_ffff), fc.uint8Array({ minLength: 1, maxLength: 300 }), (number, bytes) => {
        const id = number.toString(16).padStart(8, "0");
        const frame = { id, word: "SUCCESS", payload: encodeBase64(bytes) };
        expect(decodeFrame(encodeFrame(frame).subarray(0, -1))).to.deep.equal(frame);
      }),
    );
  });

  it("survives any bytes, and any one changed byte is noticed", () => {
    const whole = encodeRequest("0123abcd", { command: "GET", key: "hostname" }).subarray(0, -1);
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 80 }),
        fc.nat(whole.length - 1),
        fc.integer({ min: 1, max: 255 }),
        (bytes, at, change) => {
          decodeFrame(Buffer.from(bytes));
          decodeFrame(Buffer.concat([Buffer.from("V2 "), bytes]));
          const changed = Buffer.from(whole);
          changed[at] = (changed[at] ?? 0) ^ change;
          expect(decodeFrame(changed)).to.equal(undefined);
        },
      ),
    );
  });
});

describe("metadata requests and answers", () => {
  it("keeps any key and any value of a PUT", () => {
    fc.assert(
      fc.property(fc.string({ minLength: 1, unit: "grapheme" }), fc.uint8Array(), (key, bytes) => {
        const value = Buffer.from(bytes);
        const frame = decodeFrame(encodeRequest("00000001", { command: "PUT", key, value }).subarray(0, -1));
        expect(frame && decodeRequest(frame)).to.deep.equal({ command: "PUT", key, value });
      }),
    );
  });

  it("keeps any value of an answer, an empty one without payload", () => {
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        const answer = { kind: "success", value: Buffer.from(bytes) } as const;
        const frame = decodeFrame(encodeAnswer("00000001", answer).subarray(0, -1));
        expect(frame?.payload === undefined).to.equal(bytes.length === 0);
        expect(frame && decodeAnswer(frame)).to.deep.equal(answer);
      }),
    );
  });

  for (const [word, payload] of [
    ["GET", undefined],
    ["GET", "bm9wZQ"],
    ["GET", "!!!!"],
    ["GET", "-_-_"],
    ["GET", encodeBase64(Buffer.of(0xff))],
    ["DELETE", undefined],
    ["PUT", undefined],
    ["PUT", encodeBase64(Buffer.from("azE="))],
    ["PUT", encodeBase64(Buffer.from(" azE="))],
    ["PUT", encodeBase64(Buffer.from("azE= a"))],
    ["PUT", encodeBase64(Buffer.from("azE= azE= azE="))],
    ["PUT", encodeBase64(Buffer.from("/w== azE="))],
    ["WATCH", "/w=="],
    ["UNWATCH", undefined],
  ] as const) {
    it(`takes ${word} ${payload} as invalid`, () =>
      expect(decodeRequest({ id: "00000001", word, payload })).to.equal("invalid"));
  }

  it("takes other commands as unknown, those of Object's prototype too", () => {
    for (const command of ["get", "TOSS", "constructor", "__proto__"])
      expect(decodeRequest({ id: "00000001", word: command, payload: undefined })).to.equal("unknown");
  });

  it("takes any other word as a failure, and a damaged payload as no answer", () => {
    const frame = { id: "00000001", payload: undefined };
    expect(decodeAnswer({ ...frame, word: "MAYBE" })).to.deep.equal({
      kind: "failure",
      message: "unknown answer MAYBE",
    });
    expect(decodeAnswer({ ...frame, word: "SUCCESS", payload: "YQ=" })).to.equal(undefined);
    expect(decodeAnswer({ ...frame, word: "FAILURE", payload: "YQ=" })).to.deep.equal({
      kind: "failure",
      message: "",
    });
  });

  it("keeps events, and takes anything else for none", () => {
    const answer = { kind: "event", event: { key: "a b", op: "put", rev: 7 } } as const;
    const frame = decodeFrame(encodeAnswer("00000009", answer).subarray(0, -1));
    expect(frame && decodeAnswer(frame)).to.deep.equal(answer);
    for (const document of [
      "",
      "null",
      "[]",
      '"x"',
      "{}",
      '{"key":"","op":"put"}',
      '{"key":"k","op":"move"}',
      '{"key":1,"op":"put"}',
      "{",
    ]) {
      const payload = encodeBase64(Buffer.from(document));
      expect(decodeAnswer({ id: "00000009", word: "EVENT", payload }), document).to.equal(undefined);
    }
  });

  it("keeps what a host can, and takes anything else for nothing", () => {
    const all = {
      server: "pvbus",
      commands: ["GET"],
      maxKey: 10,
      maxValue: 20,
      binary: true,
      emptyValues: true,
    };
    expect(decodeCapabilities(encodeCapabilities(all))).to.deep.equal(all);
    const odd = Buffer.from(
      '{"server":"x","commands":["GET",1],"maxKey":-1,"maxValue":"9","binary":1,"more":{}}',
    );
    expect(decodeCapabilities(odd)).to.deep.equal({
      server: "x",
      commands: ["GET"],
      maxKey: undefined,
      maxValue: undefined,
      binary: false,
      emptyValues: false,
    });
    for (const document of ["", "null", "[]", "{}", '{"server":1,"commands":[]}', '{"server":"x"}'])
      expect(decodeCapabilities(Buffer.from(document)), document).to.equal(undefined);
  });
});

describe("base64 of payloads", () => {
  it("keeps any bytes and refuses all that is no padded base64", () => {
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        expect(decodeBase64(encodeBase64(bytes))).to.deep.equal(Buffer.from(bytes));
      }),
    );
    for (const bad of ["a", "YQ", "YQ=", "YQ= ", "Y=Q=", "YQ==YQ==", "YQ\n=", "Y Q=", "-_==", "===="])
      expect(decodeBase64(bad), bad).to.equal(undefined);
  });
});

describe("metadata answers of version 1", () => {
  const read = (bytes: Buffer, maxBytes = 1000): unknown => {
    const reader = new PlainAnswerReader(maxBytes);
    const lines = new LineReader(1000);
    lines.push(bytes);
    for (let line = lines.next(); line !== undefined; line = lines.next()) {
      const answer = reader.take(line.bytes);
      if (answer !== undefined) return answer;
    }
    return undefined;
  };

  it("keeps any value", () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.array(fc.constantFrom(".", "..", "\n", "a", "\r")), (bytes, dots) => {
        for (const value of [Buffer.from(bytes), Buffer.from(dots.join(""))])
          expect(read(encodePlainValue(value))).to.deep.equal({ kind: "success", value });
      }),
    );
  });

  it("reads what hosts say beside values", () => {
    expect(read(Buffer.from("NOTFOUND\n"))).to.deep.equal({ kind: "missing" });
    expect(read(Buffer.from("SUCCESS\r\nx\n.\r\n"))).to.deep.equal({
      kind: "success",
      value: Buffer.from("x"),
    });
    expect(read(Buffer.from("SUCCESS\n.\n"))).to.deep.equal({ kind: "success", value: Buffer.alloc(0) });
    expect(read(Buffer.from("FAILURE\n"))).to.deep.equal({ kind: "failure", message: "FAILURE" });
    expect(read(Buffer.from("invalid command\n"))).to.deep.equal({
      kind: "failure",
      message: "invalid command",
    });
    expect(read(Buffer.from("SUCCESS\nhalf\n"))).to.equal(undefined);
  });

  it("keeps no more than its limit", () => {
    expect(read(encodePlainValue(Buffer.from("x".repeat(50))), 20)).to.have.property("kind", "failure");
  });
});

describe("metadata lines", () => {
  it("gives the same lines however the bytes are cut", () => {
    const lines = fc.array(fc.array(fc.integer({ min: 11, max: 255 }), { maxLength: 400 }), { maxLength: 6 });
    fc.assert(
      fc.property(lines, fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1 }), (given, cuts) => {
        const bytes = Buffer.concat(given.map((line) => Buffer.from([...line, 0x0a])));
        const reader = new LineReader(300);
        const seen: { bytes: Buffer; length: number; long: boolean }[] = [];
        for (let at = 0, turn = 0; at < bytes.length; turn++) {
          const size = cuts[turn % cuts.length] ?? 1;
          reader.push(bytes.subarray(at, at + size));
          at += size;
          for (let line = reader.next(); line !== undefined; line = reader.next())
            seen.push({ bytes: Buffer.from(line.bytes), length: line.length, long: reader.isTooLong(line) });
        }
        expect(seen.map(({ length }) => length)).to.deep.equal(given.map((line) => line.length));
        for (const [at, { bytes: line, long }] of seen.entries()) {
          const whole = Buffer.from(given[at] ?? []);
          expect(long).to.equal(whole.length > 300);
          expect(line.equals(long ? whole.subarray(0, line.length) : whole)).to.equal(true);
        }
      }),
    );
  });

  it("holds no more than its limit of a line without end", () => {
    const reader = new LineReader(1 << 20);
    const chunk = Buffer.alloc(1 << 16, 0x61);
    const before = process.memoryUsage().arrayBuffers;
    for (let i = 0; i < 4096; i++) {
      reader.push(chunk);
      expect(reader.next()).to.equal(undefined);
    }
    expect(process.memoryUsage().arrayBuffers - before).to.be.below(8 << 20);
    reader.push(Buffer.from("\nGET x\n"));
    const long = reader.next();
    expect(long && reader.isTooLong(long)).to.equal(true);
    expect(long?.length).to.equal(4096 * chunk.length);
    expect(reader.next()?.bytes.toString()).to.equal("GET x");
  });
});

describe("plain answers of a hostile host", () => {
  it("cost no more than their bytes, however many lines they have", () => {
    const reader = new PlainAnswerReader(1_000_000);
    reader.take(Buffer.from("SUCCESS"));
    const empty = Buffer.alloc(0);
    const before = process.memoryUsage().heapUsed;
    for (let n = 0; n < 900_000; n++) reader.take(empty);
    expect(process.memoryUsage().heapUsed - before).to.be.lessThan(50_000_000);
    const answer = reader.take(Buffer.from("."));
    expect(answer?.kind === "success" && answer.value.length).to.equal(899_999);
  });
});
