import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";

const SOURCES = ["src", "providers"].flatMap((folder) =>
  readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => join(folder, name)),
);

/** Who of detection, the core and the providers may use the file system beside `host.files`, a folder or a file each, and why. */
const FILE_USERS: Readonly<Record<string, string>> = {
  "src/detect/live-facts.ts": "reads and closes what host.files opened",
  "providers/hyperv/":
    "its pools and its daemon open by host.files what they then read, write and lock themselves",
  "providers/kvm/commands/": "reads the files that the administrator names",
  "providers/kvm/host/": "the host's side: works on the administrator's own paths, knows no sysroot",
  "providers/kvm/transport/devices.ts": "closes what host.files opened",
  "providers/kvm/transport/shared-line.ts": "makes its socket in a directory that it holds",
};
/** Who names a path of the machine in messages. What gets it cannot be the file system: see above. */
const PATH_NAMERS: readonly string[] = [
  "providers/hyperv/",
  "providers/kvm/static/source.ts",
  "providers/kvm/transport/devices.ts",
  "providers/lxd/transport/transport.ts",
  "providers/virtualbox/transport/device.ts",
  "providers/xen/transport/device.ts",
  "providers/xen/transport/locate.ts",
  "providers/xen/transport/socket.ts",
  "src/base/firmware/fact.ts",
];
const FILE_MODULES = /(?:from|import\(|require\()\s*"(?:node:)?(?:fs|fs\/promises|net|child_process)"/;
/** Of types and of pure functions there is no harm. */
const HARMLESS = /^import type .*$|^import \{ (?:is(?:IP|IPv4|IPv6)(?:, )?)+ \} from "node:net";$/gm;

/** Who uses what a pattern finds. */
function usersOf(pattern: RegExp): string[] {
  return SOURCES.filter((path) => pattern.test(readFileSync(path, "utf8"))).sort();
}

describe("sources", () => {
  it("listen to signals through onAbort alone: one listener each, no warning, linear ends", () => {
    expect(SOURCES.length).to.be.greaterThan(200);
    expect(usersOf(/\.(add|remove)EventListener\(|\bonabort\b|once\([^)]*"abort"/)).to.deep.equal([
      "src/base/flow/abort.ts",
    ]);
    expect(usersOf(/setMaxListeners/)).to.deep.equal([]);
  });

  it("have one clock that never goes back, with which nothing is loaded", () => {
    expect(usersOf(/performance\.now\(|process\.hrtime/)).to.deep.equal(["src/base/flow/monotonic.ts"]);
  });

  it("have no chain of promises that keeps every result before", () => {
    expect(usersOf(/this\.#\w+ = Promise\.allSettled/)).to.deep.equal([]);
  });

  it("reach the machine's files by host.files alone, where a sysroot may stand for it", () => {
    const users = SOURCES.filter((path) =>
      /^(src\/(detect|bus|contract|mdata)|src\/base\/(flow|firmware)|providers)\/(?!\w+\/testing\/)/.test(
        path,
      ),
    ).filter((path) => FILE_MODULES.test(readFileSync(path, "utf8").replace(HARMLESS, "")));
    const listed = (path: string): string | undefined =>
      Object.keys(FILE_USERS).find((each) => path === each || (each.endsWith("/") && path.startsWith(each)));
    expect(users.filter((path) => listed(path) === undefined)).to.deep.equal([]);
    expect([...new Set(users.map(listed))].sort()).to.deep.equal(Object.keys(FILE_USERS).sort());
  });

  it("give the name of a path below a sysroot to messages alone", () => {
    const namers = usersOf(/\bhost\??\.path\(/);
    const listed = (path: string): string | undefined =>
      PATH_NAMERS.find((each) => path === each || (each.endsWith("/") && path.startsWith(each)));
    expect(namers.filter((path) => listed(path) === undefined)).to.deep.equal([]);
    expect([...new Set(namers.map(listed))].sort()).to.deep.equal([...PATH_NAMERS].sort());
    // Where the file system is at hand, a name may get into it.
    const both = namers
      .filter((path) => !path.startsWith("providers/hyperv/"))
      .filter((path) => FILE_MODULES.test(readFileSync(path, "utf8").replace(HARMLESS, "")));
    expect(both).to.deep.equal(["providers/kvm/transport/devices.ts"]);
    for (const path of both)
      expect(readFileSync(path, "utf8"), path).not.to.match(
        /\b(?:fs\.)?\w*(?:Sync|open|connect)\((?:\w+\.)*path\(/,
      );
  });
});
