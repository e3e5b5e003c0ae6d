/*
 * Somebody who owns the directory of a socket, for jails.test.ts: `node -e` runs this text as another user, who may not be able to
 * read our files. What it is given: the directory, a file and a directory of root's outside of it.
 */
export const JAIL_OWNER = `
const fs = require("node:fs");
const [jail, file, directory] = process.argv.slice(1);
const attempt = (work) => { try { work(); return true; } catch { return false; } };
const path = (name) => jail + "/" + name;
let swaps = 0;
let turn = 0;
const replace = (name, target) => {
  if (!attempt(() => fs.renameSync(path(name), path("taken")))) return;
  if (attempt(() => fs.symlinkSync(target, path(name)))) swaps++;
  // Some time for whoever comes by that name; then it is free again.
  for (let i = 0; i < 20; i++) fs.lstatSync(jail);
  attempt(() => fs.unlinkSync(path(name)));
  attempt(() => fs.unlinkSync(path("taken")));
  attempt(() => fs.rmSync(path("taken"), { recursive: true }));
};
const end = Date.now() + 60000;
process.stdin.on("end", () => { process.stdout.write(String(swaps)); process.exit(); }).resume();
process.stdout.write("ready\\n");
const round = () => {
  for (let i = 0; i < 200; i++) {
    turn++;
    replace("v.sock", file);
    // The directory on the way: the real one, a link to root's, nothing.
    if (turn % 3 === 0) {
      attempt(() => fs.renameSync(path("way"), path("real")));
      if (attempt(() => fs.symlinkSync(directory, path("way")))) swaps++;
    } else if (turn % 3 === 1) {
      attempt(() => fs.unlinkSync(path("way")));
      attempt(() => fs.renameSync(path("real"), path("way")));
    }
    replace("way/v.sock", file);
    if (turn % 4 === 0)
      for (const name of fs.readdirSync(jail)) if (name.startsWith(".")) replace(name, directory);
  }
  if (Date.now() < end) setImmediate(round);
};
round();
`;
