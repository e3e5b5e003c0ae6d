import { PoolFile, type PoolFileOptions } from "./pool-file.js";

const shared = new Map<string, { readonly file: PoolFile; users: number }>();

/**
 * Returns the pool file for record locks of the POSIX kind: one descriptor per path in the whole process, since closing
 * any descriptor of a file drops all its locks there. Close it through the returned function.
 */
export function sharePoolFile(options: PoolFileOptions): { file: PoolFile; close: () => Promise<void> } {
  const entry = shared.get(options.path) ?? { file: new PoolFile(options), users: 0 };
  entry.users++;
  shared.set(options.path, entry);
  let open = true;
  return {
    file: entry.file,
    close: async () => {
      if (!open) return;
      open = false;
      if (--entry.users > 0) return;
      shared.delete(options.path);
      await entry.file.close();
    },
  };
}
