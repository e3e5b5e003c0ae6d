import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CACHE, ROOT, run } from "./tools.js";

/** Where the package is inside the machines. */
export const APP = "/app";

/** What single modules import that the package has within. */
const PARTS_NEED = ["inversify", "reflect-metadata", "@xmldom/xmldom", "ws"];

/**
 * Installs the packed package as a user would, with mocha and chai beside it for the tests, and gives the directory. What is not
 * shipped, the lab's guest part and the single modules that it looks at, lies where it lies in the repository.
 */
export function installedPackage(): string {
  const app = join(CACHE, "app");
  mkdirSync(app, { recursive: true });
  const [tarball = ""] = run("npm", ["pack", "--ignore-scripts", "--silent", "--pack-destination", app], {
    cwd: ROOT,
  })
    .trim()
    .split("\n")
    .slice(-1);
  const { devDependencies } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
    devDependencies: Record<string, string>;
  };
  const tools = ["mocha", "chai", ...PARTS_NEED].map((name) => `${name}@${devDependencies[name]}`);
  const wanted = createHash("sha256")
    .update(readFileSync(join(app, tarball)))
    .update(tools.join())
    .digest("hex");
  const stamp = join(app, "stamp");
  if (!existsSync(stamp) || readFileSync(stamp, "utf8") !== wanted) {
    rmSync(stamp, { force: true });
    rmSync(join(app, "node_modules"), { recursive: true, force: true });
    rmSync(join(app, "package-lock.json"), { force: true });
    writeFileSync(join(app, "package.json"), '{ "private": true }\n');
    const quiet = ["--ignore-scripts", "--silent", "--no-audit", "--no-fund", "--prefer-offline"];
    run("npm", ["install", ...quiet, `./${tarball}`, ...tools], { cwd: app });
    writeFileSync(stamp, wanted);
  }
  const dist = join(app, "node_modules/pvbus/dist");
  for (const part of ["src", "providers", "test/lab/guest", "test/native", "test/support"]) {
    rmSync(join(dist, part), { recursive: true, force: true });
    cpSync(join(ROOT, "dist", part), join(dist, part), {
      recursive: true,
      filter: (name) => !/\.(?:d\.ts|map)$/.test(name),
    });
  }
  return app;
}
