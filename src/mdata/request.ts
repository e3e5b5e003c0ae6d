import { decodeBase64, decodeBase64InSteps, encodeBase64 } from "./base64.js";
import { encodeFrame, type Frame } from "./frame.js";
import { finish, type Steps } from "./steps.js";
import { payloadText, textPayload, utf8 } from "./text.js";

/** What a guest asks for in version 2; `CAPS`, `SESSION`, `WATCH` and `UNWATCH` are ours, other hosts answer them as unknown. */
export type Request =
  | { readonly command: "GET" | "DELETE"; readonly key: string }
  | { readonly command: "PUT"; readonly key: string; readonly value: Uint8Array }
  | { readonly command: "KEYS" }
  | { readonly command: "CAPS" }
  /** Begin a session: within it the host knows a request that is sent again under its id, and does nothing twice. */
  | ({ readonly command: "SESSION" } & Introduction)
  /** Follow the keys with this beginning; their changes come as events with the id of this request. */
  | { readonly command: "WATCH"; readonly prefix: string }
  /** End the watch that the request of this id began. */
  | { readonly command: "UNWATCH"; readonly watch: string };

/** What a client says of itself when it begins a session. */
export interface Introduction {
  /** 32 hex digits, the client's choice. */
  readonly session: string;
  /** The boot of the machine, as {@link isBootId} has it; undefined where it is not known. */
  readonly boot: string | undefined;
  /** The highest revision that the client has seen. */
  readonly revision: number;
}

/** Linux writes a UUID; others have plain digits. */
const BOOT_ID = /^(?:[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/;
const SESSION = /^([0-9a-f]{32}) (-|[0-9a-f-]{32,36}) (\d{1,15})$/;
/** Separates the two halves of a PUT. */
const SPACE = 0x20;

/** Reports whether a text may name a boot: a UUID, or 32 hex digits, in lower case. */
export function isBootId(text: string): boolean {
  return BOOT_ID.test(text);
}

/** Returns a request's frame. @param id eight lower-case hex digits, the client's choice */
export function encodeRequest(id: string, request: Request): Buffer {
  return encodeFrame({ id, word: request.command, payload: payloadOf(request) });
}

/**
 * Reads a request's frame.
 * @returns `unknown` for another command, `invalid` for a known one whose payload is not as it must be
 */
export function decodeRequest(frame: Frame): Request | "unknown" | "invalid" {
  return frame.word === "PUT" ? finish(decodePut(frame.payload)) : decodeShort(frame);
}

/** The same in steps: values are long. */
export function* decodeRequestInSteps(frame: Frame): Steps<Request | "unknown" | "invalid"> {
  return frame.word === "PUT" ? yield* decodePut(frame.payload) : decodeShort(frame);
}

/** Reads what carries no value. */
function decodeShort({ word, payload }: Frame): Request | "unknown" | "invalid" {
  switch (word) {
    case "KEYS":
    case "CAPS":
      return { command: word };
    case "GET":
    case "DELETE": {
      const key = payloadText(payload);
      return key ? { command: word, key } : "invalid";
    }
    case "SESSION": {
      const found = SESSION.exec(payloadText(payload) ?? "");
      if (found === null) return "invalid";
      const [, session, boot, revision] = found as unknown as [string, string, string, string];
      if (boot !== "-" && !isBootId(boot)) return "invalid";
      return { command: word, session, boot: boot === "-" ? undefined : boot, revision: Number(revision) };
    }
    case "WATCH": {
      const prefix = payloadText(payload);
      return prefix === undefined ? "invalid" : { command: word, prefix };
    }
    case "UNWATCH": {
      const watch = payloadText(payload);
      return watch ? { command: word, watch } : "invalid";
    }
    default:
      return "unknown";
  }
}

function payloadOf(request: Request): string | undefined {
  switch (request.command) {
    case "GET":
    case "DELETE":
      return textPayload(request.key);
    case "PUT":
      return textPayload(`${encodeBase64(Buffer.from(request.key))} ${encodeBase64(request.value)}`);
    case "SESSION":
      return textPayload(`${request.session} ${request.boot ?? "-"} ${request.revision}`);
    case "WATCH":
      return textPayload(request.prefix);
    case "UNWATCH":
      return textPayload(request.watch);
    default:
      return undefined;
  }
}

/** A PUT carries base64 of two further base64 texts with a blank between; the second may be empty. */
function* decodePut(payload: string | undefined): Steps<Request | "invalid"> {
  const inner = yield* decodeBase64InSteps(payload ?? "");
  const at = inner?.indexOf(SPACE) ?? -1;
  if (inner === undefined || at < 1) return "invalid";
  const key = utf8(decodeBase64(inner.toString("latin1", 0, at)));
  const value = yield* decodeBase64InSteps(inner.toString("latin1", at + 1).trim());
  return key && value !== undefined ? { command: "PUT", key, value } : "invalid";
}
