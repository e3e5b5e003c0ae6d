import { spawn } from "node:child_process";
import { closeSync, openSync, writeSync } from "node:fs";
import { isatty } from "node:tty";
import { isElevated, processEnvironment } from "../../base/host/environment.js";
import type { Logger } from "../../base/host/host.js";
import type { CommandIo, ServiceIo } from "../../contract/command.js";
import { notifySocket, openSyslog, SYSLOG_PRIORITY } from "../../native/posix/daemon.js";
import { UsageError } from "../grammar/usage.js";
import { jsonLogger, lineLogger } from "./log.js";
import type { Sink } from "./output.js";

/** Set in the environment of a process that is to go on in the background. */
const DETACHED = "PVBUS_DETACHED";
/** Descriptor on which the background process says how its start went. */
const REPORT_FD = 3;
const LONGEST_REPORT = 65536;
const READY = "ready";

interface ServiceWorld extends Pick<CommandIo, "env" | "json" | "complain"> {
  readonly stderr: Sink;
  /** Whether details are wanted. */
  readonly verbose: boolean;
}

/** Returns what a command that lives on needs of this process. */
export function serviceIo({ stderr, env, json, verbose, complain }: ServiceWorld): ServiceIo {
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
      if (!isBackground && (json || always === true)) return jsonLogger(stderr, Date, debug);
      const toSystem = isBackground ? openSyslog(name) : undefined;
      const isJournal = env["JOURNAL_STREAM"] !== undefined;
      logger = lineLogger((level, line) => {
        if (level === "debug" && !debug) return;
        const priority = SYSLOG_PRIORITY[level];
        if (toSystem !== undefined) toSystem(priority, line);
        // Below systemd each line has its priority in front, as sd-daemon(3) says.
        else stderr.write(isJournal ? `<${priority}>${line}\n` : `${name}: ${level}: ${line}\n`);
      });
      return logger;
    },
    background: (foreground) => {
      isBackground = env[DETACHED] !== undefined;
      if (isBackground) return undefined;
      // The background process knows itself by a variable, which it would ignore: it would start another one, and so on.
      if (isElevated())
        throw new UsageError(`a setuid pvbus stays in the foreground: run it with ${foreground}`);
      return detach(process.argv.slice(1), foreground, (message) => complain({ message }));
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
function startWatchdog(env: CommandIo["env"], tell: (state: string) => void): () => void {
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

/**
 * Starts the same program again in the background, in a session of its own, its standard streams closed and `/` its
 * working directory as daemon(3) does it, and waits until it serves, or says why not, or ends.
 * @param args script and arguments of this process
 */
function detach(
  args: readonly string[],
  foreground: string,
  complain: (why: string) => void,
): Promise<number> {
  const child = spawn(process.execPath, [...process.execArgv, ...args], {
    cwd: "/",
    detached: true,
    env: { ...processEnvironment(), [DETACHED]: "1" },
    stdio: ["ignore", "ignore", "ignore", "pipe"],
  });
  const report = child.stdio[REPORT_FD] as NodeJS.ReadableStream & { destroy(): void };
  return new Promise((resolve) => {
    let text = "";
    const fail = (why: string): void => {
      complain(why);
      resolve(1);
    };
    child.on("error", (error) => fail(error.message));
    report.on("data", (chunk: Buffer) => {
      text = (text + chunk.toString("utf8")).slice(0, LONGEST_REPORT);
    });
    report.on("end", () => {
      child.unref();
      if (text === READY) resolve(0);
      else
        fail(text || `the background process ended before it served; run it with ${foreground} to see why`);
    });
  });
}

/** Tells the waiting parent, once: that the service is ready, or why it is not. */
function tellParent(failure = READY): void {
  try {
    writeSync(REPORT_FD, failure);
    closeSync(REPORT_FD);
  } catch {
    // Told before, or the parent is gone: nobody waits.
  }
}
