import { PvbusError, pvbusError } from "../../../src/base/errors.js";
import { pause } from "../../../src/base/flow/abort.js";
import { Call } from "../../../src/base/flow/call.js";
import type { Host } from "../../../src/base/host/host.js";
import { lockFile, tryLockFile } from "../../../src/native/posix/file-lock.js";
import { unchangedName } from "../../../src/native/posix/unchanged.js";
import { POOLS, type PoolInfo } from "../protocol/keys.js";
import { daemonDirectory } from "../transport/files/directory.js";
import type { Locker } from "../transport/files/file.js";
import { openRecords } from "../transport/files/open.js";
import type { AutoValues } from "./auto-pool.js";
import { type KvpDaemonParts, serveKvp } from "./daemon.js";
import { KVP_DEVICES, type OpenKvpDevice, openKvpDevice } from "./device.js";
import { GuardedPool } from "./guarded-pool.js";
import type { IpService } from "./ip-service.js";
import { makeOwnDirectory } from "./own-files.js";
import { KvpResponder } from "./responder.js";
import { ServedPool } from "./served-pool.js";

/** Settings of the KVP daemon. */
export interface KvpDaemonOptions {
  /** The driver's device; default: the system's own. A simulator's device speaks the layout of the host's platform. */
  readonly device?: string | undefined;
  /** Pool directory, made if it is missing; default: the system's own. */
  readonly directory?: string | undefined;
  /** Make pool files 0600 instead of 0644; existing ones are taken from group and others. Default false, as guests' tools read them. */
  readonly privatePools?: boolean | undefined;
  /** Acknowledge a change only when it is on the disk: safe against power loss as well. Default false, as the vendor's. */
  readonly durable?: boolean | undefined;
  /** Records in the Auto pool's file stand in for the computed values of the same key. Default false. */
  readonly overlayAuto?: boolean | undefined;
  /** Called with every pair that the host has set, when it is stored. */
  readonly onSet?: ((pool: PoolInfo, key: string, value: string) => void) | undefined;
  /** Called at every registration with the driver's version text: the host is being served. */
  readonly onRegistered?: ((version: string) => void) | undefined;
  /** Stands in for the kernel's device. @internal */
  readonly openDevice?: OpenKvpDevice | undefined;
  /** How long the driver waits for a reply; default: as the system's own. @internal */
  readonly timeLimitMs?: number | undefined;
  /** Stands in for the computed Auto pool. @internal */
  readonly auto?: AutoValues | undefined;
  /** Stands in for the network's settings. @internal */
  readonly ip?: IpService | undefined;
}

/** All five pools that the daemon keeps; nobody has a use for the last. */
const SERVED_POOLS: readonly PoolInfo[] = [
  ...POOLS,
  { name: "AutoInternal", number: 4, guestWritable: false },
];
/** How long the registration waits for the name service. */
const NAME_SERVICE_MS = 1_000;
/** How long readers may keep the daemon from a change. */
const PATIENCE_MS = 2_000;
/** How long it waits for the pools: longer than for readers who overstay. Whoever locks one longer is met again by its requests. */
const POOLS_MS = PATIENCE_MS + 1_000;

/** A KVP daemon, ready to run. */
export interface KvpService {
  /**
   * Serves until the signal fires; a request at hand is finished, then the pool files are closed. A device that is lost
   * later is opened again, with growing pauses. A pool that cannot be used is logged and its requests are refused, each of
   * which tries again; the others are served.
   * @throws PvbusError when the device cannot be opened at the start (nothing is made then), or the pool directory not be made or is not
   *   root's and this user's alone
   */
  run(signal: AbortSignal): Promise<void>;
}

/**
 * Makes a KVP daemon for a host: the work of hv_kvp_daemon(8).
 * @throws PvbusError `ERR_NOT_SUPPORTED` where the system has no KVP device
 */
export async function createKvpDaemon(host: Host, options: KvpDaemonOptions = {}): Promise<KvpService> {
  const usual = KVP_DEVICES[host.platform];
  if (usual === undefined) {
    throw pvbusError(
      "ERR_NOT_SUPPORTED",
      `the kernel or a service of ${host.platform} exchanges the pairs itself; a daemon is for Linux and FreeBSD`,
    );
  }
  const device = { ...usual, path: options.device ?? usual.path };
  const directory = daemonDirectory(host, options.directory);
  const auto = options.auto ?? new (await import("./auto-pool.js")).AutoPool(host);
  const { FreebsdIpService, LinuxIpService } = await import("./ip-service.js");
  const SystemsIp = host.platform === "freebsd" ? FreebsdIpService : LinuxIpService;
  const ip = options.ip ?? new SystemsIp(host, options.directory === undefined ? {} : { directory });
  return {
    run: async (signal) => {
      const pools = SERVED_POOLS.map((info) => {
        const records = openRecords(host, {
          info,
          directory,
          makePrivate: options.privatePools === true,
          create: true,
          durable: options.durable === true,
          scrub: false,
          lock: lockPatiently,
          canLock: () => true,
          watchName: unchangedName,
        });
        return new GuardedPool(new ServedPool(records), info.name, host.logger);
      });
      const responder = new KvpResponder({
        layout: device.layout,
        pools,
        auto,
        ip,
        overlayAuto: options.overlayAuto === true,
        logger: host.logger,
        onSet: (pool, key, value) =>
          options.onSet?.(
            SERVED_POOLS[pool] as PoolInfo,
            Buffer.from(key).toString(),
            Buffer.from(value).toString(),
          ),
      });
      const parts: KvpDaemonParts = {
        openDevice: options.openDevice ?? ((events) => openKvpDevice(host, device, events)),
        layout: device.layout,
        timeLimitMs: options.timeLimitMs ?? device.timeLimitMs,
        prepare: async (signal) => {
          makeOwnDirectory(host, directory);
          await Promise.all([
            // The host asks right after the registration: what is quick to know should be known then.
            Promise.race([auto.prepare?.(signal), pause(NAME_SERVICE_MS, signal)]),
            ...pools.map((pool) => pool.start(new Call({ signal, timeoutMs: POOLS_MS }))),
          ]);
        },
        answerNow: (message) => responder.answerNow(message),
        answer: (message, call) => responder.answer(message, call),
        onRegistered: (version) => {
          auto.setIntegrationServicesVersion(version);
          options.onRegistered?.(version);
        },
        logger: host.logger,
      };
      try {
        await serveKvp(parts, signal);
      } finally {
        for (const pool of pools) await pool.close();
      }
    },
  };
}

/**
 * The daemon's way to lock. Writers, flock(2) alone included (cloud-init), are waited for until the call's end: what is
 * refused then is a pair lost, as the host sends it once. Readers are waited for a while only: whoever may read a pool can
 * hold a shared lock for ever, and the vendor's daemon with it; no edit of ours leaves a record unreadable, so a reader who
 * overstays loses nothing but the stillness of the file. Writers stay shut out meanwhile, since we hold what the readers hold.
 */
const lockPatiently: Locker = async (fd, { mode, call }) => {
  if (mode === "shared") return lockFile(fd, { mode, call, helper: true });
  for (;;) {
    const isShort = call.remainingMs <= PATIENCE_MS;
    const patience = isShort ? call : new Call({ signal: call.signal, timeoutMs: PATIENCE_MS });
    try {
      return await lockFile(fd, { mode, call: patience, helper: true });
    } catch (error) {
      if (!(PvbusError.is(error) && error.code === "ERR_TIMEOUT")) throw error;
      const beside = tryLockFile(fd, { mode: "shared" });
      if (beside !== undefined) return beside;
      if (call.isOver) throw error;
    }
  }
};
