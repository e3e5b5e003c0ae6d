import { SerialQueue } from "../../base/flow/serial-queue.js";

const queues = new Map<string, { readonly queue: SerialQueue; users: number }>();

/**
 * Returns the queue in which all users of a file in this process wait for its locks: one of them at a time tries, by
 * arrival. Leave it when the file is closed.
 * @param place names the file, the same for all of them
 */
export function joinQueue(place: string): { readonly queue: SerialQueue; leave(): void } {
  const entry = queues.get(place) ?? { queue: new SerialQueue(), users: 0 };
  entry.users++;
  queues.set(place, entry);
  return {
    queue: entry.queue,
    leave: () => {
      if (--entry.users === 0) queues.delete(place);
    },
  };
}

/** Reports whether anybody of this process is in the queue of that place. */
export function hasQueue(place: string): boolean {
  return queues.get(place)?.queue.busy === true;
}
