import { realpathSync } from "node:fs";
import { sep } from "node:path";

/**
 * Tells whether a path, all links followed, lies in a directory: a link inside a captured tree must not lead out of it.
 * @throws the file system's error when either does not exist or links run in a circle
 */
export function liesWithin(root: string, path: string): boolean {
  const top = realpathSync.native(root);
  const real = realpathSync.native(path);
  return real === top || real.startsWith(top.endsWith(sep) ? top : top + sep);
}
