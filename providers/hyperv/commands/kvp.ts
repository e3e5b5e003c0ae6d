import type { CommandAction } from "../../../src/contract/command.js";
import { createKvpDaemon } from "../kvpd/create.js";
import { receiveKvp } from "../kvpd/receive.js";

/** Options of both commands. */
interface DaemonOptions {
  readonly device?: string;
  readonly pools?: string;
  readonly "private-pools"?: boolean;
}

interface KvpdOptions extends DaemonOptions {
  readonly debug?: boolean;
  readonly "no-daemon"?: boolean;
  readonly durable?: boolean;
  readonly "overlay-auto"?: boolean;
}

/** A key without a pool is one of External. */
interface ReceiveOptions extends DaemonOptions {
  readonly key?: readonly string[];
  readonly quiet?: number;
}

/**
 * `pvbus kvpd`: serves Hyper-V's key-value exchange in place of hv_kvp_daemon(8). Without `-n` it goes into the background when the
 * driver has taken its registration, and logs to syslog; the exit code says whether that worked.
 */
export const kvpdCommand: CommandAction = async (io, _args, own: KvpdOptions) => {
  const service = await io.service();
  const started = own["no-daemon"] === true ? undefined : service.background("-n");
  if (started !== undefined) return started;
  const logger = service.logger({ name: "KVP", debug: own.debug });
  // ps(1) and `pvbus doctor` look for it.
  service.title("pvbus-kvpd");
  try {
    const daemon = await createKvpDaemon(io.host(logger), {
      device: own.device,
      directory: own.pools,
      privatePools: own["private-pools"],
      durable: own.durable,
      overlayAuto: own["overlay-auto"],
      onRegistered: (version) => {
        logger.info(`KVP LIC Version: ${version}`);
        service.ready("serving the host");
      },
    });
    logger.info(`KVP starting; pid is:${process.pid}`);
    const hungUp = new AbortController();
    service.onHangup((hadTerminal) => {
      if (hadTerminal) hungUp.abort();
      else logger.info("SIGHUP is ignored: there is nothing to read again");
    });
    try {
      await daemon.run(AbortSignal.any([io.signal, hungUp.signal]));
    } finally {
      service.stopping();
    }
    logger.info("KVP stopped");
    return 0;
  } catch (error) {
    service.failed(error);
    throw error;
  }
};

const POOL = /^(external|guest|auto)\//i;

/**
 * `pvbus kvp receive`: takes what the host sends while no daemon runs, keeps it in the pools and prints it: the value
 * alone for one key, `key=value` lines otherwise.
 */
export const receiveAction: CommandAction = async (io, _args, own: ReceiveOptions) => {
  const keys = own.key?.map((key) => (POOL.test(key) ? key : `External/${key}`));
  const entries = await receiveKvp(io.host(), {
    ...io.call,
    keys,
    quietMs: own.quiet === undefined ? undefined : own.quiet * 1000,
    device: own.device,
    directory: own.pools,
    privatePools: own["private-pools"],
  });
  const [only] = entries;
  if (keys?.length === 1 && only !== undefined) io.keys.printValue(only);
  else await io.keys.print(entries);
  return 0;
};
