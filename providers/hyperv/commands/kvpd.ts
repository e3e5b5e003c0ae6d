import type { CommandAction } from "../../../src/contract/command.js";
import { createKvpDaemon } from "../kvpd/create.js";

/** Options of `pvbus kvpd`. */
interface KvpdOptions {
  readonly debug?: boolean;
  readonly "no-daemon"?: boolean;
  readonly device?: string;
  readonly pools?: string;
  readonly "private-pools"?: boolean;
  readonly durable?: boolean;
  readonly "overlay-auto"?: boolean;
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
