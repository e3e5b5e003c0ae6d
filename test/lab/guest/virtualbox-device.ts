/** A process that is VirtualBox's driver with the host behind it, `/dev/vboxguest`: served to unmodified clients, nested pointers and all. */
import { constants } from "node:os";
import { VirtualBoxSimulator } from "pvbus/testing";
import { decodeRequest } from "../../../providers/virtualbox/protocol/ioctl.js";
import { type Area, CuseServer, type IoctlStep } from "./cuse.js";

/** What the parent orders: a method of the host, and its arguments. */
export type VirtualBoxOrder =
  | { readonly do: "set"; readonly name: string; readonly value: string; readonly flags?: string }
  | { readonly do: "get"; readonly name: string }
  | { readonly do: "restore" }
  | { readonly do: "deaf"; readonly deaf: boolean };

/** What it gets: of each order, what came of it and what is open. */
export interface VirtualBoxReport {
  readonly value?: string | undefined;
  readonly openFiles: number;
  readonly waiting: number;
}

const simulator = new VirtualBoxSimulator();
const files = new Map<bigint, number>();
simulator.set("/given/role", "grüß€");

const ERRNO: Readonly<Record<string, number>> = constants.errno;
const refused = (errno: string): { readonly result: number; readonly output: Buffer } => ({
  result: -(ERRNO[errno] ?? constants.errno.EIO),
  output: Buffer.alloc(0),
});

function ioctl(command: number, argument: bigint, memory: Buffer, handle: bigint): IoctlStep {
  const file = files.get(handle);
  const size = Math.floor(command / 0x1_0000) % 0x4000;
  if (file === undefined || size === 0) return refused("EINVAL");
  const message: Area = { address: argument, length: size };
  if (memory.length === 0) return { read: [message], write: [message] };
  const request = decodeRequest(command, memory.subarray(0, size));
  const pointers =
    typeof request !== "string" && request.request === "call"
      ? request.parameters.flatMap((each) => ("address" in each && each.size > 0 ? [each] : []))
      : [];
  const area = ({ address, size: length }: (typeof pointers)[number]): Area => ({ address, length });
  const ins = pointers.filter(({ kind }) => kind !== "out");
  const outs = pointers.filter(({ kind }) => kind !== "in");
  const total = ins.reduce((sum, { size: length }) => sum + length, size);
  if (memory.length < total)
    return { read: [message, ...ins.map(area)], write: [message, ...outs.map(area)] };

  const places = new Map<bigint, Buffer>();
  for (const { address, size: length } of outs) places.set(address, Buffer.alloc(length));
  let at = size;
  for (const { address, size: length } of ins) {
    places.set(address, Buffer.from(memory.subarray(at, at + length)));
    at += length;
  }
  const filled = Buffer.from(memory.subarray(0, size));
  const { done, interrupt } = simulator.driver.ioctl(file, command, filled, (address) => places.get(address));
  const end = done.then((errno) =>
    errno === undefined
      ? {
          result: 0,
          output: Buffer.concat([filled, ...outs.map(({ address }) => places.get(address) as Buffer)]),
        }
      : refused(errno),
  );
  return { later: end, interrupt };
}

process.on("message", (order: VirtualBoxOrder) => {
  if (order.do === "set") simulator.set(order.name, order.value, order.flags);
  else if (order.do === "restore") simulator.service.restore();
  else if (order.do === "deaf") simulator.service.faults.deaf = order.deaf;
  const value = order.do === "get" ? simulator.get(order.name) : undefined;
  const report: VirtualBoxReport = {
    value,
    openFiles: simulator.driver.openFiles,
    waiting: simulator.service.waiting,
  };
  process.send?.(report);
});
await new CuseServer("vboxguest", {
  open: (_, handle) => {
    files.set(handle, simulator.driver.open());
    return 0;
  },
  release: (handle) => {
    const file = files.get(handle);
    files.delete(handle);
    if (file !== undefined) simulator.driver.close(file);
  },
  ioctl,
}).start();
process.send?.({ openFiles: 0, waiting: 0 } satisfies VirtualBoxReport);
