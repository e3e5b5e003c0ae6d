import { closeSync, openSync } from "node:fs";
import { isatty } from "node:tty";
import { isElevated } from "../../../src/base/host/environment.js";
import type { Logger } from "../../../src/base/host/host.js";
import { nodeHost } from "../../../src/base/host/node-host.js";
import { type Context, UsageError } from "../../../src/cli/io/context.js";
import { backgroundLog, foregroundLog } from "../../../src/cli/io/daemon-log.js";
import { DETACHED, detach, tellParent } from "../../../src/cli/io/detach.js";
import { jsonLogger } from "../../../src/cli/io/json-log.js";
import { visible, writeError } from "../../../src/cli/io/output.js";
import { serviceManager, startWatchdog } from "../../../src/cli/io/service-manager.js";
import { createKvpDaemon } from "../../../src/services.js";

/** Options of `pvbus kvpd`. */
export interface KvpdOptions {
  /** Log details. */
  readonly debug?: boolean;
  /** Stay in the foreground and log to standard error. */
  readonly "no-daemon"?: boolean;
  /** The driver's device. */
  readonly device?: string;
  /** The pools' directory. */
  readonly pools?: string;
  /** Pool files for their owner alone. */
  readonly "private-pools"?: boolean;
  /** Acknowledge what is on the disk only. */
  readonly durable?: boolean;
  /** Records of the Auto pool's file stand in for computed values. */
  readonly "overlay-auto"?: boolean;
}

/**
 * `pvbus kvpd`: serves Hyper-V's key-value exchange in place of hv_kvp_daemon(8). Without `-n` it goes into the background when the
 * driver has taken its registration, and logs to syslog; the exit code says whether that worked.
 */
export async function kvpdCommand(context: Context, own: KvpdOptions): Promise<number> {
  const { env, stderr, signal, options } = context;
  const detached = env[DETACHED] !== undefined;
  const json = options.json === true;
  if (own["no-daemon"] !== true && !detached) {
    // The background process knows itself by a variable, which it would ignore: it would start another one, and so on.
    if (isElevated()) throw new UsageError("kvpd stays in the foreground where it is setuid: run it with -n");
    return detach(process.argv.slice(1), (why) => {
      if (json) writeError(stderr, { code: null, message: why, interface: null, key: null });
      else stderr.write(`pvbus: ${visible(why)}\n`);
    });
  }

  const debug = own.debug === true || options.verbose === true;
  const foreground = (): Logger =>
    json ? jsonLogger(stderr, Date, debug) : foregroundLog(stderr, env, debug);
  const logger = detached ? backgroundLog(debug) : foreground();
  const tell = serviceManager(env);
  // ps(1) and `pvbus doctor` look for it.
  process.title = "pvbus-kvpd";
  let stopWatchdog = (): void => undefined;
  try {
    const daemon = await createKvpDaemon(nodeHost({ sysroot: options.sysroot, logger, env }), {
      device: own.device,
      directory: own.pools,
      privatePools: own["private-pools"],
      durable: own.durable,
      overlayAuto: own["overlay-auto"],
      onRegistered: (version) => {
        logger.info(`KVP LIC Version: ${version}`);
        tell("READY=1\nSTATUS=serving the host");
        // Not earlier: until then systemd's limit for the start holds.
        stopWatchdog();
        stopWatchdog = startWatchdog(env, tell);
        if (detached) tellParent();
      },
    });
    logger.info(`KVP starting; pid is:${process.pid}`);
    try {
      await daemon.run(AbortSignal.any([signal, onHangup(logger)]));
    } finally {
      stopWatchdog();
      tell("STOPPING=1");
    }
    logger.info("KVP stopped");
    return 0;
  } catch (error) {
    if (detached) {
      logger.error((error as Error).message);
      tellParent((error as Error).message);
    }
    throw error;
  }
}

/**
 * Takes SIGHUP: without a terminal there is nothing to read again, and the default would end the service; with one its user
 * has gone.
 */
function onHangup(logger: Logger): AbortSignal {
  const controller = new AbortController();
  const terminals = [0, 1, 2].filter((fd) => isatty(fd));
  const hear = (): void => {
    for (const fd of terminals) if (!isatty(fd)) replaceByNothing(fd);
    if (terminals.includes(0)) controller.abort();
    else logger.info("SIGHUP is ignored: there is nothing to read again");
  };
  process.on("SIGHUP", hear);
  return controller.signal;
}

/** Node restores its terminals when it ends, and aborts where one was hung up and does not let it. */
function replaceByNothing(fd: number): void {
  closeSync(fd);
  // Takes the lowest number that is free: this one.
  openSync("/dev/null", "r+");
}
