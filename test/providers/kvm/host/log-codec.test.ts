import { expect } from "chai";
import {
  decodeLog,
  encodeRecord,
  HEADER_BYTES,
  LOG_END,
  LOG_HEADER,
  type LogContents,
  type LogHeader,
  type LogRecord,
  type Settled,
} from "../../../../providers/kvm/host/log-codec.js";

const MARK = Buffer.from("a1b2c3d4e5f60718", "hex");
/** What each write brings: writes of one change and of several, values of several lengths. */
const WRITES = [1, 3, 1, 8, 1, 1, 20, 1, 4, 10];
const RECORDS = 50;

/** So many of them the file was made with. */
const REWRITTEN = 15;

function makeLog(rewritten: number): {
  bytes: Buffer;
  header: LogHeader;
  records: LogRecord[];
  ends: number[];
} {
  const batches = WRITES.flatMap((count, at) => Array.from({ length: count }, () => at + 2));
  const records = batches.map(
    (batch, at): LogRecord => ({
      batch: at < rewritten ? 1 : batch - (batches[rewritten] ?? 0) + 2,
      revision: at + 1,
      operation: at % 7 === 6 ? "delete" : "put",
      key: `key-${at % 9}`,
      value: at % 7 === 6 ? new Uint8Array() : Buffer.from(`value ${at}`),
    }),
  );
  const parts = records.map((record) => encodeRecord(MARK, record));
  const ends: number[] = [];
  let end = HEADER_BYTES;
  for (const { length } of parts) {
    end += length;
    ends.push(end);
  }
  const length = ends[rewritten - 1] ?? HEADER_BYTES;
  const header = { mark: MARK, revision: rewritten, length };
  return { bytes: Buffer.concat([LOG_HEADER.encode(header), ...parts]), header, records, ends };
}

const revisionsOf = ({ records }: Pick<LogContents, "records">): number[] =>
  records.map(({ revision }) => revision);

/** Returns the numbers from one to another. */
const span = (first: number, last: number): number[] =>
  Array.from({ length: Math.max(last - first + 1, 0) }, (_, at) => first + at);

describe("The log of a guest, of 50 records", () => {
  const { bytes, header, records, ends } = makeLog(REWRITTEN);
  const settled: Settled = { length: bytes.length, revision: RECORDS };

  it("is read as it was written", () => {
    expect(records.length).to.equal(RECORDS);
    expect(LOG_HEADER.decode(bytes)).to.deep.equal(header);
    for (const known of [header, settled]) {
      const { tail, goodBytes, lost, ...rest } = decodeLog(bytes, header, known);
      expect({ tail, goodBytes, lost }).to.deep.equal({ tail: "none", goodBytes: bytes.length, lost: [] });
      expect(revisionsOf(rest)).to.deep.equal(span(1, RECORDS));
    }
  });

  it("loses to any flipped bit no more than the record with that bit, and says which", () => {
    let flips = 0;
    for (let bit = HEADER_BYTES * 8; bit < bytes.length * 8; bit++, flips++) {
      const bad = Buffer.from(bytes);
      const at = bit >>> 3;
      bad.writeUInt8(bad.readUInt8(at) ^ (1 << (bit & 7)), at);
      const hit = ends.findIndex((end) => at < end);
      const start = ends[hit - 1] ?? HEADER_BYTES;
      const found = decodeLog(bad, header, bit % 2 === 0 ? settled : header);
      const isNumbered = hit >= REWRITTEN && (hit < RECORDS - 1 || bit % 2 === 0);
      const lost = {
        offset: start,
        bytes: (ends[hit] ?? 0) - start,
        revisions: isNumbered ? { first: hit + 1, last: hit + 1 } : undefined,
      };
      const others = [...span(1, hit), ...span(hit + 2, RECORDS)];
      const told = JSON.stringify([found.tail, found.goodBytes, found.lost, revisionsOf(found)]);
      // Chai's own comparison would take most of the time.
      const right = JSON.stringify(["damaged", start, [lost], others]);
      if (told !== right) expect(told, `bit ${bit}, record ${hit + 1}`).to.equal(right);
    }
    expect(flips).to.equal((bytes.length - HEADER_BYTES) * 8);
  });

  it("has any flipped bit of its header and of the note of its end noticed", () => {
    const end = LOG_END.encode({ mark: MARK, ...settled });
    expect(LOG_END.decode(end)).to.deep.equal({ mark: MARK, ...settled });
    expect(LOG_HEADER.decode(end)).to.equal(undefined);
    for (let bit = 0; bit < HEADER_BYTES * 8; bit++) {
      for (const [whole, decode] of [
        [bytes, LOG_HEADER.decode],
        [end, LOG_END.decode],
      ] as const) {
        const bad = Buffer.from(whole);
        bad.writeUInt8(bad.readUInt8(bit >>> 3) ^ (1 << (bit & 7)), bit >>> 3);
        expect(decode(bad), `bit ${bit}`).to.equal(undefined);
      }
    }
  });

  it("gives wherever it is cut the records before that, and names the rest as far as it is known of", () => {
    for (let length = HEADER_BYTES; length < bytes.length; length++) {
      const cut = bytes.subarray(0, length);
      const whole = ends.filter((end) => end <= length).length;
      const start = ends[whole - 1] ?? HEADER_BYTES;
      const name = `${length} bytes`;
      const closed = decodeLog(cut, header, settled);
      expect(closed.tail, name).to.equal("damaged");
      expect(revisionsOf(closed), name).to.deep.equal(span(1, whole));
      const revisions = whole >= REWRITTEN ? { first: whole + 1, last: RECORDS } : undefined;
      expect(closed.lost, name).to.deep.equal([{ offset: start, bytes: bytes.length - start, revisions }]);

      const killed = decodeLog(cut, header);
      expect(revisionsOf(killed), name).to.deep.equal(span(1, whole));
      expect(killed.goodBytes, name).to.equal(start);
      if (whole < REWRITTEN) expect(killed.tail, name).to.equal("damaged");
      else expect(killed.tail, name).to.equal(length === start ? "none" : "unfinished");
    }
  });

  it("takes blocks of zeros for a write that never ended when nothing is behind them", () => {
    const value = Buffer.alloc(3000, 0x78);
    const last = { batch: 99, revision: RECORDS + 1, operation: "put", key: "long", value } as const;
    const { batch } = records.at(-1) as LogRecord;
    const long = encodeRecord(MARK, { ...last, batch: batch + 1 });
    const longer = Buffer.concat([bytes, long]);
    const from = Math.ceil((bytes.length + 100) / 512) * 512;
    const torn = Buffer.from(longer).fill(0, from, from + 512);
    expect(decodeLog(torn, header).tail).to.equal("unfinished");
    expect(decodeLog(torn, header, { length: longer.length, revision: 51 }).tail).to.equal("damaged");
    const another = encodeRecord(MARK, {
      ...last,
      batch: batch + 2,
      revision: RECORDS + 2,
      value: Buffer.of(1),
    });
    const found = decodeLog(Buffer.concat([torn, another]), header);
    expect([found.tail, found.records.length]).to.deep.equal(["damaged", RECORDS + 1]);
    expect(found.lost[0]?.revisions).to.deep.equal({ first: RECORDS + 1, last: RECORDS + 1 });
    const hole = Buffer.from(longer).fill(0, from + 1, from + 512);
    expect(decodeLog(hole, header).tail).to.equal("damaged");
  });
});
