import type { Call } from "../../src/base/flow/call.js";
import { Closing } from "../../src/base/flow/closing.js";
import type { Host } from "../../src/base/host/host.js";
import { checkOptions } from "../../src/base/options.js";
import type { Capabilities, Verbs } from "../../src/contract/capabilities.js";
import type { Diagnosis } from "../../src/contract/diagnosis.js";
import type { Provider, StoreTarget } from "../../src/contract/provider.js";
import { CAPABILITIES } from "./capabilities.js";
import { LxdClient, WRITE_ADVICE } from "./client.js";
import { OPTIONS } from "./options.js";
import { LxdStore } from "./store.js";
import { type FindTransport, transportOf } from "./transport/transport.js";

/** Serves the guest API of LXD and Incus. */
export class LxdProvider implements Provider {
  /** Id in detection reports. */
  readonly id = "lxd";
  /** Type string. */
  readonly type = "LXD";
  readonly #host: Host;
  readonly #findTransport: FindTransport;

  /** @param host the machine to work on @param findTransport finds the way to the guest API */
  constructor(host: Host, findTransport: FindTransport = transportOf) {
    this.#host = host;
    this.#findTransport = findTransport;
  }

  /** What the guest API can do. @throws TypeError for unknown or malformed settings */
  capabilities(target: StoreTarget = {}): Capabilities {
    checkOptions(this.id, OPTIONS, target.options);
    return CAPABILITIES;
  }

  /**
   * Asks the guest API what this instance is.
   * @param target its channel may be `unix:PATH` of the socket
   * @throws PvbusError `ERR_UNAVAILABLE` when it is not there or nobody answers, `ERR_PERMISSION` for all but root,
   *   `ERR_PROTOCOL` when something else answers
   */
  async open(target: StoreTarget, call: Call, closing?: AbortSignal): Promise<LxdStore> {
    const { socket, maxValueBytes, patienceMs } = checkOptions(this.id, OPTIONS, target.options);
    const transport = this.#findTransport(this.#host, target, socket);
    const { uid, logger } = this.#host;
    const isClosing = new Closing(closing);
    const client = new LxdClient({ transport, uid, maxValueBytes, patienceMs, closing: isClosing });
    try {
      const instance = await client.instance(call);
      return new LxdStore({ client, instance, transport, logger, closing: isClosing });
    } catch (error) {
      client.close();
      throw error;
    }
  }

  /** Says who sets the keys. */
  explain(verb: keyof Verbs): string {
    return `${verb === "delete" ? "removing" : "setting"} is the host's: ${WRITE_ADVICE}`;
  }

  /** Checks whether the socket is there, whether somebody answers, and whether this process may ask. */
  async diagnose(target: StoreTarget): Promise<readonly Diagnosis[]> {
    const { diagnoseLxd } = await import("./diagnose.js");
    const hasty = { ...target, options: { ...target.options, patienceMs: 0 } };
    return diagnoseLxd((call) => this.open(hasty, call));
  }
}
