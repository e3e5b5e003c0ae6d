import fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { nodeHost } from "pvbus";
import { AcmeProvider } from "../src/provider.js";

/** What the conformance suite examines: the provider on a tree of its own, and a host that changes keys there. */
export function subject() {
  const sysroot = fs.mkdtempSync(join(tmpdir(), "acme-"));
  const directory = join(sysroot, "run/acme/keys");
  fs.mkdirSync(directory, { recursive: true });
  fs.writeFileSync(join(directory, "answer"), "42");
  const file = (key) => join(directory, key.slice("acme/".length));
  return {
    provider: new AcmeProvider(nodeHost({ sysroot })),
    target: { options: { pollMs: 5 } },
    keys: { given: { "acme/answer": "42" }, prefix: "acme/" },
    host: {
      key: (label) => `acme/host.${label}`,
      set: (key, value) => {
        if (value === undefined) return fs.rmSync(file(key), { force: true });
        // A reader sees the old value or the new one.
        fs.writeFileSync(`${sysroot}/new`, value);
        fs.renameSync(`${sysroot}/new`, file(key));
      },
      prefix: "acme/",
    },
    cleanup: () => fs.rmSync(sysroot, { recursive: true }),
  };
}

/** What an Acme does not have: clauses about it are not there. */
export const without = [
  ...["write", "delete", "binary", "pools", "valueLimit", "keyLimit", "readOnly", "writableKeys"],
  ...["guestKeys", "places", "erase", "take", "insert"],
];
