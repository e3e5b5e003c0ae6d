/**
 * A process that swaps parts of a tree for links out of it and back, as fast as it can, until it is killed. Says on standard
 * output when it begins, and every tenth swap.
 *
 * usage: tree-swapper.js TREE OUTSIDE SEED PLACE...
 */
import { renameSync, symlinkSync, writeSync } from "node:fs";
import { join, relative } from "node:path";
import { random } from "./campaign.js";

const [tree = "", outside = "", seed = "", ...places] = process.argv.slice(2);
const chance = random(Number(seed));
/** Where links wait for their turn, and what they took the place of. */
const links = places.flatMap((place, at) => {
  const targets = [join(outside, place), relative(join(tree, place, ".."), join(outside, place))];
  return targets.map((target, kind) => {
    const link = join(tree, `link-${at}-${kind}`);
    symlinkSync(target, link);
    return { place: join(tree, place), link, aside: join(tree, `aside-${at}`) };
  });
});

/** Long enough for a look and a use to fall on both sides of a swap. */
function linger(): void {
  const until = process.hrtime.bigint() + BigInt(chance.below(300_000));
  while (process.hrtime.bigint() < until);
}

writeSync(1, "ready\n");
for (let swaps = 1; ; swaps++) {
  const { place, link, aside } = chance.pick(links);
  renameSync(place, aside);
  renameSync(link, place);
  linger();
  renameSync(place, link);
  renameSync(aside, place);
  linger();
  if (swaps % 10 === 0) writeSync(1, `${swaps}\n`);
}
