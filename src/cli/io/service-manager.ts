import { notifySocket } from "../../native/posix/notify-socket.js";

type Environment = Readonly<Record<string, string | undefined>>;

/** Returns what tells systemd about this service; nothing where none listens. */
export function serviceManager(env: Environment): (state: string) => void {
  const socket = env["NOTIFY_SOCKET"];
  return (state) => {
    if (socket) notifySocket(socket, state);
  };
}

/** Says twice per interval that the event loop turns, where systemd wants to hear it. */
export function startWatchdog(env: Environment, tell: (state: string) => void): () => void {
  const intervalMs = Number(env["WATCHDOG_USEC"]) / 1000;
  if (!(intervalMs > 0)) return () => undefined;
  const timer = setInterval(() => tell("WATCHDOG=1"), intervalMs / 2);
  return () => clearInterval(timer);
}
