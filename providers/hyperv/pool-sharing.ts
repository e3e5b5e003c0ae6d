import { PoolDescriptor, PoolFile, type PoolFileOptions } from "./pool-file.js";

const shared = new Map<string, PoolDescriptor>();

/**
 * Returns the pool file for record locks of the POSIX kind: one descriptor per path in the whole process, since closing
 * any descriptor of a file drops all its locks there. Owners, locks and the right to create it are each user's own.
 */
export function sharePoolFile(options: PoolFileOptions): PoolFile {
  const { path } = options;
  const descriptor = shared.get(path) ?? new PoolDescriptor(() => shared.delete(path));
  shared.set(path, descriptor);
  return new PoolFile(options, descriptor);
}
