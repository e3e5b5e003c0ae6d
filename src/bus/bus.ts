import { type PvbusError, pvbusError } from "../base/errors.js";
import type { PortableChoice } from "../contract/portable.js";
import type { DetectionReport } from "../contract/report.js";
import type { PvInterface } from "./interface/interface.js";
import { PortableTargets } from "./portable/targets.js";
import { PortableView } from "./portable/view.js";

function noInterface(what: string): PvbusError {
  return pvbusError("ERR_NO_INTERFACE", `${what}; see \`pvbus detect\``);
}

/**
 * Every hypervisor interface of this machine. A machine without any yields an empty bus.
 * Close it, or declare it with `await using`.
 */
export class Bus implements AsyncDisposable {
  /** What detection says of the machine, whatever transports the caller named. */
  readonly detection: DetectionReport;
  /** The interfaces in unit order. */
  readonly interfaces: readonly PvInterface[];
  /** The real hypervisor's interface; undefined when there is none. */
  readonly primary: PvInterface | undefined;

  #targets: PortableTargets | undefined;
  readonly #providers: { close(): Promise<void> } | undefined;

  /** @internal Use `openPvbus()`. */
  constructor(
    detection: DetectionReport,
    interfaces: readonly PvInterface[],
    providers?: { close(): Promise<void> },
  ) {
    this.#providers = providers;
    this.detection = detection;
    this.interfaces = Object.freeze([...interfaces]);
    this.primary = interfaces.find((candidate) => candidate.primary);
  }

  /** Returns the interface of that name, `pvbus1`; undefined when there is none. */
  interface(name: string): PvInterface | undefined {
    return this.interfaces.find((candidate) => candidate.name === name);
  }

  /** Returns the first interface of that type (`Hyper-V`) or id (`hyperv`), without regard to case. */
  byType(type: string): PvInterface | undefined {
    const wanted = type.toLowerCase();
    return this.interfaces.find(({ type: t, id }) => t.toLowerCase() === wanted || id === wanted);
  }

  /**
   * Returns a view with directions instead of native key syntax, over all interfaces or the one that is named. The primary
   * interface is asked first, and the first value counts.
   * @param namespace reverse domain name of the program, `com.example.agent`: letters, digits, dots, dashes
   * @throws PvbusError `ERR_NO_INTERFACE` on an empty bus and when there is no such interface, `ERR_KEY_INVALID` for a namespace
   * out of that alphabet
   */
  portable(namespace: string, { interface: name, type }: PortableChoice = {}): PortableView {
    if (name === undefined && type === undefined) {
      if (this.interfaces.length === 0) throw noInterface("this machine shows no hypervisor interface");
      this.#targets ??= new PortableTargets(this.interfaces);
      return new PortableView(this.#targets, namespace);
    }
    const face = name === undefined ? this.byType(type ?? "") : this.interface(name);
    if (face === undefined || (type !== undefined && face !== this.byType(type)))
      throw noInterface(`there is no interface ${name ?? type}`);
    return new PortableView(face, namespace);
  }

  /** Closes every store and releases the providers, then reports the first that failed to close. May be called twice. */
  async close(): Promise<void> {
    const outcomes = await Promise.allSettled(this.interfaces.map((each) => each.close()));
    outcomes.push(...(await Promise.allSettled([this.#providers?.close()])));
    const failed = outcomes.find((outcome) => outcome.status === "rejected");
    if (failed !== undefined) throw failed.reason;
  }

  /** The same as {@link Bus.close}, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
