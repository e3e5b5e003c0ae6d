import { PvbusError, pvbusError } from "../../base/errors.js";
import { onAbort } from "../../base/flow/abort.js";
import { isElevated } from "../../base/host/environment.js";
import type { Bus } from "../../bus/bus.js";
import type { CommandAction } from "../../contract/command.js";
import { keysBelow, portableValues, type SyncSource } from "../../tools/sync/source.js";
import { type SyncOptions, type SyncReport, sync, syncOnce } from "../../tools/sync/sync.js";
import { checkTrust } from "../../tools/trust.js";
import { type Context, chooseInterface, withBus } from "../io/context.js";
import { trustOf } from "../io/trust.js";

/** Keeps files as a store has them. */
export const syncAction: CommandAction<Context> = async (context, args, own, program) => {
  const wanted = checked(context, args, own, program);
  const { env, dir, once } = own as { env?: string; dir?: string; once?: boolean };
  // With the rights of another user, any file and any program could be named.
  if (isElevated())
    throw pvbusError(
      "ERR_PERMISSION",
      "a setuid pvbus keeps no files and runs no programs; run it as that user",
    );
  const service = await context.service();
  const end = new AbortController();
  const forget = [
    onAbort(context.signal, () => end.abort(context.signal.reason)),
    // The program stands in a session of its own: it would not hear that the terminal has gone.
    service.onHangup(() => end.abort()),
  ];
  const options: SyncOptions = { ...context.call, signal: end.signal, env, dir, command: program };
  const run = once === true ? runOnce : follow;
  try {
    await withBus(context, async (bus) => {
      checkTrust(bus.detection, trustOf(own));
      await run(context, await sourceOf(context, bus, wanted), options);
    });
  } finally {
    for (const each of forget) each();
  }
  return 0;
};

/** What is to be followed. */
interface Wanted {
  readonly namespace: string | undefined;
  readonly names: readonly string[];
  readonly prefix: string;
}

/** @throws UsageError */
function checked(
  { usage }: Context,
  args: readonly string[],
  own: Readonly<Record<string, unknown>>,
  program: readonly string[],
): Wanted {
  const { namespace, prefix, env, dir } = own as { [name: string]: string | undefined };
  if (env === undefined && dir === undefined && program.length === 0)
    throw usage("sync: name what it is to keep or run: --env FILE, --dir DIR or -- PROGRAM");
  if (namespace !== undefined && prefix !== undefined)
    throw usage("sync: a namespace has names and no prefix; leave out --prefix");
  if (namespace === undefined && args.length + (prefix === undefined ? 0 : 1) > 1)
    throw usage("sync: takes one prefix; several names need -n NS, and a program stands behind --");
  return { namespace, names: args, prefix: prefix ?? args[0] ?? "" };
}

async function sourceOf(
  { options, call }: Context,
  bus: Bus,
  { namespace, names, prefix }: Wanted,
): Promise<SyncSource> {
  if (namespace === undefined) return keysBelow(chooseInterface(bus, options), prefix);
  const { interface: name, type } = options;
  return portableValues(bus, namespace, names, { interface: name, type }, call);
}

async function runOnce(context: Context, source: SyncSource, options: SyncOptions): Promise<void> {
  let done: SyncReport | undefined;
  await syncOnce(source, {
    ...options,
    onWritten: (report) => {
      done = report;
    },
  });
  if (context.json) context.writeJson(done);
}

async function follow(context: Context, source: SyncSource, options: SyncOptions): Promise<void> {
  const service = await context.service();
  const logger = service.logger({ name: "pvbus" });
  let isReady = false;
  await sync(source, {
    ...options,
    onWritten: ({ keys, changed, gone }) => {
      logger.info("keys were synced", { keys, changed: changed.length, gone: gone.length });
      if (!isReady) service.ready(`${keys} keys`);
      isReady = true;
    },
    onProblem: (error) => {
      const { message } = error as Error;
      if (PvbusError.is(error))
        logger.error(message, { code: error.code, interface: error.interface, key: error.key });
      else logger.error(message);
    },
  });
  service.stopping();
}
