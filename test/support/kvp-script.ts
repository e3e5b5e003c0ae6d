import {
  EMPTY_IP_INFO,
  encodeRequest,
  type KvpRequest,
  LINUX_KVP,
} from "../../providers/hyperv/protocol/messages.js";

/** One request of the script. */
export interface ScriptStep {
  /** What it is. */
  readonly name: string;
  /** The message as the driver hands it over. */
  readonly message: Buffer;
  /** Row of the table in docs/hyperv.md that explains why our reply is another one; none: the replies are equal. */
  readonly differs?: string;
}

type Known = Exclude<KvpRequest, { operation: "malformed" }>;

const text = (value: string): Buffer => Buffer.from(value);
/** Pools that are files for both daemons. */
const FILE_POOLS = [0, 1, 3, 4];
const TEXTS = [
  "plain",
  "with space",
  "a/b/c",
  "..",
  "line\nend",
  "\x1b[31mred",
  "naïve",
  "日本語キー",
  "🙂🚀",
  "\ufeffmark",
  "'; rm -rf / #",
  "$(reboot)",
  "CLOUD_INIT|1700000000|start|init|uuid|0",
];

class Script {
  readonly steps: ScriptStep[] = [];

  add(
    name: string,
    request: Known,
    options: { edit?: (message: Buffer) => void; differs?: string } = {},
  ): void {
    const message = encodeRequest(request, LINUX_KVP);
    options.edit?.(message);
    this.steps.push({
      name,
      message,
      ...(options.differs === undefined ? {} : { differs: options.differs }),
    });
  }

  set(pool: number, key: string, value: string, options?: Parameters<Script["add"]>[2]): void {
    const label = `SET ${pool} ${JSON.stringify(key.slice(0, 20))} (${value.length})`;
    this.add(label, { operation: "set", pool, key: text(key), value: text(value) }, options);
  }

  get(pool: number, key: string, valueSize = 0, options?: Parameters<Script["add"]>[2]): void {
    const label = `GET ${pool} ${JSON.stringify(key.slice(0, 20))} ${valueSize}`;
    this.add(label, { operation: "get", pool, key: text(key), valueSize }, options);
  }

  delete(pool: number, key: string, options?: Parameters<Script["add"]>[2]): void {
    const label = `DELETE ${pool} ${JSON.stringify(key.slice(0, 20))}`;
    this.add(label, { operation: "delete", pool, key: text(key) }, options);
  }

  enumerate(pool: number, index: number, options?: Parameters<Script["add"]>[2]): void {
    this.add(`ENUMERATE ${pool} ${index}`, { operation: "enumerate", pool, index }, options);
  }

  list(pool: number, count: number): void {
    for (let index = 0; index <= count; index++) this.enumerate(pool, index);
  }
}

/** Pseudo-random numbers, the same in every run. */
function* numbers(seed: number): Generator<number, never, undefined> {
  for (let state = seed; ; ) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    yield state >>> 8;
  }
}

/**
 * Requests of every kind, in one order: all operations, all pools, limits, text of all sorts, unknown keys, bad sizes.
 * @param mac address of an interface of this machine
 */
export function requestScript(mac: string): readonly ScriptStep[] {
  const script = new Script();
  for (const pool of FILE_POOLS) {
    script.enumerate(pool, 0);
    script.delete(pool, "missing");
    script.get(pool, "missing");
    for (const [at, each] of TEXTS.entries()) script.set(pool, each, `value ${at} ${each}`);
    script.list(pool, TEXTS.length);
    for (const each of ["naïve", "日本語キー"]) {
      script.get(pool, each);
      script.get(pool, each, 2048);
      script.get(pool, each, 3);
    }
    script.set(pool, "plain", "a value that is longer than the first one was");
    script.enumerate(pool, 0);
    script.set(pool, "plain", "short");
    script.enumerate(pool, 0);
    script.delete(pool, "a/b/c");
    script.delete(pool, "a/b/c");
    script.enumerate(pool, 1);
    script.enumerate(pool, TEXTS.length - 1);
    for (const index of [1_000, 0x7fffffff]) script.enumerate(pool, index);
    script.enumerate(pool, 0xffffffff, { differs: "negative index" });
  }

  script.set(0, "k".repeat(511), "v".repeat(2047));
  script.set(0, "日".repeat(170), "日".repeat(682));
  script.set(0, "empty value", "");
  script.set(0, "", "empty key");
  script.set(0, "", "empty key again");
  script.list(0, TEXTS.length + 4);
  script.get(0, "k".repeat(511), 2048);
  script.delete(0, "k".repeat(511));
  script.delete(0, "");

  const sized = (at: number, size: number) => ({ edit: (m: Buffer) => void m.writeUInt32LE(size, at) });
  for (const size of [513, 2048, 0x7fffffff]) {
    script.set(0, "plain", "bad key size", sized(8, size));
    script.get(0, "plain", 0, sized(8, size));
    script.delete(0, "plain", sized(4, size));
  }
  for (const size of [2049, 0x7fffffff]) {
    script.set(0, "plain", "bad value size", sized(12, size));
    script.get(0, "plain", 0, sized(12, size));
  }
  script.list(0, TEXTS.length + 2);

  // SET and DELETE of the Auto pool; its ENUMERATE.
  script.set(2, "OSName", "mine", { differs: "auto" });
  script.delete(2, "OSName", { differs: "auto" });
  script.get(2, "FullyQualifiedDomainName");
  script.list(2, 12);
  script.enumerate(2, 0xffffffff);

  for (const number of [6, 7, 50, 99, 100, 101, 255]) {
    script.add(`operation ${number}`, { operation: "unknown", number }, { differs: "unknown operation" });
  }

  const info = { ...EMPTY_IP_INFO, adapterId: mac };
  for (const adapterId of [mac, mac.toLowerCase(), "", "00:00:00:00:00:99", "eth0", "'; id #"]) {
    for (const addressFamily of [0, 1, 2, 3, 255])
      script.add(`GET_IP_INFO ${adapterId} ${addressFamily}`, {
        operation: "getIpInfo",
        info: { ...info, adapterId, addressFamily },
      });
  }
  for (const adapterId of ["{c3e1e5c0-0000-0000-0000-000000000000}", "", mac]) {
    script.add(`SET_IP_INFO ${adapterId}`, {
      operation: "setIpInfo",
      info: { ...info, adapterId, ipAddresses: "10.0.0.5", subnets: "255.0.0.0" },
    });
  }

  // A longer life of one pool.
  const random = numbers(20_261_121);
  const next = (below: number): number => random.next().value % below;
  for (let step = 0; step < 150; step++) {
    const key = `key ${next(12)} ${TEXTS[next(TEXTS.length)]}`.slice(0, 8 + next(4));
    const kind = next(10);
    if (kind < 5) script.set(1, key, "x".repeat(next(30)) + TEXTS[next(TEXTS.length)]);
    else if (kind < 7) script.delete(1, key);
    else script.enumerate(1, next(30));
  }
  return script.steps;
}
