import type { Call } from "../../src/base/flow/call.js";
import type { KeyPermissions, RawEntry } from "../../src/contract/store.js";
import { formatPermission, type Permission, readPermission } from "./protocol/permissions.js";
import { REFUSED, unlessRefused } from "./walk.js";

/** What has permissions: the part of a store that texts need. */
interface Permitted {
  permissions(key: string, call: Call): Promise<readonly Permission[] | undefined>;
  setPermissions(key: string, permissions: readonly Permission[], call: Call): Promise<boolean>;
  list(prefix: string, call: Call): AsyncIterable<RawEntry>;
}

/** Returns the permissions of a store's keys as text: `n7`, `r0`, the owner's first. */
export function permissionTexts(store: Permitted): KeyPermissions {
  return {
    read: async (key, call) => {
      const found = await unlessRefused(store.permissions(key, call));
      return found === REFUSED ? undefined : found?.map(formatPermission);
    },
    set: async (key, texts, below, call) => {
      const permissions = texts.map((text) => readPermission(text) ?? refused());
      if (permissions.length === 0) refused();
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

function refused(): never {
  throw new TypeError("a permission is n, r, w or b and a domain, such as r7; the owner's first");
}
