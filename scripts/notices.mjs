// What has to be said of other people's code in a bundle: whose it is, and the text of each licence.
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";

const TEXTS = /^(licen[cs]e|copying|copyright|notice)/i;

/**
 * Returns the directories of the packages whose code came into a bundle.
 * @param output rolldown's
 */
export function bundledPackages(output) {
  const found = new Set();
  for (const { modules = {} } of output)
    for (const [path, { renderedLength }] of Object.entries(modules)) {
      const directory = /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(path)?.[0];
      if (directory !== undefined && renderedLength > 0) found.add(resolve(directory));
    }
  return [...found].sort();
}

/** Returns the notices of packages, by their directories. @throws Error for one that brings no licence's text */
export function notices(directories) {
  const parts = directories.map((directory) => {
    const { name, version, license } = JSON.parse(readFileSync(join(directory, "package.json"), "utf8"));
    const texts = readdirSync(directory).filter((file) => TEXTS.test(file));
    if (texts.length === 0)
      throw new Error(`${name} ${version} goes into the bundle and brings no licence: ${directory}`);
    const bodies = texts.sort().map((file) => readFileSync(join(directory, file), "utf8").trim());
    return [`${name} ${version} (${license})`, ...bodies].join("\n\n");
  });
  const intro =
    "The command lines in dist/bin and the library in dist/lib contain code of the packages below.";
  return `${[intro, ...parts].join(`\n\n${"-".repeat(80)}\n\n`)}\n`;
}
