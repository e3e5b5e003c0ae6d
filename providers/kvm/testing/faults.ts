import type { Duplex } from "node:stream";

/**
 * What may happen to an answer: it is not sent (`lost`), damaged on its way (`damaged`), meant for somebody else (`foreign`),
 * preceded by bytes of whatever kind (`noise`), sent byte by byte (`torn`), sent twice (`doubled`), endless (`flood`), or the
 * connection ends before it (`cut`: the request is done) or before the request is even looked at (`cut-before`).
 */
export type KvmHostFault =
  | "lost"
  | "damaged"
  | "foreign"
  | "noise"
  | "torn"
  | "doubled"
  | "flood"
  | "cut"
  | "cut-before";

const NOISE = Buffer.from([0, 0xff, 0x0a, 0x56, 0x32, 0x20, 0x31, 0x0a, 0xe2, 0x82, 0x0a, 0x0d, 0x0a]);
const FLOOD_BYTES = 64 * 1024;
const ID_AT = /^(V2 \d+ )[0-9a-f]{8} /;

/** Sends an answer as a fault has it. */
export function sendWith(fault: KvmHostFault | undefined, stream: Duplex, answer: Buffer): void {
  switch (fault) {
    case undefined:
      stream.write(answer);
      return;
    case "lost":
      return;
    case "damaged":
      stream.write(Buffer.from(answer.toString("latin1").replace(ID_AT, "$100000000 "), "latin1"));
      return;
    case "noise":
      stream.write(Buffer.concat([NOISE, answer]));
      return;
    case "torn":
      for (const byte of answer) stream.write(Buffer.of(byte));
      return;
    case "doubled":
      stream.write(Buffer.concat([answer, answer]));
      return;
    case "flood":
      flood(stream);
      return;
    default:
      stream.destroy();
  }
}

/** Sends one line without an end, for as long as anybody takes it. */
function flood(stream: Duplex): void {
  const part = Buffer.alloc(FLOOD_BYTES, 0x41);
  const pour = (): void => {
    while (!stream.destroyed && stream.write(part));
  };
  stream.on("drain", pour);
  pour();
}
