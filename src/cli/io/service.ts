import { closeSync, openSync } from "node:fs";
import { isatty } from "node:tty";
import { isElevated } from "../../base/host/environment.js";
import type { Logger } from "../../base/host/host.js";
import type { ServiceIo } from "../../contract/command.js";
import { notifySocket } from "../../native/posix/daemon.js";
import { UsageError } from "../grammar/usage.js";
import { backgroundLog, foregroundLog } from "./daemon-log.js";
import { DETACHED, detach, tellParent } from "./detach.js";
import { jsonLogger } from "./json-log.js";
import { type Sink, visible, writeError } from "./output.js";

/** What a service has to do with. */
export interface ServiceWorld {
  /** Messages go here. */
  readonly stderr: Sink;
  /** Environment variables. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Whether all is to be JSON. */
  readonly json: boolean;
  /** Whether details are wanted. */
  readonly verbose: boolean;
}

/** Returns what a command that lives on needs of this process. */
export function serviceIo({ stderr, env, json, verbose }: ServiceWorld): ServiceIo {
  let isBackground = false;
  let logger: Logger | undefined;
  let stopWatchdog = (): void => undefined;
  const tell = (state: string): void => {
    const socket = env["NOTIFY_SOCKET"];
    if (socket) notifySocket(socket, state);
  };
  return {
    title: (name) => {
      process.title = name;
    },
    logger: ({ name, debug: given, json: always }) => {
      const debug = given === true || verbose;
      if (isBackground) logger = backgroundLog(name, debug);
      else if (json || always === true) logger = jsonLogger(stderr, Date, debug);
      else logger = foregroundLog(name, stderr, env, debug);
      return logger;
    },
    background: (foreground) => {
      isBackground = env[DETACHED] !== undefined;
      if (isBackground) return undefined;
      // The background process knows itself by a variable, which it would ignore: it would start another one, and so on.
      if (isElevated())
        throw new UsageError(`a setuid pvbus stays in the foreground: run it with ${foreground}`);
      return detach(process.argv.slice(1), foreground, (why) => {
        if (json) writeError(stderr, { code: null, message: why, interface: null, key: null });
        else stderr.write(`pvbus: ${visible(why)}\n`);
      });
    },
    ready: (status) => {
      tell(`READY=1\nSTATUS=${status}`);
      // Not earlier: until then systemd's limit for the start holds.
      stopWatchdog();
      stopWatchdog = startWatchdog(env, tell);
      if (isBackground) tellParent();
    },
    stopping: () => {
      stopWatchdog();
      tell("STOPPING=1");
    },
    failed: (error) => {
      if (!isBackground) return;
      const { message } = error as Error;
      logger?.error(message);
      tellParent(message);
    },
    onHangup,
  };
}

/** Says twice per interval that the event loop turns, where systemd wants to hear it. */
function startWatchdog(env: ServiceWorld["env"], tell: (state: string) => void): () => void {
  const intervalMs = Number(env["WATCHDOG_USEC"]) / 1000;
  if (!(intervalMs > 0)) return () => undefined;
  const timer = setInterval(() => tell("WATCHDOG=1"), intervalMs / 2);
  return () => clearInterval(timer);
}

/** Hears SIGHUP, whose default would end the service. */
function onHangup(hear: (hadTerminal: boolean) => void): () => void {
  const terminals = [0, 1, 2].filter((fd) => isatty(fd));
  const onSignal = (): void => {
    for (const fd of terminals) if (!isatty(fd)) replaceByNothing(fd);
    hear(terminals.includes(0));
  };
  process.on("SIGHUP", onSignal);
  return () => process.off("SIGHUP", onSignal);
}

/** Node restores its terminals when it ends, and aborts where one was hung up and does not let it. */
function replaceByNothing(fd: number): void {
  closeSync(fd);
  // Takes the lowest number that is free: this one.
  openSync("/dev/null", "r+");
}
