import { memoryManifest } from "../../../providers/testing.js";
import { HostctlError } from "../../../src/base/hostctl-error.js";
import { COMMANDS } from "../../../src/cli/commands.js";
import { GLOBALS } from "../../../src/cli/grammar/globals.js";
import { optionsOf } from "../../../src/cli/grammar/vocabulary.js";
import type { PvbusDevice } from "../../../src/cli/hostctl/devices.js";
import { parseHostctl, runHostctl } from "../../../src/cli/hostctl/run.js";
import { encodeVis } from "../../../src/cli/hostctl/text.js";
import { jsonText, onTerminal, visible, visibleKey } from "../../../src/cli/io/output.js";
import { runPvbus } from "../../../src/cli/program.js";
import { BUILT_IN } from "../../../src/composition.js";
import { type Bus, openPvbus } from "../../../src/index.js";
import type { Input } from "../input.js";
import { holds, same, type Target } from "../target.js";

/** What could drive a terminal or forge a line of a log. */
const STEERING = /[\p{Cf}\u2028\u2029]|(?![\n\t])\p{Cc}/u;

function words(input: Input, known: readonly string[]): string[] {
  const found: string[] = [];
  for (let count = input.below(8); count > 0; count--) {
    const kind = input.below(4);
    if (kind === 0) found.push(input.word16());
    else if (kind === 1) found.push(input.pick(known) + input.word16());
    else found.push(input.pick(known));
  }
  return found;
}

/** Returns the bytes that stand for these words, in UTF-8 each. */
function typed(...argv: readonly string[]): Buffer {
  const fields = argv.map((word) => {
    // The first byte of a field chooses UTF-8 by being divisible by three.
    const bytes = Buffer.from(`\0${word}`);
    return Buffer.concat([Buffer.from([0, bytes.length]), bytes]);
  });
  return Buffer.concat([Buffer.from([argv.length]), ...fields]);
}

const LETTERS = [
  "-q",
  "-t",
  "-f",
  "-i",
  "-o",
  "-",
  "--",
  "/dev/pvbus0",
  "pvbus1",
  "key",
  "value",
  "-qt",
  "-fpvbus0",
  "-i-",
  "-o-",
];

/** What vis(3) leaves as it is; `\x07` and `\b` are safe to it. */
function isVis(text: string): boolean {
  return /^[ -~\t\n\r]*$/.test(text.replaceAll("\x07", "").replaceAll("\b", ""));
}

/** A device that answers what the input says. */
function deviceFrom(input: Input): PvbusDevice {
  const answer = async (): Promise<Uint8Array> => {
    if (input.below(4) === 0) throw new HostctlError(input.pick(["ENOENT", "ERANGE", "EIO", "EPERM"]));
    return input.field();
  };
  return { type: () => "KVM", read: answer, write: answer };
}

async function hostctl(input: Input): Promise<void> {
  const argv = words(input, LETTERS);
  const parsed = parseHostctl(argv);
  // Files are nobody's to be written or read here.
  if (
    !("complaint" in parsed) &&
    [parsed.input, parsed.output].some((path) => path !== undefined && path !== "-")
  )
    return;
  let printed = "";
  const sink = {
    write: (data: string | Uint8Array) => (printed += Buffer.from(data as string).toString("latin1")),
  };
  const device = deviceFrom(input);
  const code = await runHostctl(argv, {
    stdout: sink,
    stderr: { write: () => undefined },
    readInput: async () => input.field(),
    devices: { open: async () => device },
  });
  holds(code === 0 || code === 1, `the exit code ${code}`);
  // The type is printed behind the device as the user wrote it.
  if (!("complaint" in parsed || parsed.type)) holds(isVis(printed), "data that hostctl did not encode");
}

/** What such a command does beyond memory; its arguments are parsed all the same. */
const OUTSIDE = ["kvpd", "kvp", "host", "demo", "snapshot", "detect", "doctor", "watch"];
const ALL = [...COMMANDS, ...BUILT_IN.flatMap(({ commands = [] }) => commands)];
const KNOWN = [
  ...ALL.map(({ name }) => name),
  ...[...GLOBALS, ...ALL.flatMap(optionsOf)].flatMap(({ name, short }) => [
    `--${name}`,
    ...(short === undefined ? [] : [`-${short}`]),
  ]),
  ...[
    "--",
    "-",
    "-t",
    "Memory",
    "guest/key",
    "host/name",
    "pvbus0",
    "--json",
    "-o",
    "a=b",
    "5",
    "bash",
    "--timeout=5",
  ],
];

