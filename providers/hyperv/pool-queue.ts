import { SerialQueue } from "../../src/base/flow/serial-queue.js";

const queues = new Map<string, { readonly queue: SerialQueue; users: number }>();

/**
 * Returns the queue in which all users of a file in this process wait for its locks: one of them at a time tries, by
 * arrival. Leave it when the file is closed.
 */
export function joinQueue(path: string): { readonly queue: SerialQueue; leave(): void } {
  const entry = queues.get(path) ?? { queue: new SerialQueue(), users: 0 };
  entry.users++;
  queues.set(path, entry);
  return {
    queue: entry.queue,
    leave: () => {
      if (--entry.users === 0) queues.delete(path);
    },
  };
}
