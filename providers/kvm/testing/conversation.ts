import type { Duplex } from "node:stream";
import { type Answer, encodeAnswer, encodeCapabilities, type KeyEvent } from "../../../src/mdata/answer.js";
import { decodeFrame, type Frame, isFrame } from "../../../src/mdata/frame.js";
import { LineReader } from "../../../src/mdata/line-reader.js";
import { encodePlainValue, INVALID_COMMAND, VERSION_2 } from "../../../src/mdata/plain.js";
import { decodeRequest, type Request } from "../../../src/mdata/request.js";
import { sendWith } from "./faults.js";
import type { KvmHostSimulator } from "./simulator.js";

const MAX_LINE_BYTES = 16 * 1024 * 1024;
/** Names of the host's own, which guests read and do not change, and which are never listed. */
const HOST_NAMESPACE = "sdc:";
const OK: Answer = { kind: "success", value: Buffer.from("OK") };
const MISSING: Answer = { kind: "missing" };

/** One connected guest of a simulated host. */
export class HostConversation {
  readonly #host: KvmHostSimulator;
  readonly #stream: Duplex;
  readonly #reader = new LineReader(MAX_LINE_BYTES);
  readonly #watches = new Map<string, string>();

  constructor(host: KvmHostSimulator, stream: Duplex) {
    this.#host = host;
    this.#stream = stream;
    stream.on("error", () => stream.destroy());
    stream.on("end", () => stream.end());
    stream.on("data", (chunk: Buffer) => {
      this.#reader.push(chunk);
      for (let line = this.#reader.next(); line !== undefined; line = this.#reader.next())
        this.#take(line.bytes);
    });
  }

  /** Tells a change to the watches that it concerns. */
  tell(event: KeyEvent): void {
    for (const [id, prefix] of this.#watches)
      if (event.key.startsWith(prefix)) this.#stream.write(encodeAnswer(id, { kind: "event", event }));
  }

  /** Cuts the guest off. */
  close(): void {
    this.#stream.destroy();
  }

  #take(line: Buffer): void {
    if (this.#stream.destroyed) return;
    if (this.#host.dialect !== "version-1" && isFrame(line)) this.#takeFrame(line);
    else this.#stream.write(this.#plainAnswer(line.toString("utf8").trim()));
  }

  #takeFrame(line: Buffer): void {
    const frame = decodeFrame(line);
    // A broken frame gets no answer, as from the reference server.
    if (frame === undefined) return;
    this.#host.commands.push(frame.word);
    const fault = this.#host.nextFault();
    if (fault === "cut-before") {
      this.close();
      return;
    }
    const answer = this.#answer(frame);
    const id = fault === "foreign" ? "00000000" : frame.id;
    sendWith(fault === "foreign" ? undefined : fault, this.#stream, encodeAnswer(id, answer));
  }

  #plainAnswer(text: string): string | Buffer {
    const [command = "", argument = ""] = text.split(/\s+(.*)/s);
    if (text === "" || command === "NEGOTIATE") this.#watches.clear();
    if (command === "NEGOTIATE" && argument === "V2" && this.#host.dialect !== "version-1")
      return `${VERSION_2}\n`;
    if (command === "GET" && argument !== "") {
      const value = this.#host.get(argument);
      return value === undefined ? "NOTFOUND\n" : encodePlainValue(value);
    }
    if (command === "KEYS") return encodePlainValue(this.#listing());
    return ["", "GET"].includes(command) ? `${INVALID_COMMAND}\n` : "FAILURE\n";
  }

  #answer(frame: Frame): Answer {
    const request = decodeRequest(frame);
    if (request === "unknown") return failure(`Unknown command ${frame.word}`);
    if (request === "invalid") return failure(`Invalid ${frame.word} Request`);
    switch (request.command) {
      case "GET": {
        const value = this.#host.get(request.key.trim());
        return value === undefined ? MISSING : { kind: "success", value };
      }
      case "KEYS":
        return { kind: "success", value: this.#listing() };
      case "PUT":
        return isHostKey(request.key) ? namespaceFailure() : this.#put(request.key, request.value);
      case "DELETE":
        if (isHostKey(request.key)) return namespaceFailure();
        this.#host.delete(request.key.trim());
        return OK;
      default:
        return this.#host.dialect === "pvbus"
          ? this.#extension(frame.id, request)
          : failure(`Unknown command ${frame.word}`);
    }
  }

  #put(key: string, value: Uint8Array): Answer {
    if (this.#host.dialect === "pvbus") {
      if (value.length > this.#host.maxValueBytes)
        return failure("ERR_VALUE_TOO_LONG: the value is too long");
      this.#host.set(key, value);
      return OK;
    }
    if (value.length === 0) return failure("Invalid PUT Request");
    // The reference server keeps text: other bytes are damaged.
    this.#host.set(key, Buffer.from(value).toString("utf8"));
    return OK;
  }

  #extension(id: string, request: Request): Answer {
    switch (request.command) {
      case "WATCH":
        this.#watches.set(id, request.prefix);
        return OK;
      case "UNWATCH":
        return this.#watches.delete(request.watch) ? OK : MISSING;
      default: {
        const value = encodeCapabilities({
          server: "simulator",
          commands: ["GET", "PUT", "DELETE", "KEYS", "CAPS", "WATCH", "UNWATCH"],
          maxValue: this.#host.maxValueBytes,
          binary: true,
          emptyValues: true,
        });
        return { kind: "success", value };
      }
    }
  }

  #listing(): Buffer {
    const keys = this.#host.keys().filter((key) => !isHostKey(key));
    return Buffer.from(keys.join("\n"));
  }
}

function isHostKey(key: string): boolean {
  return key.startsWith(HOST_NAMESPACE);
}

function failure(message: string): Answer {
  return { kind: "failure", message };
}

function namespaceFailure(): Answer {
  return failure('Cannot update the "sdc" Namespace.');
}
