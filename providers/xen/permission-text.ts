import { Call, type CallOptions } from "../../src/base/flow/call.js";
import type { ProviderStore } from "../../src/contract/store.js";
import { formatPermission, type Permission, readPermission } from "./protocol/permissions.js";
import { XenStore } from "./store.js";
import { REFUSED, unlessRefused } from "./walk.js";

/** The permissions of a store's keys as text: `n7`, `r0`, the owner's first. */
export interface PermissionTexts {
  /** Returns those of a key; undefined when there is no such key, or when they may not be seen. */
  read(key: string, options: CallOptions): Promise<readonly string[] | undefined>;
  /**
   * Replaces those of a key.
   * @param below also of everything below it
   * @returns false when there is no such key
   */
  set(key: string, permissions: readonly string[], options: CallOptions, below: boolean): Promise<boolean>;
}

/** Takes permissions apart; undefined when one is none. */
function parsed(texts: readonly string[]): readonly Permission[] | undefined {
  const all = texts.map(readPermission);
  return all.every((each) => each !== undefined) && all.length > 0 ? all : undefined;
}

/** Reports whether these are permissions: `n`, `r`, `w` or `b` and a domain each. */
export function arePermissions(texts: readonly string[]): boolean {
  return parsed(texts) !== undefined;
}

/** Returns the permissions of a store's keys; undefined where keys have none. */
export function permissionTexts(store: ProviderStore): PermissionTexts | undefined {
  if (!(store instanceof XenStore)) return undefined;
  return {
    read: async (key, options) => {
      const found = await unlessRefused(store.permissions(key, options));
      return found === REFUSED ? undefined : found?.map(formatPermission);
    },
    set: async (key, texts, options, below) => {
      const permissions = parsed(texts);
      if (permissions === undefined)
        throw new TypeError("a permission is n, r, w or b and a domain, such as r7");
      const call = new Call(options);
      if (!(await store.setPermissions(key, permissions, call))) return false;
      if (!below) return true;
      for await (const entry of store.list(key, call)) {
        await store.setPermissions(entry.key, permissions, call);
        call.renew();
      }
      return true;
    },
  };
}
