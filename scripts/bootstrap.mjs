// Installs the locked dependencies when they are absent or older than the lock file, so that `npm start` and
// `npm test` each work as the one command of a fresh clone.
import { spawnSync } from "node:child_process";
import { statSync } from "node:fs";

const modified = (path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;

if (modified("node_modules/.package-lock.json") < modified("package-lock.json")) {
  const npm = process.env.npm_execpath;
  const [command, args] = npm ? [process.execPath, [npm, "ci"]] : ["npm", ["ci"]];
  // `npm run -s` would silence the reasons of a failure too.
  const env = { ...process.env, npm_config_loglevel: "error" };
  const { status } = spawnSync(command, args, { stdio: ["ignore", "ignore", "inherit"], env });
  process.exit(status ?? 1);
}
