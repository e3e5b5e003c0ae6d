import { PvbusError, pvbusError } from "../../../src/base/errors.js";
import { Call, type CallOptions } from "../../../src/base/flow/call.js";
import { monotonicMs } from "../../../src/base/flow/monotonic.js";
import { Notifier } from "../../../src/base/flow/notifier.js";
import type { Host } from "../../../src/base/host/host.js";
import type { StoreEntry } from "../../../src/contract/store.js";
import { nativeKey, parseKey } from "../protocol/keys.js";
import { HOST_LIMITS } from "../protocol/limits.js";
import { poolDirectory } from "../transport/files/directory.js";
import { filePools } from "../transport/files/open.js";
import { type PoolTransport, unlessMissing } from "../transport/pool.js";
import { createKvpDaemon, type KvpDaemonOptions } from "./create.js";

/** Options of {@link receiveKvp}. */
export interface ReceiveOptions extends CallOptions, Omit<KvpDaemonOptions, "onSet" | "onRegistered"> {
  /** Native keys to wait for, in External or Guest/Parameters; default: whatever comes until the host falls silent. */
  readonly keys?: readonly string[] | undefined;
  /**
   * How long the host must have been silent before the daemon leaves, in milliseconds; default 1000. The host
   * sends all its pairs once per boot, in a row, and sends none of them to a daemon that comes later.
   */
  readonly quietMs?: number | undefined;
}

const DEFAULT_QUIET_MS = 1_000;
const DEFAULT_TIMEOUT_MS = 30_000;
/** Pools that the host sends. */
const HOST_POOLS: readonly string[] = ["External", "Guest/Parameters"];

/**
 * Receives what the host has for this guest while no daemon runs yet, as in an initial RAM disk: registers, stores the
 * pools, answers the host meanwhile, and leaves when the wanted keys are there and the host is silent. Everything that came
 * is kept in the pool files, so that nothing is lost to a daemon that starts later. Where a daemon runs already, waits
 * for its pools to show the keys.
 * @returns the wanted pairs in the order of `keys`; without keys all that came
 * @throws PvbusError `ERR_TIMEOUT` naming the keys that did not come (what came is stored), `ERR_ABORTED`, `ERR_KEY_INVALID`,
 *   `ERR_UNAVAILABLE` without a device, `ERR_BUSY` when another daemon has it and no key is named
 */
export async function receiveKvp(host: Host, options: ReceiveOptions = {}): Promise<readonly StoreEntry[]> {
  const wanted = (options.keys ?? []).map(hostKey);
  const call = new Call(options, DEFAULT_TIMEOUT_MS);
  try {
    return await fromDevice(host, wanted, options, call);
  } catch (error) {
    if (!(PvbusError.is(error) && error.code === "ERR_BUSY") || wanted.length === 0) throw error;
    host.logger.info("a KVP daemon runs already: waiting for its pools");
    return fromPools(host, wanted, options, call);
  }
}

function hostKey(key: string): string {
  const { pool, key: name } = parseKey(key);
  if (!HOST_POOLS.includes(pool.name)) {
    throw pvbusError(
      "ERR_KEY_INVALID",
      `the host sends no keys of pool ${pool.name}; wait for External/NAME`,
      { key },
    );
  }
  return nativeKey(pool, name);
}

async function fromDevice(
  host: Host,
  wanted: readonly string[],
  { quietMs = DEFAULT_QUIET_MS, keys: _, signal: __, timeoutMs: ___, ...settings }: ReceiveOptions,
  call: Call,
): Promise<StoreEntry[]> {
  const got = new Map<string, StoreEntry>();
  const stop = new AbortController();
  const news = new Notifier();
  let heard = monotonicMs();
  const daemon = await createKvpDaemon(host, {
    ...settings,
    onSet: (pool, key, value) => {
      const name = nativeKey(pool, key);
      got.set(name, { key: name, value });
      heard = monotonicMs();
      news.notify();
    },
  });
  const complete = (): boolean => (wanted.length === 0 ? got.size > 0 : wanted.every((key) => got.has(key)));
  const running = daemon.run(stop.signal);
  const untilStop = Call.endless(stop.signal);
  try {
    for (;;) {
      const since = news.count;
      const silent = monotonicMs() - heard;
      if (complete() && silent >= quietMs) break;
      const what = missingText(wanted, got);
      const woken = news.waitAtMost(complete() ? quietMs - silent : Infinity, untilStop, what, since);
      await call.within(Promise.race([woken, running]), what);
    }
  } finally {
    stop.abort();
    await running.catch(() => undefined);
  }
  return wanted.length === 0 ? [...got.values()] : wanted.map((key) => got.get(key) as StoreEntry);
}

function missingText(wanted: readonly string[], got: ReadonlyMap<string, unknown>): string {
  const missing = wanted.filter((key) => !got.has(key));
  return missing.length === 0 ? "the host's pairs" : `${missing.join(", ")} from the host`;
}

async function fromPools(
  host: Host,
  wanted: readonly string[],
  { directory }: ReceiveOptions,
  call: Call,
): Promise<StoreEntry[]> {
  const pools = filePools(host, HOST_LIMITS, {
    directory: poolDirectory(host, directory),
    makePrivate: false,
    create: false,
    durable: false,
    scrub: false,
  });
  const entries: StoreEntry[] = [];
  for (const key of wanted) entries.push({ key, value: await appearance(pools, key, call) });
  return entries;
}

/** Resolves with a key's value when it is there. */
async function appearance(pools: PoolTransport, native: string, call: Call): Promise<string> {
  const { pool: info, key } = parseKey(native);
  const pool = pools.pool(info);
  const news = new Notifier();
  // Armed first: a pair that comes between the reading and the waiting would not be seen.
  const end = pools.notify([pool], news.notify);
  try {
    let since = news.count;
    let value = await pool.read(key, call);
    while (value === undefined) {
      await news.wait(call, `${native} in the pools of the running daemon`, since);
      since = news.count;
      // The daemon may be started again meanwhile.
      value = await unlessMissing(() => pool.read(key, call));
    }
    return Buffer.from(value).toString("utf8");
  } finally {
    end();
    await pool.close();
  }
}
