import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { Answer, Command } from "./control.js";
import { Errno, type HostResult, KvpDriver } from "./driver.js";
import {
  attrBody,
  countBody,
  decodeFuseRequest,
  decodePoll,
  decodeRead,
  decodeWrite,
  entryBody,
  type FuseNode,
  FuseOp,
  type FuseRequest,
  fuseError,
  fusePollNotification,
  fuseReply,
  initBody,
  openBody,
  REQUEST_BYTES,
} from "./fuse-codec.js";
import { mount, prepareDirectories } from "./namespace.js";

/*
 * The process behind the simulated device: a FUSE file system with two files, the device and the control file of the
 * simulator. It does nothing but read requests and answer them, one after the other, and ends when the control file is closed,
 * so that neither it nor the mount, which lives in its own mount namespace, outlives the test.
 */

const ENOENT = 2;
const ENOSYS = 38;
const DEVICE = 2;
const CONTROL = 3;
const ROOT: FuseNode = { node: 1, directory: true };
const NODES = new Map<string, FuseNode>([
  ["hv_kvp", { node: DEVICE, directory: false }],
  [".control", { node: CONTROL, directory: false }],
]);

class Server {
  readonly #fd: number;
  readonly #driver: KvpDriver;
  readonly #polls = new Set<bigint>();
  readonly #answers: Buffer[] = [];
  readonly #askers: bigint[] = [];
  #deviceRead: bigint | undefined;
  #registrations = 0;
  #agent = 0;
  /** Who waits for more registrations than so many. */
  readonly #awaiting: number[] = [];
  #done = false;

