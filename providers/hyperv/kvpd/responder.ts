import { isUtf8 } from "node:buffer";
import { PvbusError } from "../../../src/base/errors.js";
import type { Call } from "../../../src/base/flow/call.js";
import type { Logger } from "../../../src/base/host/host.js";
import { FILE_LIMITS } from "../protocol/limits.js";
import {
  decodeRequest,
  type KvpLayout,
  type KvpRequest,
  turnIntoEnumerateReply,
  turnIntoGetReply,
  turnIntoIpReply,
  turnIntoReply,
} from "../protocol/messages.js";
import type { PoolRecord } from "../protocol/record.js";
import { KvpStatus, KvpStatusError } from "../protocol/status.js";
import type { AutoValues } from "./auto-pool.js";
import type { GuardedPool } from "./guarded-pool.js";
import type { IpService } from "./ip-service.js";

/** Number of the pool that the daemon computes. */
const AUTO_POOL = 2;
const GUEST_POOL = 1;
const { maxKeyBytes: LONGEST_KEY, maxValueBytes: LONGEST_VALUE } = FILE_LIMITS;

/** What a responder answers from. */
export interface ResponderParts {
  readonly layout: KvpLayout;
  /** The pools by their numbers; the Auto pool's file serves overlays only. */
  readonly pools: readonly GuardedPool[];
  readonly auto: AutoValues;
  readonly ip: IpService;
  /** Whether records of the Auto pool's file stand in for computed values of the same key. */
  readonly overlayAuto: boolean;
  readonly logger: Logger;
  /** Called with every pair that the host has set, when it is stored. */
  readonly onSet?: ((pool: number, key: Uint8Array, value: Uint8Array) => void) | undefined;
}

/** Answers the host's requests by making each message the reply to itself; any bytes get one. */
export class KvpResponder {
  readonly #parts: ResponderParts;

  constructor(parts: ResponderParts) {
    this.#parts = parts;
  }

