import { spawnSync } from "node:child_process";
import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { Answer, answerNumber, Command } from "./control.js";
import { Errno, type HostResult, KvpDriver } from "./driver.js";
import {
  attrBody,
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
  pollBody,
  REQUEST_BYTES,
  writtenBody,
} from "./fuse-codec.js";
import { prepareDirectories } from "./namespace.js";

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
  readonly #askers: { unique: bigint; size: number }[] = [];
  #deviceRead: bigint | undefined;
  #registrations = 0;
  #agent = 0;
  readonly #awaiting: { after: number; put: (answer: Buffer) => void }[] = [];
  #done = false;

  constructor(fd: number, driver: KvpDriver) {
    this.#fd = fd;
    this.#driver = driver;
    driver.onReadable = () => this.#notify();
    driver.onRegistered = () => {
      this.#registrations++;
      for (const { after, put } of this.#awaiting.splice(0)) this.#tellRegistration(after, put);
    };
  }

  run(): void {
    const buffer = Buffer.alloc(REQUEST_BYTES);
    while (!this.#done) {
      const count = this.#next(buffer);
      if (count === 0) return;
      this.#handle(decodeFuseRequest(buffer.subarray(0, count)));
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

  #handle(request: FuseRequest): void {
    const { opcode, unique, node, pid, body } = request;
    const self = [...NODES.values()].find((each) => each.node === node) ?? ROOT;
    switch (opcode) {
      case FuseOp.init:
        this.#send(fuseReply(unique, initBody()));
        break;
      case FuseOp.lookup: {
        const found = NODES.get(body.toString("utf8", 0, body.length - 1));
        this.#send(found === undefined ? fuseError(unique, ENOENT) : fuseReply(unique, entryBody(found)));
        break;
      }
      case FuseOp.getattr:
      case FuseOp.setattr:
        this.#send(fuseReply(unique, attrBody(self)));
        break;
      case FuseOp.opendir:
        this.#send(fuseReply(unique, openBody(0)));
        break;
      case FuseOp.readdir:
      case FuseOp.releasedir:
      case FuseOp.flush:
        this.#send(fuseReply(unique));
        break;
      case FuseOp.open: {
        const errno = node === DEVICE ? this.#driver.open() : 0;
        if (node === DEVICE && errno === 0) this.#agent = pid;
        this.#send(errno === 0 ? fuseReply(unique, openBody(node)) : fuseError(unique, errno));
        break;
      }
      case FuseOp.read:
        this.#read(unique, decodeRead(body));
        break;
      case FuseOp.write:
        this.#write(unique, decodeWrite(body));
        break;
      case FuseOp.poll:
        this.#poll(unique, decodePoll(body));
        break;
      case FuseOp.interrupt:
        this.#interrupt(body.readBigUInt64LE(0));
        break;
      case FuseOp.release:
        if (node === DEVICE) {
          this.#polls.clear();
          this.#agent = 0;
          this.#driver.release();
        } else if (node === CONTROL) this.#done = true;
        this.#send(fuseReply(unique));
        break;
      case FuseOp.forget:
      case FuseOp.batchForget:
        break;
      case FuseOp.destroy:
        this.#done = true;
        this.#send(fuseReply(unique));
        break;
      default:
        this.#send(fuseError(unique, ENOSYS));
        break;
    }
  }

  #read(unique: bigint, { handle, size }: { handle: number; size: number }): void {
    if (handle === CONTROL) {
      this.#askers.push({ unique, size });
      this.#answer();
      return;
    }
    this.#deviceRead = unique;
    this.#driver.read(size, (result) => {
      this.#deviceRead = undefined;
      this.#send(typeof result === "number" ? fuseError(unique, result) : fuseReply(unique, result));
    });
  }

  #write(unique: bigint, { handle, data }: { handle: number; data: Buffer }): void {
    if (handle === CONTROL) {
      this.#send(fuseReply(unique, writtenBody(data.length)));
      this.#command(data);
      return;
    }
    // Copied: the buffer serves the next request while the reply may still be on its way to the host.
    const errno = this.#driver.write(Buffer.from(data));
    this.#send(errno === 0 ? fuseReply(unique, writtenBody(data.length)) : fuseError(unique, errno));
  }

  #poll(unique: bigint, { handle, kernelHandle, notify }: ReturnType<typeof decodePoll>): void {
    const device = handle === DEVICE;
    if (device && notify) this.#polls.add(kernelHandle);
    this.#send(fuseReply(unique, pollBody(device ? this.#driver.poll() : 0)));
  }

  #notify(): void {
    const waiting = [...this.#polls];
    this.#polls.clear();
    for (const kernelHandle of waiting) this.#send(fusePollNotification(kernelHandle));
  }

  #interrupt(unique: bigint): void {
    if (unique === this.#deviceRead) {
      this.#driver.interrupt();
      return;
    }
    const at = this.#askers.findIndex((asker) => asker.unique === unique);
    if (at < 0) return;
    this.#askers.splice(at, 1);
    this.#send(fuseError(unique, Errno.EINTR));
  }

  #command(data: Buffer): void {
    const rest = data.subarray(1);
    switch (data[0]) {
      case Command.request:
        this.#driver.request(rest, (result) => this.#put(hostAnswer(result)));
        break;
      case Command.awaitRegistration:
        this.#tellRegistration(rest.readUInt32LE(0), (answer) => this.#put(answer));
        break;
      case Command.registrations:
        this.#put(answerNumber(Answer.done, this.#registrations));
        break;
      case Command.agent:
        this.#put(answerNumber(Answer.done, this.#agent));
        break;
      case Command.cancel:
        for (const { put } of this.#awaiting.splice(0)) put(answerNumber(Answer.done, this.#registrations));
        break;
      case Command.expire:
        this.#driver.expire();
        break;
      case Command.remove:
        this.#driver.remove();
        break;
      case Command.restore:
        this.#driver.restore();
        break;
    }
  }

  #tellRegistration(after: number, put: (answer: Buffer) => void): void {
    if (this.#registrations > after) put(answerNumber(Answer.done, this.#registrations));
    else this.#awaiting.push({ after, put });
  }

  #put(answer: Buffer): void {
    this.#answers.push(answer);
    this.#answer();
  }

  #answer(): void {
    while (this.#answers.length > 0 && this.#askers.length > 0) {
      const { unique } = this.#askers.shift() as { unique: bigint };
      this.#send(fuseReply(unique, this.#answers.shift()));
    }
  }
}

function hostAnswer(result: HostResult): Buffer {
  if ("reply" in result) return Buffer.concat([Buffer.from([Answer.reply]), result.reply]);
  return answerNumber(Answer.status, result.status, result.why);
}

/** Mounts the file system: the descriptor is handed to mount(8). */
function mountFuse(fd: number, directory: string): void {
  const options = "fd=3,rootmode=40000,user_id=0,group_id=0,allow_other";
  const { status, stderr, error } = spawnSync(
    "mount",
    ["-i", "-t", "fuse", "-o", options, "none", directory],
    {
      stdio: ["ignore", "ignore", "pipe", fd],
      encoding: "utf8",
    },
  );
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`mount: ${stderr.trim()}`);
}

const [pools = "", version] = process.argv.slice(2);
const fd = openSync("/dev/fuse", "r+");
prepareDirectories(pools);
mountFuse(fd, "/dev/vmbus");
// The parent waits for this line; what follows goes over the control file.
writeSync(1, "ready\n");
closeSync(1);
new Server(fd, new KvpDriver(version)).run();