  constructor(fd: number, driver: KvpDriver) {
    this.#fd = fd;
    this.#driver = driver;
    driver.onReadable = () => this.#notify();
    driver.onRegistered = () => {
      this.#registrations++;
      for (const after of this.#awaiting.splice(0)) this.#tellRegistration(after);
    };
  }

  run(): void {
    const buffer = Buffer.alloc(REQUEST_BYTES);
    while (!this.#done) {
      const count = this.#next(buffer);
      if (count === 0) return;
      const request = decodeFuseRequest(buffer.subarray(0, count));
      const { unique } = request;
      const answer = this.#answerTo(request);
      if (typeof answer === "number") this.#send(fuseError(unique, answer));
      else if (answer !== "later") this.#send(fuseReply(unique, answer));
    }
  }

  #next(buffer: Buffer): number {
    for (;;) {
      try {
        return readSync(this.#fd, buffer);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        // ENODEV: unmounted. ENOENT: the request was taken back before it was read.
        if (code === "ENODEV") return 0;
        if (code !== "ENOENT" && code !== "EINTR" && code !== "EAGAIN") throw error;
      }
    }
  }

  #send(reply: Buffer): void {
    try {
      writeSync(this.#fd, reply);
    } catch (error) {
      // ENOENT: who asked is gone.
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
  }

  /** Returns the body of the answer, or an errno. */
  #answerTo({ opcode, unique, node, pid, body }: FuseRequest): Buffer | number | undefined | "later" {
    switch (opcode) {
      case FuseOp.init:
        return initBody();
      case FuseOp.lookup: {
        const found = NODES.get(body.toString("utf8", 0, body.length - 1));
        return found === undefined ? ENOENT : entryBody(found);
      }
      case FuseOp.getattr:
      case FuseOp.setattr:
        return attrBody([...NODES.values()].find((each) => each.node === node) ?? ROOT);
      case FuseOp.opendir:
        return openBody(0);
      case FuseOp.readdir:
      case FuseOp.releasedir:
      case FuseOp.flush:
        return undefined;
      case FuseOp.open: {
        const errno = node === DEVICE ? this.#driver.open() : 0;
        if (node === DEVICE && errno === 0) this.#agent = pid;
        return errno === 0 ? openBody(node) : errno;
      }
      case FuseOp.read:
        return this.#read(unique, decodeRead(body));
      case FuseOp.write:
        return this.#write(unique, decodeWrite(body));
      case FuseOp.poll: {
        const { handle, kernelHandle, notify } = decodePoll(body);
        if (handle !== DEVICE) return countBody(0);
        if (notify) this.#polls.add(kernelHandle);
        return countBody(this.#driver.poll());
      }
      case FuseOp.interrupt:
        this.#interrupt(body.readBigUInt64LE(0));
        return "later";
      case FuseOp.release:
        if (node === DEVICE) {
          this.#polls.clear();
          this.#agent = 0;
          this.#driver.release();
        } else if (node === CONTROL) this.#done = true;
        return undefined;
      case FuseOp.forget:
      case FuseOp.batchForget:
        return "later";
      case FuseOp.destroy:
        this.#done = true;
        return undefined;
      default:
        return ENOSYS;
    }
  }

  #read(unique: bigint, { handle, size }: { handle: number; size: number }): "later" {
    if (handle === CONTROL) {
      this.#askers.push(unique);
      this.#answer();
      return "later";
    }
    this.#deviceRead = unique;
    this.#driver.read(size, (result) => {
      this.#deviceRead = undefined;
      this.#send(typeof result === "number" ? fuseError(unique, result) : fuseReply(unique, result));
    });
    return "later";
  }

  #write(unique: bigint, { handle, data }: { handle: number; data: Buffer }): Buffer | number | "later" {
    if (handle === CONTROL) {
      this.#send(fuseReply(unique, countBody(data.length)));
      this.#command(data);
      return "later";
    }
    // Copied: the buffer serves the next request while the reply may still be on its way to the host.
    const errno = this.#driver.write(Buffer.from(data));
    return errno === 0 ? countBody(data.length) : errno;
  }

  #notify(): void {
    for (const kernelHandle of this.#polls) this.#send(fusePollNotification(kernelHandle));
    this.#polls.clear();
  }

  #interrupt(unique: bigint): void {
    if (unique === this.#deviceRead) {
      this.#driver.interrupt();
      return;
    }
    const at = this.#askers.indexOf(unique);
    if (at < 0) return;
    this.#askers.splice(at, 1);
    this.#send(fuseError(unique, Errno.EINTR));
  }

  #command(data: Buffer): void {
    const rest = data.subarray(1);
    const commands: Readonly<Record<number, () => void>> = {
      [Command.request]: () => this.#driver.request(rest, (result) => this.#put(hostAnswer(result))),
      [Command.awaitRegistration]: () => this.#tellRegistration(rest.readUInt32LE(0)),
      [Command.registrations]: () => this.#putCount(),
      [Command.agent]: () => this.#put(answerNumber(Answer.done, this.#agent)),
      [Command.cancel]: () => {
        for (const _ of this.#awaiting.splice(0)) this.#putCount();
      },
      [Command.expire]: () => this.#driver.expire(),
      [Command.remove]: () => this.#driver.remove(),
      [Command.restore]: () => this.#driver.restore(),
    };
    commands[data[0] ?? 0]?.();
  }

  #tellRegistration(after: number): void {
    if (this.#registrations > after) this.#putCount();
    else this.#awaiting.push(after);
  }

  #putCount(): void {
    this.#put(answerNumber(Answer.done, this.#registrations));
  }

  #put(answer: Buffer): void {
    this.#answers.push(answer);
    this.#answer();
  }

  #answer(): void {
    while (this.#answers.length > 0 && this.#askers.length > 0) {
      this.#send(fuseReply(this.#askers.shift() as bigint, this.#answers.shift()));
    }
  }
}

function hostAnswer(result: HostResult): Buffer {
  if ("reply" in result) return Buffer.concat([Buffer.from([Answer.reply]), result.reply]);
  return answerNumber(Answer.status, result.status, result.why);
}

function answerNumber(kind: number, value: number, text = ""): Buffer {
  const head = Buffer.alloc(5);
  head[0] = kind;
  head.writeUInt32LE(value >>> 0, 1);
  return Buffer.concat([head, Buffer.from(text, "utf8")]);
}

const [pools = "", version] = process.argv.slice(2);
const fd = openSync("/dev/fuse", "r+");
prepareDirectories(pools);
const options = "fd=3,rootmode=40000,user_id=0,group_id=0,allow_other";
mount(["-i", "-t", "fuse", "-o", options, "none", "/dev/vmbus"], fd);
// The parent waits for this line; what follows goes over the control file.
writeSync(1, "ready\n");
closeSync(1);
new Server(fd, new KvpDriver(version)).run();
