import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";

const PROGRAM = "qemu-system-x86_64";
/** The processor stands still (-S); Debian's QEMU lacks the accelerator that would leave it out. */
const BASE = ["-machine", "q35", "-accel", "tcg", "-S", "-nodefaults", "-display", "none"];
const TEST_PORT = ["-qtest", "stdio", "-qtest-log", "/dev/null"];
/** QEMU's fw_cfg device: selector and data (docs/specs/fw_cfg.rst). */
const SELECTOR_PORT = 0x510;
const DATA_PORT = 0x511;
const DIRECTORY_ITEM = 0x19;
const ENTRY_BYTES = 64;
/** First serial port: data and line status, whose lowest bit says that a byte is there. */
const SERIAL_PORT = 0x3f8;
const STATUS_PORT = 0x3fd;

/** Reports whether QEMU is installed. */
export function hasQemu(): boolean {
  return spawnSync(PROGRAM, ["--version"]).status === 0;
}

/** A machine of QEMU that runs no code: the test touches its ports, as its processor would. */
export class QemuPorts implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #waiting: ((answer: string) => void)[] = [];
  #text = "";
  #messages = "";
  #isOver = false;

  constructor(args: readonly string[]) {
    this.#child = spawn(PROGRAM, [...BASE, ...TEST_PORT, ...args], { stdio: ["pipe", "pipe", "pipe"] });
    this.#child.stdin?.on("error", () => undefined);
    this.#child.stderr?.setEncoding("utf8").on("data", (text: string) => (this.#messages += text));
    this.#child.stdout?.setEncoding("latin1").on("data", (text: string) => {
      const lines = (this.#text + text).split("\n");
      this.#text = lines.pop() as string;
      for (const line of lines) if (line.startsWith("OK")) this.#waiting.shift()?.(line);
    });
    this.#child.on("close", () => {
      this.#isOver = true;
      for (const resolve of this.#waiting) resolve("over");
    });
  }

  /** Returns those items of its fw_cfg device whose names are wanted: reading goes byte by byte. */
  async items(isWanted: (name: string) => boolean): Promise<Map<string, Buffer>> {
    const count = (await this.#read(DIRECTORY_ITEM, 4)).readUInt32BE();
    const directory = (await this.#read(DIRECTORY_ITEM, 4 + count * ENTRY_BYTES)).subarray(4);
    const items = new Map<string, Buffer>();
    for (let at = 0; at < directory.length; at += ENTRY_BYTES) {
      const name = directory.toString("utf8", at + 8, directory.indexOf(0, at + 8));
      if (!isWanted(name)) continue;
      items.set(name, await this.#read(directory.readUInt16BE(at + 4), directory.readUInt32BE(at)));
    }
    return items;
  }

  /** Sends bytes over the serial port. */
  async send(text: string): Promise<void> {
    await Promise.all([...Buffer.from(text)].map((byte) => this.#do(`outb ${SERIAL_PORT} ${byte}`)));
  }

  /** Returns the next line that comes in over the serial port; undefined when none begins within so many looks. */
  async line(looks = Number.POSITIVE_INFINITY): Promise<string | undefined> {
    for (let text = "", left = looks; left > 0; ) {
      const status = Number((await this.#do(`inb ${STATUS_PORT}`)).slice(3));
      if ((status & 1) === 0) {
        if (text === "") left--;
        continue;
      }
      const byte = Number((await this.#do(`inb ${SERIAL_PORT}`)).slice(3));
      if (byte === 0x0a) return text;
      text += String.fromCharCode(byte);
    }
    return undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isOver) return;
    this.#child.kill("SIGKILL");
    await once(this.#child, "close");
  }

  async #read(item: number, bytes: number): Promise<Buffer> {
    await this.#do(`outw ${SELECTOR_PORT} ${item}`);
    const answers = await Promise.all(Array.from({ length: bytes }, () => this.#do(`inb ${DATA_PORT}`)));
    return Buffer.from(answers.map((answer) => Number(answer.slice(3))));
  }

  async #do(command: string): Promise<string> {
    const answer = await new Promise<string>((resolve) => {
      if (this.#isOver) resolve("over");
      this.#waiting.push(resolve);
      this.#child.stdin?.write(`${command}\n`);
    });
    if (answer === "over") throw new Error(`QEMU ended: ${this.#messages}`);
    return answer;
  }
}
