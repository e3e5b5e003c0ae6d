import { PvbusError, pvbusError } from "../base/errors.js";
import { Call, type CallOptions } from "../base/flow/call.js";
import { bootId } from "../base/host/boot-id.js";
import type { Host } from "../base/host/host.js";
import { nodeHost } from "../base/host/node-host.js";
import { systemdVersion } from "../base/host/systemd.js";
import { encodeReadyValue, READY_NAME } from "../base/ready-value.js";
import type { Bus } from "../bus/bus.js";
import type { PortableChoice } from "../contract/portable.js";
import type { ReadySignal, ReadyState } from "../contract/store.js";
import { chosenInterfaces } from "./interfaces.js";
import { OWN_NAMESPACE } from "./names.js";
import { sendNotification } from "./ready/notify.js";
import { notifyMessage, parseNotifyAddress } from "./ready/notify-address.js";

/** What is told, and from which machine. */
export interface ReadyOptions extends CallOptions, PortableChoice {
  /** False: this guest has failed. Default true. */
  readonly ready?: boolean | undefined;
  /** A line for people, without control characters. */
  readonly status?: string | undefined;
  /** The machine; default: the real one. */
  readonly host?: Host | undefined;
}

const CREDENTIAL = "vmm.notify_socket";
const MAX_ADDRESS_BYTES = 256;
/** From here on PID 1 tells the host by itself that it is up. */
const SYSTEMD_TELLS = 254;
const MAX_STATUS_BYTES = 512;
const UNKNOWN_BOOT = "-";

/**
 * Tells the host by every signal that applies that this guest is up, or has failed.
 * @returns the signals with what became of each; nothing was told where none of them was sent
 * @throws PvbusError `ERR_VALUE_INVALID` for a status that is no line, `ERR_VALUE_TOO_LONG`, `ERR_ABORTED`
 */
export async function tellReady(bus: Bus, options: ReadyOptions = {}): Promise<readonly ReadySignal[]> {
  const { ready = true, status, host = nodeHost(), signal, timeoutMs } = options;
  if (status !== undefined) checkStatus(status);
  const state: ReadyState = {
    ready,
    ...(status === undefined ? {} : { status }),
    bootId: bootId(host) ?? UNKNOWN_BOOT,
    time: new Date(host.clock.now()).toISOString(),
  };
  const limits = { signal, timeoutMs };
  const told = await Promise.all([
    portableSignal(bus, state, options),
    notifySignal(host, state, limits),
    ...chosenInterfaces(bus, options).map((each) =>
      // A store that cannot be opened has no signal of its own that could fail.
      outcomes(each.name, () => each.ready(state, limits)).then((signals) =>
        signals.filter(({ signal: name }) => name !== each.name),
      ),
    ),
  ]);
  return told.flat();
}

async function portableSignal(
  bus: Bus,
  state: ReadyState,
  { interface: name, type, signal, timeoutMs }: ReadyOptions,
): Promise<readonly ReadySignal[]> {
  const key = `${OWN_NAMESPACE}/${READY_NAME}`;
  return outcomes(key, async () => {
    const { ready, time, bootId: boot, status: text } = state;
    const value = encodeReadyValue({ ready, time, boot, text });
    await bus
      .portable(OWN_NAMESPACE, { interface: name, type })
      .publish(READY_NAME, value, { signal, timeoutMs });
    return [{ signal: key, sent: true, detail: value }];
  });
}

/** The credential names a listener; where there is none nothing is said of it. */
async function notifySignal(
  host: Host,
  { ready, status }: ReadyState,
  limits: CallOptions,
): Promise<readonly ReadySignal[]> {
  const text = notifyCredential(host);
  if (text === undefined) return [];
  return outcomes(CREDENTIAL, async () => {
    const address = parseNotifyAddress(text);
    if (address === undefined)
      throw pvbusError("ERR_VALUE_INVALID", `the credential ${CREDENTIAL} holds no address of a socket`);
    const version = systemdVersion(host);
    if (ready && status === undefined && version !== undefined && version >= SYSTEMD_TELLS)
      return [{ signal: CREDENTIAL, sent: false, detail: `systemd ${version} tells the host by itself` }];
    const where = await sendNotification(address, notifyMessage({ ready, status }), new Call(limits));
    return [{ signal: CREDENTIAL, sent: true, detail: where }];
  });
}

function notifyCredential({ env, files }: Host): string | undefined {
  const own = env["CREDENTIALS_DIRECTORY"];
  for (const directory of [...(own ? [own] : []), "/run/credentials/@system"]) {
    try {
      const text = files.read(`${directory}/${CREDENTIAL}`, MAX_ADDRESS_BYTES)?.toString("utf8").trim();
      if (text) return text;
    } catch {
      // The directory is root's: for others there is no such credential.
    }
  }
  return undefined;
}

/** What fails is data here: the other signals go out all the same. */
async function outcomes(
  signal: string,
  send: () => Promise<readonly ReadySignal[]>,
): Promise<readonly ReadySignal[]> {
  try {
    return await send();
  } catch (error) {
    if (!PvbusError.is(error) || error.code === "ERR_ABORTED") throw error;
    return [{ signal, sent: false, detail: `${error.message} [${error.code}]` }];
  }
}

function checkStatus(status: string): void {
  if (/\p{Cc}/u.test(status) || !status.isWellFormed())
    throw pvbusError("ERR_VALUE_INVALID", "the status is no line of text; leave control characters out");
  if (Buffer.byteLength(status) > MAX_STATUS_BYTES)
    throw pvbusError("ERR_VALUE_TOO_LONG", `the status has more than ${MAX_STATUS_BYTES} bytes; shorten it`);
}
