import { pvbusError } from "../../base/errors.js";
import { onAbort } from "../../base/flow/abort.js";
import { Call, type CallOptions } from "../../base/flow/call.js";
import type { Bus } from "../../bus/bus.js";
import type { PvInterface } from "../../bus/interface/interface.js";
import type { PortableView } from "../../bus/portable/view.js";
import type { WatchOptions } from "../../contract/key-values.js";
import type { PortableChoice } from "../../contract/portable.js";
import type { SyncContent } from "./target.js";

/** How often a store that tells of no change is read. */
const LOOK_MS = 1000;

/** How a source is followed. */
export interface FollowOptions extends WatchOptions {
  /** Hears of each change; undefined: the key is gone. Of a source that tells of none: that it is to be read again, without a name. */
  readonly changed: (name?: string, value?: Uint8Array) => void;
}

/** What a sync reads. */
export interface SyncSource {
  /** Reads all of it, by full keys. */
  read(options?: CallOptions): Promise<SyncContent>;
  /** Returns it by the names that are kept: what all keys have in front is cut. */
  named(content: SyncContent): SyncContent;
  /** Follows it until the call ends. @throws PvbusError what ended it before */
  follow(options: FollowOptions): Promise<void>;
}

/**
 * Returns the keys of a store below a prefix, which is cut from their names.
 * @throws PvbusError `ERR_NOT_SUPPORTED` where the store cannot list
 */
export function keysBelow(target: PvInterface, prefix: string): SyncSource {
  const { capabilities, type, name: on } = target;
  if (!capabilities.list && capabilities.read)
    throw pvbusError(
      "ERR_NOT_SUPPORTED",
      `the ${type} store cannot list its keys, so those to follow must be named: \`pvbus sync -n NAMESPACE NAME ...\``,
      { interface: on },
    );
  return {
    named: (content) => namedBelow(content, prefix),
    read: async (options) => {
      const content = new Map<string, Uint8Array>();
      for await (const { key, value, bytes } of target.list(prefix, options)) {
        const found = bytes ?? (value === undefined ? await target.readBytes(key, options) : encoded(value));
        // Gone since it was listed.
        if (found !== undefined) content.set(key, found);
      }
      return content;
    },
    follow: async ({ changed, ...options }) => {
      const { signal } = options;
      if ((await target.store({ signal })).isFixed?.(prefix) === true)
        throw pvbusError(
          "ERR_NOT_SUPPORTED",
          `nothing below "${prefix}" can change while this machine runs; read it once (--once)`,
          { interface: on },
        );
      if (!target.capabilities.watch) return lookAgain(changed, options);
      for await (const { key, value, bytes } of target.watch(prefix, options))
        changed(key, bytes ?? (value === undefined ? undefined : encoded(value)));
    },
  };
}

/**
 * Returns what the host gave in a namespace.
 * @param names those that are wanted; none: all
 * @throws PvbusError `ERR_NOT_SUPPORTED` where a store cannot list, or shares keys between directions, and no names are given
 */
export async function portableValues(
  bus: Bus,
  namespace: string,
  names: readonly string[],
  choice: PortableChoice = {},
  options?: CallOptions,
): Promise<SyncSource> {
  const view = bus.portable(namespace, choice);
  if (names.length > 0) return namedValues(view, names);
  await checkDirections(bus, namespace, choice, options);
  return {
    named: (content) => content,
    read: async (own) => {
      const content = new Map<string, Uint8Array>();
      for await (const { name, value, bytes } of view.list({ ...own, only: "host" }))
        content.set(name, bytes ?? encoded(value ?? ""));
      return content;
    },
    follow: ({ changed, ...own }) => followOne(view, undefined, changed, own),
  };
}