let open: Promise<Bus> | undefined;

/** A bus that stays open, of a store in memory. */
function memoryBus(): Promise<Bus> {
  open ??= openPvbus({
    snapshot: { os: "linux", arch: "x64", input: {} },
    providers: [memoryManifest()],
    interfaces: [{ type: "Memory" }],
  });
  return open;
}

async function pvbus(input: Input): Promise<void> {
  const isTTY = input.flag();
  const typed = words(input, KNOWN);
  const isOutside = typed.some((word) => OUTSIDE.includes(word) || word.startsWith("--snap"));
  const argv = isOutside ? ["--help", ...typed] : typed;
  let [out, err] = ["", ""];
  const take = (data: string | Uint8Array): string => Buffer.from(data as string).toString("utf8");
  const bus = await memoryBus();
  const code = await runPvbus(argv, {
    version: "0.0.0",
    stdout: { isTTY, write: (data) => (out += take(data)) },
    stderr: { isTTY, write: (data) => (err += take(data)) },
    env: {},
    readInput: async () => input.field(),
    builtIn: BUILT_IN,
    open: async () => Object.assign(Object.create(bus), { close: async () => undefined }) as Bus,
    untilInterrupted: () => AbortSignal.abort(),
  });
  holds([0, 1, 2].includes(code), `the exit code ${code}`);
  holds(!STEERING.test(err), `messages that steer a terminal: ${JSON.stringify(err)}`);
  if (isTTY)
    holds(
      !STEERING.test(out.replaceAll("\x1b[1m", "").replaceAll("\x1b[0m", "")),
      `data that steers a terminal: ${JSON.stringify(out)}`,
    );
}

function output(input: Input): void {
  const text = input.rest16();
  for (const shown of [visible(text), visibleKey(text)])
    holds(!STEERING.test(shown) && !shown.includes("\n"), "shown text that steers a terminal");
  holds(!visibleKey(text).includes("="), "a key with an equals sign");
  holds(!STEERING.test(onTerminal(text)), "a value that steers a terminal");
  const json = jsonText({ [text]: text });
  holds(!STEERING.test(json), "JSON that steers a terminal");
  same(JSON.parse(json), { [text]: text }, "JSON written and read");
}

function vis(input: Input): void {
  const shown = encodeVis(input.rest()).toString("latin1");
  holds(isVis(shown), "vis(3) leaves a byte that it must not");
}

/** The two command lines, and what they print. */
export const COMMAND_LINE: readonly Target[] = [
  {
    name: "cli-hostctl",
    run: hostctl,
    isAsync: true,
    seeds: () => [
      typed("-t"),
      typed("-qf", "pvbus1", "key"),
      typed("--", "key", "value"),
      typed("-i", "-", "key"),
    ],
  },
  {
    name: "cli-pvbus",
    run: pvbus,
    isAsync: true,
    seeds: () =>
      [
        ["get", "host/name"],
        ["-v", "get", "guest/\u009b1m\u202e"],
        ["--json", "-v", "get", "\u009b/x\u202e"],
        ["set", "guest/a", "--", "-b"],
        ["ls", "--json", "guest/"],
        ["rm", "guest/\ud7ff", "--timeout", "1"],
        ["-t", "Memory", "-o", "constructor=1", "get", "guest/a"],
        ["-o", "__proto__=1", "-t", "Memory", "info"],
        ["constructor"],
        ["help", "set"],
        ["completion", "zsh"],
        ["kvpd", "--pools"],
      ].map((argv) => Buffer.concat([Buffer.from([0]), typed(...argv)])),
  },
  { name: "cli-output", run: output, seeds: () => ["\0a=b\\\n\x1b[0m\u202e", "\x01\x9b\x85"] },
  { name: "cli-vis", run: vis, seeds: () => ["a\\\x80\xff\x7f\x01"] },
];
