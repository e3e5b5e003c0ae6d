import { decodeRecord, RECORD_SIZE, wholeRecords } from "../../providers/hyperv/protocol/record.js";
import type { Edit, PoolBytes } from "../../providers/hyperv/transport/files/edit.js";
import { PoolIndex } from "../../providers/hyperv/transport/files/record-index.js";

export const PAGE = 4096;

export type Step =
  | { readonly offset: number; readonly bytes: Buffer }
  | { readonly resize: number }
  | { readonly barrier: true };

/** A pool in memory that records every step, so that a kill or a power cut can be replayed at any of them. */
export class RecordingPool implements PoolBytes {
  image: Buffer;
  readonly steps: Step[] = [];

  constructor(image: Uint8Array) {
    this.image = Buffer.from(image);
  }

  get size(): number {
    return this.image.length;
  }

  read(into: Buffer, offset: number): void {
    if (this.image.copy(into, 0, offset) < into.length) throw new Error("read beyond the end");
  }

  write(bytes: Uint8Array, offset: number): void {
    this.steps.push({ offset, bytes: Buffer.from(bytes) });
    this.image = written(this.image, offset, bytes);
  }

  resize(size: number): void {
    this.steps.push({ resize: size });
    this.image = resized(this.image, size);
  }

  /** Runs an edit; barriers are recorded. */
  run<T>(edit: Edit<T>): T {
    for (;;) {
      const step = edit.next();
      if (step.done === true) return step.value;
      if (step.value === "barrier") this.steps.push({ barrier: true });
    }
  }
}

function written(image: Buffer, offset: number, bytes: Uint8Array): Buffer {
  const result = Buffer.alloc(Math.max(image.length, offset + bytes.length));
  result.set(image);
  result.set(bytes, offset);
  return result;
}

function resized(image: Buffer, size: number): Buffer {
  const result = Buffer.alloc(size);
  result.set(image.subarray(0, size));
  return result;
}

/** Takes a write apart into what reaches each page. */
function* pagewise(offset: number, bytes: Buffer): Generator<{ offset: number; bytes: Buffer }> {
  for (let from = 0; from < bytes.length; ) {
    const to = Math.min(bytes.length, from + PAGE - ((offset + from) % PAGE));
    yield { offset: offset + from, bytes: bytes.subarray(from, to) };
    from = to;
  }
}

/** Every state that a kill can leave: after each step, and inside a write at each page border that it crosses. */
export function* killedStates(before: Buffer, steps: readonly Step[]): Generator<Buffer> {
  let image: Buffer = Buffer.from(before);
  yield image;
  for (const step of steps) {
    if ("barrier" in step) continue;
    if ("resize" in step) {
      image = resized(image, step.resize);
      yield image;
      continue;
    }
    for (const part of pagewise(step.offset, step.bytes)) {
      image = written(image, part.offset, part.bytes);
      yield image;
    }
  }
}

/**
 * States that a power cut can leave: each page has any content that it had since the last barrier, and the file any
 * length; drawn at random, `perStep` for each step.
 */
export function* cutStates(
  before: Buffer,
  steps: readonly Step[],
  random: () => number,
  perStep: number,
): Generator<Buffer> {
  let image: Buffer = Buffer.from(before);
  let sizes = [image.length];
  let pages = new Map<number, Buffer[]>();
  const page = (from: Buffer, number: number): Buffer => {
    const content = Buffer.alloc(PAGE);
    content.set(from.subarray(number * PAGE, (number + 1) * PAGE));
    return content;
  };
  const note = (after: Buffer, offset: number, length: number): void => {
    for (let n = Math.floor(offset / PAGE); n * PAGE < offset + length; n++) {
      const known = pages.get(n) ?? [page(image, n)];
      known.push(page(after, n));
      pages.set(n, known);
    }
    image = after;
  };
  for (const step of steps) {
    if ("barrier" in step) {
      sizes = [image.length];
      pages = new Map();
    } else if ("resize" in step) {
      const size = step.resize;
      const from = Math.min(size, image.length);
      // What is cut off is gone from its page, and the page that a file ends in is zeroed behind the end.
      note(resized(image, size), from, Math.max(1, Math.max(size, image.length) - from));
      sizes.push(size);
    } else {
      for (const part of pagewise(step.offset, step.bytes)) {
        note(written(image, part.offset, part.bytes), part.offset, part.bytes.length);
      }
      sizes.push(image.length);
    }
    for (let i = 0; i < perStep; i++) {
      const pick = <T>(values: readonly T[]): T => {
        const bias = random();
        if (bias < 0.35) return values[0] as T;
        if (bias < 0.7) return values.at(-1) as T;
        return values[Math.floor(random() * values.length)] as T;
      };
      const size = pick(sizes);
      const cut = resized(image, size);
      for (const [number, versions] of pages) {
        const at = number * PAGE;
        const version = pick(versions);
        if (at < size) cut.set(version.subarray(0, size - at), at);
      }
      yield cut;
    }
  }
}

/** The pairs of an image in file order, slots that are not in use left out. */
export function pairs(image: Buffer): [string, string][] {
  const found: [string, string][] = [];
  for (let at = 0; at + RECORD_SIZE <= image.length; at += RECORD_SIZE) {
    const { key, value } = decodeRecord(image, at);
    if (key.length > 0)
      found.push([Buffer.from(key).toString("latin1"), Buffer.from(value).toString("latin1")]);
  }
  return found;
}

/** What has to be known of an image before it is repaired or edited. */
export function indexOf(image: Buffer): PoolIndex {
  const index = new PoolIndex();
  index.addChunk(image.subarray(0, wholeRecords(image.length)), 0);
  return index;
}
