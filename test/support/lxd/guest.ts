import { chmodSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { type Bus, openPvbus, PvbusError, type PvInterface } from "../../../src/index.js";
import { tellReady } from "../../../src/tools/index.js";

/*
 * What runs inside the container: it does with the library what a test asks for over a UNIX socket, a line of JSON each. A process
 * of its own, since a `exec` that is still open keeps a daemon from ending.
 */

const [socket = "", pidFile = ""] = process.argv.slice(2);
let bus: Bus | undefined;
const watches = new Map<
  string,
  { readonly state: Map<string, string | undefined>; changes: number; isReady: boolean; error?: string }
>();

const face = (): PvInterface => {
  const found = bus?.byType("LXD");
  if (found === undefined) throw new Error("there is no interface LXD");
  return found;
};

const DOES: Readonly<Record<string, (...args: readonly string[]) => Promise<unknown>>> = {
  open: async () => {
    await bus?.close();
    bus = await openPvbus({ providerOptions: { lxd: { patienceMs: 3_000 } } });
    const { virtual, container } = bus.detection;
    const { role, primary, details, evidence } = face();
    return { virtual, container, role, primary, details, evidence, busPrimary: bus.primary?.type };
  },
  read: async (key = "") => (await face().read(key)) ?? null,
  list: async (prefix = "") => {
    const found: Record<string, string | undefined> = {};
    for await (const { key, value } of face().list(prefix)) found[key] = value;
    return found;
  },
  facts: () => face().facts(),
  write: (key = "") => face().write(key, "x"),
  get: async (namespace = "", name = "") => (await bus?.portable(namespace).get(name)) ?? null,
  ready: async () => (bus === undefined ? [] : tellReady(bus, { type: "LXD" })),
  diagnose: async () => face().diagnose(),
  watch: async (prefix = "") => {
    const watch = { state: new Map<string, string | undefined>(), changes: 0, isReady: false };
    watches.set(prefix, watch);
    const follow = async (): Promise<void> => {
      const ready = (): void => {
        watch.isReady = true;
      };
      for await (const { key, value } of face().watch(prefix, { ready })) {
        watch.state.set(key, value);
        watch.changes++;
      }
    };
    follow().catch((error: Error) => Object.assign(watch, { error: error.message }));
    while (!watch.isReady && watches.get(prefix)?.error === undefined)
      await new Promise((resolve) => setTimeout(resolve, 5));
    return watches.get(prefix)?.error ?? null;
  },
  seen: async (prefix = "") => {
    const { state, changes, error } = watches.get(prefix) ?? { state: new Map<string, string>(), changes: 0 };
    return { state: Object.fromEntries(state), changes, error: error ?? null };
  },
  end: async () => {
    await bus?.close();
    setImmediate(() => process.exit(0));
    return null;
  },
};

async function answer(line: string): Promise<unknown> {
  const [name = "", ...args] = JSON.parse(line) as string[];
  try {
    return { value: await DOES[name]?.(...args) };
  } catch (error) {
    const { message } = error as Error;
    return { code: PvbusError.is(error) ? error.code : "none", message };
  }
}

function serve(peer: Socket): void {
  peer.on("error", () => undefined);
  createInterface({ input: peer }).on("line", async (line) =>
    peer.write(`${JSON.stringify(await answer(line))}\n`),
  );
}

rmSync(socket, { force: true });
createServer(serve).listen(socket, () => {
  chmodSync(socket, 0o777);
  writeFileSync(pidFile, String(process.pid));
});
