import { decodeBase64 } from "./base64.js";
import { bytesPayload, type Frame, frameText, payloadText, textPayload } from "./frame.js";

/** What a host says. */
export type Answer =
  /** It was done; the value of a GET, the listing of KEYS, `OK` of the others. */
  | { readonly kind: "success"; readonly value: Uint8Array }
  /** No such key. */
  | { readonly kind: "missing" }
  /** It was refused, in words that may be anything. */
  | { readonly kind: "failure"; readonly message: string }
  /** A watched key changed; the frame has the id of the watch. */
  | { readonly kind: "event"; readonly event: KeyEvent };

/** A change that a watch tells. */
export interface KeyEvent {
  /** The key. */
  readonly key: string;
  /** What happened. */
  readonly op: "put" | "delete";
  /** Number of the change, growing with each. */
  readonly rev: number;
}

/** Returns an answer's frame as bytes. */
export function encodeAnswer(id: string, answer: Answer): Buffer {
  return Buffer.from(answerText(id, answer), "latin1");
}

/** Returns an answer's frame as text, which is ASCII. */
export function answerText(id: string, answer: Answer): string {
  switch (answer.kind) {
    case "success":
      return frameText({ id, word: "SUCCESS", payload: bytesPayload(answer.value) });
    case "missing":
      return frameText({ id, word: "NOTFOUND", payload: undefined });
    case "failure":
      return frameText({ id, word: "FAILURE", payload: textPayload(answer.message) });
    case "event":
      return frameText({ id, word: "EVENT", payload: textPayload(JSON.stringify(answer.event)) });
  }
}

/** Reads an answer's frame; any other word is a failure. Undefined when the payload is not as it must be. */
export function decodeAnswer({ word, payload }: Frame): Answer | undefined {
  switch (word) {
    case "SUCCESS": {
      const value = decodeBase64(payload ?? "");
      return value && { kind: "success", value };
    }
    case "NOTFOUND":
      return { kind: "missing" };
    case "EVENT": {
      const event = keyEvent(json(payloadText(payload)));
      return event && { kind: "event", event };
    }
    case "FAILURE":
      return { kind: "failure", message: payloadText(payload) ?? "" };
    default:
      return { kind: "failure", message: `unknown answer ${word}` };
  }
}

/** What a host with our extensions says to `CAPS`. */
export interface HostCapabilities {
  /** Name of its software. */
  readonly server: string;
  /** The commands that it knows. */
  readonly commands: readonly string[];
  /** Longest key in bytes that this guest may write; undefined when it does not say. */
  readonly maxKey?: number | undefined;
  /** Longest value in bytes that this guest may write; undefined when it does not say. */
  readonly maxValue?: number | undefined;
  /** Values are any bytes; otherwise UTF-8 text. */
  readonly binary: boolean;
  /** Values may be empty; otherwise an empty one removes the key. */
  readonly emptyValues: boolean;
}

/** Returns the value of the answer to `CAPS`. */
export function encodeCapabilities(capabilities: HostCapabilities): Buffer {
  return Buffer.from(JSON.stringify(capabilities));
}

/** Reads the value of the answer to `CAPS`; undefined when it is anything else. Fields of later versions are left out. */
export function decodeCapabilities(value: Uint8Array): HostCapabilities | undefined {
  const document = json(Buffer.from(value).toString("utf8"));
  if (document === undefined) return undefined;
  const { server, commands, maxKey, maxValue, binary, emptyValues } = document;
  if (typeof server !== "string" || !Array.isArray(commands)) return undefined;
  return {
    server,
    commands: commands.filter((command) => typeof command === "string"),
    maxKey: size(maxKey),
    maxValue: size(maxValue),
    binary: binary === true,
    emptyValues: emptyValues === true,
  };
}

/** What a host says to `SESSION`. */
export interface HostSession {
  /** 32 hex digits: another host, or the same one after its restart, has others. */
  readonly session: string;
  /** The highest revision that it has given. */
  readonly revision: number;
}

const HOST_SESSION = /^([0-9a-f]{32}) (\d{1,15})$/;

/** Returns the value of the answer to `SESSION`. */
export function encodeHostSession({ session, revision }: HostSession): Buffer {
  return Buffer.from(`${session} ${revision}`);
}

/** Reads the value of the answer to `SESSION`; undefined when it is anything else. */
export function decodeHostSession(value: Uint8Array): HostSession | undefined {
  const [, session, revision] = HOST_SESSION.exec(Buffer.from(value).toString("latin1")) ?? [];
  return session === undefined ? undefined : { session, revision: Number(revision) };
}

function size(value: unknown): number | undefined {
  return Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : undefined;
}

function keyEvent(document: Record<string, unknown> | undefined): KeyEvent | undefined {
  const { key, op, rev } = document ?? {};
  if (typeof key !== "string" || key === "" || (op !== "put" && op !== "delete")) return undefined;
  return { key, op, rev: size(rev) ?? 0 };
}

/** Reads an object; undefined for anything else. */
function json(text: string | undefined): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text ?? "");
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    // What is no JSON is no document.
    return undefined;
  }
}
