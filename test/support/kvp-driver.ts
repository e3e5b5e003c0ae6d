import type { KvpDevice, KvpDeviceEvents } from "../../providers/hyperv/kvpd/device.js";
import {
  encodeRequest,
  type KvpLayout,
  type KvpRequest,
  LINUX_KVP,
} from "../../providers/hyperv/protocol/messages.js";

/** A device in this process: what the daemon sends arrives here, what the test asks goes to the daemon. */
export class TestDriver {
  /** Registrations so far. */
  registrations = 0;
  /** Refuses the next opening with this error. */
  refusal: Error | undefined;
  readonly #layout: KvpLayout;
  #events: KvpDeviceEvents | undefined;
  #replied: ((reply: Buffer) => void) | undefined;
  #registered: (() => void)[] = [];

  constructor(layout: KvpLayout = LINUX_KVP) {
    this.#layout = layout;
  }

  /** The {@link OpenKvpDevice} to hand to the daemon. */
  readonly open = (events: KvpDeviceEvents): KvpDevice => {
    if (this.refusal !== undefined) throw this.refusal;
    this.#events = events;
    return {
      send: (message) => this.#receive(Buffer.from(message)),
      close: async () => {
        this.#events = undefined;
      },
    };
  };

  /** Resolves after the next registration. */
  registration(): Promise<void> {
    return new Promise((resolve) => this.#registered.push(resolve));
  }

  /** Sends a request, resolves with the reply's bytes. */
  request(request: Exclude<KvpRequest, { operation: "malformed" }>): Promise<Buffer> {
    return this.send(encodeRequest(request, this.#layout));
  }

  /** Sends any bytes, resolves with the reply's bytes. */
  send(message: Buffer): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      if (this.#events === undefined) return reject(new Error("no daemon is there"));
      this.#replied = resolve;
      this.#events.onMessage(message);
    });
  }

  /** Sends any bytes that get no reply. */
  inject(message: Buffer): void {
    this.#events?.onMessage(message);
  }

  /** Takes the device away. */
  fail(error?: Error): void {
    this.#events?.onEnd(error);
  }

  #receive(message: Buffer): void {
    if (this.#replied !== undefined) {
      const replied = this.#replied;
      this.#replied = undefined;
      replied(message);
      return;
    }
    this.registrations++;
    const done = this.#registered.splice(0);
    const reply = Buffer.alloc(this.#layout.messageBytes);
    reply[0] = this.#layout.registerOperation;
    reply.write("3.1", 4);
    setImmediate(() => {
      if (this.#layout.answersRegistration) this.#events?.onMessage(reply);
      for (const each of done) each();
    });
  }
}
