import { pvbusError } from "../../../src/base/errors.js";
import type { Host } from "../../../src/base/host/host.js";
import { VirtualBoxProvider } from "../provider.js";
import type { DriverEnding, DriverFile, DriverMemory } from "../transport/driver-file.js";
import { type CallerMemory, SimulatedDriver } from "./driver.js";
import { PropertyService, type VirtualBoxFaults } from "./service.js";

/** Where the memory of simulated callers begins. */
const FIRST_ADDRESS = 0x1000_0000n;
const APART = 0x100_0000n;

/** How a {@link VirtualBoxSimulator} begins. */
export interface VirtualBoxSimulatorOptions {
  /** The host's clock, in nanoseconds since 1970. */
  readonly clock?: (() => bigint) | undefined;
  /** What the host does wrong. */
  readonly faults?: VirtualBoxFaults | undefined;
}

/**
 * A VirtualBox host with its driver, in this process: guest properties as the real service was recorded, behind the driver's own
 * structures. What the host's administrator does are its methods.
 */
export class VirtualBoxSimulator {
  /** The host's service, with its faults. */
  readonly service: PropertyService;
  /** The driver in the guest. */
  readonly driver: SimulatedDriver;
  #next = FIRST_ADDRESS;
  #isDown = false;

  constructor({ clock, faults }: VirtualBoxSimulatorOptions = {}) {
    this.service = new PropertyService(clock);
    Object.assign(this.service.faults, faults);
    this.driver = new SimulatedDriver(this.service);
  }

  /** Makes the provider on this host's driver. */
  provider(host: Host): VirtualBoxProvider {
    return new VirtualBoxProvider(host, () => this.openFile());
  }

  /** Sets a property as `VBoxManage guestproperty set` does. @returns VirtualBox's status, 0 when it is done */
  set(name: string, value: string, flags?: string): number {
    return this.service.hostSet(name, value, flags);
  }

  /** Removes a property as `VBoxManage guestproperty unset` does. @returns VirtualBox's status, 0 when it is done */
  delete(name: string): number {
    return this.service.hostDelete(name);
  }

  /** Returns a property's value; undefined when there is none. */
  get(name: string): string | undefined {
    return this.service.get(name)?.value;
  }

  /** The host's side dies; what is open is good for nothing, and nothing opens until {@link VirtualBoxSimulator.start}. */
  crash(): void {
    this.#isDown = true;
    this.driver.crash();
  }

  /** The host's side is there again, with the properties that it had. */
  start(): void {
    this.#isDown = false;
  }

  /** Opens the driver. @throws PvbusError `ERR_UNAVAILABLE` after a crash */
  openFile(): DriverFile {
    if (this.#isDown) throw pvbusError("ERR_UNAVAILABLE", "the simulated host is down; start it");
    const { driver } = this;
    const file = driver.open();
    const blocks = new Set<Block>();
    const memory: CallerMemory = (address, size) => {
      for (const block of blocks) {
        const at = Number(address - block.address);
        if (at >= 0 && at + size <= block.bytes.length) return block.bytes.subarray(at, at + size);
      }
      return undefined;
    };
    const ask = (number: number, block: DriverMemory, size: number): Promise<string | undefined> =>
      driver.ioctl(file, number, block.bytes.subarray(0, size), memory).done;
    return {
      name: "simulated",
      bits: 64,
      system: "posix",
      allocate: (size) => {
        this.#next += APART;
        const block: Block = {
          address: this.#next,
          bytes: Buffer.alloc(size),
          free: () => void blocks.delete(block),
        };
        blocks.add(block);
        return block;
      },
      request: ask,
      wait: (number, block, size, _: DriverEnding) => ask(number, block, size),
      close: async () => driver.close(file),
    };
  }
}

type Block = DriverMemory;