function namedValues(view: PortableView, names: readonly string[]): SyncSource {
  const wanted = [...new Set(names)];
  return {
    named: (content) => content,
    read: async (options) => {
      const content = new Map<string, Uint8Array>();
      for (const name of wanted) {
        const bytes = await view.getBytes(name, options);
        if (bytes !== undefined) content.set(name, bytes);
      }
      return content;
    },
    follow: async ({ changed, ready, signal, timeoutMs }) => {
      const end = new AbortController();
      const forget = onAbort(signal, () => end.abort());
      let unarmed = wanted.length;
      const armed = (): void => {
        if (--unarmed === 0) ready?.();
      };
      const options = { signal: end.signal, timeoutMs, ready: armed };
      try {
        await Promise.all(wanted.map((name) => followOne(view, name, changed, options)));
      } finally {
        forget();
        end.abort();
      }
    },
  };
}

async function followOne(
  view: PortableView,
  wanted: string | undefined,
  changed: FollowOptions["changed"],
  options: WatchOptions,
): Promise<void> {
  for await (const { name, value, bytes } of view.watch(wanted, options))
    changed(name, bytes ?? (value === undefined ? undefined : encoded(value)));
}

/** Where host and guest write the same keys, a listing does not tell what the host gave: the guest may have said it. */
async function checkDirections(
  bus: Bus,
  namespace: string,
  { interface: name, type }: PortableChoice,
  options?: CallOptions,
): Promise<void> {
  const chosen = name !== undefined ? bus.interface(name) : type !== undefined ? bus.byType(type) : undefined;
  const targets = chosen === undefined ? bus.interfaces : [chosen];
  for (const target of targets) {
    // Nobody gives anything behind what another hypervisor emulates.
    if (target.emulated && targets.length > 1) continue;
    // The reading tells who cannot be opened.
    const { portable } = await target.store(options).catch(() => ({ portable: undefined }));
    const guestKey = portable?.guestKey(namespace, "name");
    const isShared =
      guestKey !== undefined && portable?.hostKeys(namespace, "name").includes(guestKey) === true;
    const why = isShared
      ? "keeps what the host and the guest say under the same keys"
      : portable !== undefined && !target.capabilities.list
        ? "cannot list its keys"
        : undefined;
    if (why === undefined) continue;
    throw pvbusError(
      "ERR_NOT_SUPPORTED",
      `the ${target.type} store ${why}, so the values to follow must be named: \`pvbus sync -n ${namespace} NAME ...\``,
      { interface: target.name },
    );
  }
}

async function lookAgain(
  changed: FollowOptions["changed"],
  { ready, ...options }: WatchOptions,
): Promise<void> {
  const call = new Call(options, Number.POSITIVE_INFINITY);
  try {
    ready?.();
    for (;;) {
      await call.sleep(LOOK_MS, "a change");
      changed();
    }
  } catch (error) {
    if (!call.isEnd(error)) throw error;
  }
}

/**
 * Cuts a prefix from the keys, with the slash behind it. A key that is the prefix itself counts where nothing lies below it, by
 * its last part: elsewhere it is what directories are, and has no name left.
 */
function namedBelow(content: SyncContent, prefix: string): SyncContent {
  const named = new Map<string, Uint8Array>();
  let own: readonly [key: string, value: Uint8Array] | undefined;
  for (const [key, value] of content) {
    const name = withoutPrefix(key, prefix);
    if (name !== "") named.set(name, value);
    else own = [key, value];
  }
  if (own !== undefined && named.size === 0 && own[1].length > 0) named.set(lastPart(own[0]), own[1]);
  return named;
}

function withoutPrefix(key: string, prefix: string): string {
  const front = key.slice(0, prefix.length);
  // Pools have names without regard to case.
  if (front !== prefix && front.toLowerCase() !== prefix.toLowerCase()) return key;
  const rest = key.slice(prefix.length);
  return rest.startsWith("/") ? rest.slice(1) : rest;
}

function lastPart(key: string): string {
  const end = key.endsWith("/") ? key.length - 1 : key.length;
  return key.slice(key.lastIndexOf("/", end - 1) + 1, end);
}

function encoded(value: string): Uint8Array {
  return Buffer.from(value, "utf8");
}
