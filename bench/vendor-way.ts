/**
 * What the vendor's KVP daemon does per operation, in this process: every request reloads the whole file under its
 * lock, searches from the start, and a change truncates and rewrites everything (Linux tools/hv/hv_kvp_daemon.c).
 * No daemon is asked here; its own measured figures are printed beside.
 */
import { closeSync, constants, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
import { decodeRecord, encodeRecord, RECORD_SIZE } from "../providers/hyperv/protocol/record.js";
import { tryLockFile } from "../src/native/posix/file-lock.js";

export class VendorWay {
  readonly #path: string;
  readonly #fd: number;

  constructor(path: string) {
    this.#path = path;
    this.#fd = openSync(path, constants.O_RDWR);
  }

  get(key: string): string | undefined {
    const records = this.#reload();
    const at = this.#find(records, key);
    return at < 0 ? undefined : Buffer.from(decodeRecord(records, at).value).toString();
  }

  enumerate(index: number): [string, string] {
    const { key, value } = decodeRecord(this.#reload(), index * RECORD_SIZE);
    return [Buffer.from(key).toString(), Buffer.from(value).toString()];
  }

  set(key: string, value: string): void {
    const records = this.#reload();
    const at = this.#find(records, key);
    const record = encodeRecord({ key: Buffer.from(key), value: Buffer.from(value) });
    if (at >= 0) record.copy(records, at);
    this.#locked(() => {
      ftruncateSync(this.#fd, 0);
      writeSync(this.#fd, at >= 0 ? records : Buffer.concat([records, record]), 0, undefined, 0);
    });
  }

  close(): void {
    closeSync(this.#fd);
  }

  #reload(): Buffer {
    return this.#locked(() => readFileSync(this.#path));
  }

  #find(records: Buffer, key: string): number {
    const wanted = Buffer.from(`${key}\0`);
    for (let at = 0; at + RECORD_SIZE <= records.length; at += RECORD_SIZE) {
      if (records.compare(wanted, 0, wanted.length, at, at + wanted.length) === 0) return at;
    }
    return -1;
  }

  #locked<T>(action: () => T): T {
    const lock = tryLockFile(this.#fd, { mode: "exclusive", flock: false });
    try {
      return action();
    } finally {
      lock?.release();
    }
  }
}