  /** Resolves when a message is its reply; never rejects. */
  async answer(message: Buffer, call: Call): Promise<void> {
    const request = decodeRequest(message, this.#parts.layout);
    try {
      await this.#answer(request, message, call);
    } catch (error) {
      const status = statusOf(error);
      const isOurs = PvbusError.is(error);
      // What the host asked for wrongly is its affair, and the pool itself reports once what is wrong with it.
      const level = error instanceof KvpStatusError || isOurs ? "debug" : "error";
      const why = error instanceof Error ? error.message : String(error);
      this.#parts.logger[level](`${request.operation} refused: ${why}`, {
        status: `0x${status.toString(16)}`,
        ...(isOurs ? { code: error.code } : {}),
      });
      turnIntoReply(message, status);
    }
  }

  /** Answers if that takes no waiting: a record or a value of a pool at rest. Never throws. @returns whether it did */
  answerNow(message: Buffer): boolean {
    const request = decodeRequest(message, this.#parts.layout);
    if (request.operation === "get") {
      const value = this.#parts.pools[request.pool]?.sound?.getNow(request.key);
      if (value !== undefined) replyValue(message, value, request.valueSize);
      return value !== undefined;
    }
    if (request.operation !== "enumerate" || request.pool === AUTO_POOL) return false;
    const record = this.#parts.pools[request.pool]?.sound?.enumerateNow(request.index);
    if (record !== undefined) replyRecord(message, record, request.pool);
    return record !== undefined;
  }

  async #answer(request: KvpRequest, message: Buffer, call: Call): Promise<void> {
    switch (request.operation) {
      case "enumerate": {
        const { pool: number, index } = request;
        if (number === AUTO_POOL) return this.#enumerateAuto(index, message, call);
        const record = await this.#pool(number).read(call, (pool) => pool.enumerate(index, call));
        return replyRecord(message, record ?? "none", number);
      }
      case "set": {
        const { pool: number, key, value } = request;
        await this.#changeable(number).change(call, (pool) => pool.set(key, value, call));
        this.#parts.onSet?.(number, key, value ?? new Uint8Array());
        return turnIntoReply(message, KvpStatus.ok);
      }
      case "delete": {
        const { pool: number, key } = request;
        const found = await this.#changeable(number).change(call, (pool) => pool.delete(key, call));
        return turnIntoReply(message, found ? KvpStatus.ok : KvpStatus.noMoreItems);
      }
      case "get": {
        const value = await this.#value(request.pool, request.key, call);
        return replyValue(message, value ?? "none", request.valueSize);
      }
      case "getIpInfo":
        return turnIntoIpReply(message, await this.#parts.ip.getIpInfo(request.info, call));
      case "setIpInfo":
        await this.#parts.ip.setIpInfo(request.info, call);
        return turnIntoReply(message, KvpStatus.ok);
      case "malformed":
        throw new KvpStatusError(KvpStatus.noMoreItems, request.reason);
      case "unknown":
        throw new KvpStatusError(KvpStatus.notSupported, `operation ${request.number}`);
    }
  }

  async #enumerateAuto(index: number, message: Buffer, call: Call): Promise<void> {
    const entry = this.#parts.auto.entry(index);
    if (entry === undefined) return turnIntoReply(message, KvpStatus.noMoreItems);
    const key = Buffer.from(entry.key, "utf8");
    const overlay = this.#parts.overlayAuto ? await this.#value(AUTO_POOL, key, call) : undefined;
    const value = overlay ?? ended(Buffer.from(entry.value, "utf8"), LONGEST_VALUE);
    return turnIntoEnumerateReply(message, key, value);
  }

  #value(number: number, key: Uint8Array, call: Call): Promise<Uint8Array | undefined> {
    return this.#pool(number).read(call, (pool) => pool.get(key, call));
  }

  #pool(number: number): GuardedPool {
    const pool = this.#parts.pools[number];
    if (pool === undefined) throw new KvpStatusError(KvpStatus.noMoreItems, `there is no pool ${number}`);
    return pool;
  }

  /** Returns a pool that the host may change; the Auto pool is computed here, a change would have no effect. */
  #changeable(number: number): GuardedPool {
    if (number === AUTO_POOL)
      throw new KvpStatusError(KvpStatus.noMoreItems, "the Auto pool cannot be changed");
    return this.#pool(number);
  }
}

function replyValue(message: Buffer, value: Uint8Array | "none", valueSize: number): void {
  if (value === "none") turnIntoReply(message, KvpStatus.noMoreItems);
  else turnIntoGetReply(message, value, valueSize);
}

function replyRecord(message: Buffer, record: PoolRecord | "none", pool: number): void {
  const clean = pool === GUEST_POOL ? presentable : ended;
  if (record === "none") turnIntoReply(message, KvpStatus.noMoreItems);
  else turnIntoEnumerateReply(message, clean(record.key, LONGEST_KEY), clean(record.value, LONGEST_VALUE));
}

/** Leaves room for the NUL in a field that another program filled to its last byte. */
function ended(bytes: Uint8Array, longest: number): Uint8Array {
  if (bytes.length <= longest) return bytes;
  let end = longest;
  // Half a character would be invalid as a whole.
  if (isUtf8(bytes)) while (((bytes[end] as number) & 0xc0) === 0x80) end--;
  return bytes.subarray(0, end);
}

/**
 * Replaces what is not UTF-8: the driver fails such a record, and the host would stop there and never see those behind it
 * (Linux drivers/hv/hv_kvp.c, fs/nls/nls_base.c).
 */
function presentable(bytes: Uint8Array, longest: number): Uint8Array {
  const text = isUtf8(bytes) ? bytes : Buffer.from(Buffer.from(bytes).toString("utf8"), "utf8");
  return ended(text, longest);
}

function statusOf(error: unknown): number {
  if (error instanceof KvpStatusError) return error.status;
  if (!PvbusError.is(error)) return KvpStatus.fail;
  if (error.code === "ERR_NO_SPACE") return KvpStatus.diskFull;
  return error.code === "ERR_TIMEOUT" ? KvpStatus.machineLocked : KvpStatus.fail;
}
