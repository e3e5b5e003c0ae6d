import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { HostctlError, hostctlErrnoOf } from "../../base/hostctl-error.js";
import { printed, type Sink } from "../io/output.js";
import type { PvbusDevice, PvbusDevices } from "./devices.js";
import { encodeVis, errnoText } from "./text.js";

/** What hostctl works with. */
interface HostctlWorld {
  readonly stdout: Sink;
  readonly stderr: Sink;
  readonly readInput: () => Promise<Uint8Array>;
  readonly devices: PvbusDevices;
}

const USAGE = "usage: hostctl [-qt] [-f device] [-i input] [-o output] key [value]";
/** Bytes of the buffers for the encoded key and value, NUL included. */
const TEXT_SIZE = 4096;
/** Largest value buffer (OpenBSD sys/dev/pv/pvvar.h, PVBUS_KVOP_MAXSIZE). */
const LARGEST_VALUE = 65536;

/** Ends the program with its message. */
class Failure extends Error {}

/**
 * Does what OpenBSD's hostctl(8) does, in its order, with its words.
 * @returns the exit code: 0, or 1 for every failure
 */
export async function runHostctl(argv: readonly string[], outside: HostctlWorld): Promise<number> {
  const world = { ...outside, stdout: printed(outside.stdout), stderr: printed(outside.stderr) };
  let output: number | undefined;
  try {
    const options = parseHostctl(argv);
    if ("complaint" in options) throw new Failure(`hostctl: ${options.complaint}\n${USAGE}`);
    const device = await openDevice(world.devices, options.device, "read");
    if (options.output !== undefined && options.output !== "-") output = openOutput(options.output);
    const print = (data: Uint8Array): void => {
      if (output === undefined) world.stdout.write(data);
      else writeSync(output, data);
    };
    if (options.type) {
      print(Buffer.from(`${options.device}: ${await call(async () => device.type())}\n`));
      return 0;
    }
    const result = encodeVis(await readOrWrite(options, device, world));
    if (!options.quiet && result.length > 0) print(Buffer.concat([result, Buffer.from("\n")]));
    return 0;
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    world.stderr.write(`${error.message}\n`);
    return 1;
  } finally {
    if (output !== undefined) closeSync(output);
  }
}

async function readOrWrite(
  options: HostctlOptions,
  device: PvbusDevice,
  world: HostctlWorld,
): Promise<Uint8Array> {
  const [keyText, valueText, ...more] = options.operands;
  if (keyText === undefined) throw new Failure(USAGE);
  const key = encodeOperand(keyText);
  if (key === undefined) throw new Failure("hostctl: key too long");
  if (more.length > 0 || (valueText !== undefined && options.input !== undefined)) throw new Failure(USAGE);
  if (valueText === undefined && options.input === undefined) return call(() => read(device, key));
  const value =
    options.input === undefined ? encodeOperand(valueText ?? "") : await inputValue(options.input, world);
  if (value === undefined) throw new Failure("hostctl: value too long");
  const writable = await openDevice(world.devices, options.device, "write");
  return call(() => writable.write(key, value));
}

/** The value buffer grows as long as the kernel finds it too small. */
async function read(device: PvbusDevice, key: Uint8Array): Promise<Uint8Array> {
  for (let length = TEXT_SIZE; ; length *= 2) {
    try {
      return await device.read(key, length);
    } catch (error) {
      if (!(error instanceof HostctlError && error.errno === "ERANGE") || length >= LARGEST_VALUE)
        throw error;
    }
  }
}

function openDevice(devices: PvbusDevices, name: string, mode: "read" | "write"): Promise<PvbusDevice> {
  return call(() => devices.open(name, mode), `open: ${name}`);
}

/** Runs a call of the kernel, whose refusal ends the program. */
async function call<T>(work: () => Promise<T>, what = "ioctl"): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw new Failure(`hostctl: ${what}: ${errnoText(hostctlErrnoOf(error))}`, { cause: error });
  }
}

function openOutput(path: string): number {
  try {
    return openSync(path, "w");
  } catch (error) {
    const { code = "EIO" } = error as NodeJS.ErrnoException;
    throw new Failure(`hostctl: fopen: ${path}: ${errnoText(code)}`, { cause: error });
  }
}

/** Encodes what is sent, up to its first line end; undefined when it is too long. */
function encodeOperand(text: string | Uint8Array): Buffer | undefined {
  const encoded = encodeVis(typeof text === "string" ? Buffer.from(text, "utf8") : text);
  if (encoded.length >= TEXT_SIZE) return undefined;
  const end = encoded.indexOf("\n");
  return end < 0 ? encoded : encoded.subarray(0, end);
}

async function inputValue(path: string, world: HostctlWorld): Promise<Buffer> {
  let value: Buffer | undefined;
  try {
    const bytes = (path === "-" ? await world.readInput() : readStart(path)).subarray(0, TEXT_SIZE - 1);
    value = bytes.length === 0 ? undefined : encodeOperand(bytes);
  } catch (cause) {
    throw new Failure("hostctl: input file", { cause });
  }
  if (value === undefined) throw new Failure("hostctl: input file");
  return value;
}

/** Only the beginning of an input file counts. */
function readStart(path: string): Buffer {
  const fd = openSync(path, "r");
  try {
    const bytes = Buffer.alloc(TEXT_SIZE - 1);
    return bytes.subarray(0, readSync(fd, bytes));
  } finally {
    closeSync(fd);
  }
}

/** What a command line of hostctl(8) says; the operands are key and value. */
interface HostctlOptions {
  readonly device: string;
  readonly input: string | undefined;
  readonly output: string | undefined;
  readonly quiet: boolean;
  readonly type: boolean;
  readonly operands: readonly string[];
}

const WITH_ARGUMENT = "fio";
const SWITCHES = "qt";

/**
 * Takes a command line apart as getopt(3) does with `f:i:o:qt`: letters may be joined, options end at the first
 * operand or `--`.
 * @returns the options, or getopt's own complaint
 */
export function parseHostctl(argv: readonly string[]): HostctlOptions | { readonly complaint: string } {
  const values = new Map<string, string>();
  let at = 0;
  for (; at < argv.length; at++) {
    const word = argv[at] as string;
    if (word === "--") {
      at++;
      break;
    }
    if (!word.startsWith("-") || word === "-") break;
    for (let index = 1; index < word.length; index++) {
      const letter = word[index] as string;
      if (SWITCHES.includes(letter)) values.set(letter, "");
      else if (!WITH_ARGUMENT.includes(letter)) return { complaint: `unknown option -- ${letter}` };
      else {
        const rest = word.slice(index + 1);
        const argument = rest === "" ? argv[++at] : rest;
        if (argument === undefined) return { complaint: `option requires an argument -- ${letter}` };
        values.set(letter, argument);
        break;
      }
    }
  }
  return {
    device: values.get("f") ?? "/dev/pvbus0",
    input: values.get("i"),
    output: values.get("o"),
    quiet: values.has("q"),
    type: values.has("t"),
    operands: argv.slice(at),
  };
}
