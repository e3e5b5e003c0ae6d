import { isUtf8 } from "node:buffer";
import { MAX_NAME_BYTES, MAX_PROPERTIES, MAX_VALUE_BYTES, OLD_VALUE_BYTES } from "../protocol/properties.js";
import { Status } from "../protocol/status.js";

/** Who calls. */
export type PropertySide = "guest" | "host";

/** A property in the simulated host's hands. */
export interface SimulatedProperty {
  /** Its value. */
  readonly value: string;
  /** As the service tells them: `TRANSIENT, RDONLYGUEST`. */
  readonly flags: string;
  /** When it was set, in nanoseconds since 1970. */
  readonly timestamp: bigint;
}

/** A number that a call is given. */
export interface ServiceNumber {
  /** How long it is. */
  readonly kind: "u32" | "u64";
  /** The number. */
  readonly value: bigint;
}

/** Memory that a call is given. */
export interface ServiceMemory {
  /** That it is memory. */
  readonly kind: "pointer";
  /** A copy of it. */
  readonly bytes: Buffer;
}

/** What a call of the service is given. */
export type ServiceParameter = ServiceNumber | ServiceMemory;

/** What it answers: a status, numbers by parameter, bytes for the beginning of a pointer's memory. */
export interface ServiceAnswer {
  /** VirtualBox's status. */
  readonly status: number;
  /** Numbers by the parameter that they go into. */
  readonly numbers?: ReadonlyMap<number, bigint>;
  /** Bytes by the parameter whose memory they fill. */
  readonly bytes?: ReadonlyMap<number, Buffer>;
}

/** What the simulated host does wrong, or in the way of older ones. */
export interface VirtualBoxFaults {
  /** The host has no service of guest properties. */
  noService?: boolean;
  /** Guests may change nothing. */
  readOnly?: boolean;
  /** Values have 127 bytes at most. */
  oldValueLimit?: boolean;
  /** So many calls are told that there is no such client. */
  forgetClients?: number;
  /** Errors come as VirtualBox's own driver has them: by the status, and none by errno. */
  byStatus?: boolean;
  /** Changes what the service answers, for hosts that lie. */
  tamper?: ((fn: number, answer: ServiceAnswer) => ServiceAnswer) | undefined;
  /** The driver forgets the time limits and the ends of waits. */
  deaf?: boolean;
}

/** The bits of flags and their names, in the service's order. */
const FLAGS = [
  [2, "TRANSIENT"],
  [12, "READONLY"],
  [4, "RDONLYGUEST"],
  [8, "RDONLYHOST"],
  [16, "TRANSRESET"],
] as const;
const TRANSIENT = 2;
const RDONLYGUEST = 4;
const RDONLYHOST = 8;
const TRANSRESET = 16;
const RESERVED = [
  "/VirtualBox/GuestAdd/VBoxService/",
  "/VirtualBox/GuestAdd/PAM/",
  "/VirtualBox/GuestAdd/Greeter/",
  "/VirtualBox/GuestAdd/SharedFolders/",
  "/VirtualBox/HostInfo/",
  "/VirtualBox/VMInfo/",
];
const RESUMED = "/VirtualBox/VMInfo/ResumeCounter";
const RESET = "/VirtualBox/VMInfo/ResetCounter";
const HISTORY = 256;
const WAITS_OF_A_CLIENT = 16;
const PATTERN_BYTES = 1024;
/** A clock that is further behind was set back. */
const SET_BACK_NS = 1_000_000_000n;

interface Kept {
  value: Buffer;
  flags: number;
  timestamp: bigint;
}

interface Note {
  readonly name: string;
  readonly timestamp: bigint;
  readonly value: Buffer;
  readonly flags: number;
}

/** A wait that is under way. */
export interface PendingWait {
  /** Who waits. */
  readonly client: number;
  /** For what. */
  readonly pattern: string;
  /** Room for the event. */
  readonly room: number;
  /** What its answer begins with: 78 when events were lost before. */
  status: number;
  /** Takes the answer. */
  readonly done: (answer: ServiceAnswer) => void;
}

/**
 * VirtualBox's service of guest properties: names, values, flags, the last 256 events, and who waits. Written from what the real one
 * was seen to do.
 */
export class PropertyService {
  /** What it does wrong. */
  readonly faults: VirtualBoxFaults = {};
  readonly #properties = new Map<string, Kept>();
  readonly #clock: () => bigint;
  #notes: Note[] = [];
  #waits: PendingWait[] = [];
  #last = 0n;

  /** @param clock the host's time in nanoseconds since 1970 */
  constructor(clock: () => bigint = () => BigInt(Date.now()) * 1_000_000n) {
    this.#clock = clock;
    this.powerOn();
  }

  /** Puts in place what the service has from the start. */
  powerOn(version = "7.0.20"): void {
    const own = TRANSIENT | RDONLYGUEST;
    for (const [name, value, flags] of [
      ["/VirtualBox/HostInfo/VBoxVer", version, own],
      ["/VirtualBox/HostInfo/VBoxVerExt", version, own],
      ["/VirtualBox/HostInfo/VBoxRev", "163906", own],
      [RESUMED, "0", own],
      [RESET, "0", own],
      ["/VirtualBox/HostGuest/SysprepExec", "", RDONLYGUEST],
      ["/VirtualBox/HostGuest/SysprepArgs", "", RDONLYGUEST],
    ] as const)
      this.#properties.set(name, { value: Buffer.from(value), flags, timestamp: this.#now() });
  }

  /** Returns a property; undefined when there is none. */
  get(name: string): SimulatedProperty | undefined {
    const kept = this.#properties.get(name);
    return kept && { value: kept.value.toString(), flags: flagText(kept.flags), timestamp: kept.timestamp };
  }

  /** Returns all names, in the service's order, which is none. */
  names(): string[] {
    return [...this.#properties.keys()].reverse();
  }

  /** Waits that are under way. */
  get waiting(): number {
    return this.#waits.length;
  }

  /** Sets a property as the host's administrator does. @returns the status */
  hostSet(name: string, value: string, flags = ""): number {
    return this.#set("host", Buffer.from(`${name}\0`), Buffer.from(`${value}\0`), Buffer.from(`${flags}\0`));
  }

  /** Removes a property as the host's administrator does. @returns the status */
  hostDelete(name: string): number {
    return this.#delete("host", Buffer.from(`${name}\0`));
  }

  /** Puts values in place, or takes them away, without an event: what a snapshot or a saved machine brings along. */
  load(values: Readonly<Record<string, string | undefined>>): void {
    for (const [name, value] of Object.entries(values))
      if (value === undefined) this.#properties.delete(name);
      else this.#properties.set(name, { value: Buffer.from(value), flags: 0, timestamp: this.#now() });
  }

  /** The machine was saved and restored: no event is remembered, who waits waits on. */
  restore(): void {
    this.#notes = [];
    for (const wait of this.#waits) wait.status = Status.historyLost;
    this.#count(RESUMED);
  }

  /** The machine was reset. */
  reset(): void {
    this.#drop(TRANSRESET);
    this.#count(RESET);
  }

  /** The machine was switched off and on again. */
  powerCycle(): void {
    this.#drop(TRANSIENT);
    this.#notes = [];
    this.powerOn();
  }

  /** The host's service was started again with what it keeps: it remembers no events and no waits. */
  forget(): void {
    this.#notes = [];
    this.#waits = [];
  }

  /** Answers a call of a client. A wait may have to: then `done` is called later, and what is returned says which. */
  call(
    client: number,
    fn: number,
    parameters: readonly ServiceParameter[],
    done: (answer: ServiceAnswer) => void,
  ): PendingWait | undefined {
    const tamper = this.faults.tamper;
    const told = (answer: ServiceAnswer): void => done(tamper?.(fn, answer) ?? answer);
    if ((this.faults.forgetClients ?? 0) > 0) {
      this.faults.forgetClients = (this.faults.forgetClients ?? 0) - 1;
      done({ status: Status.invalidClient });
      return undefined;
    }
    if (fn === 6) return this.#wait(client, parameters, told);
    told(this.#answer(fn, parameters));
    return undefined;
  }

  /** Takes back a wait, as the driver does when its time is up. */
  cancel(wait: PendingWait): void {
    this.#waits = this.#waits.filter((each) => each !== wait);
  }

  /** Ends a client, and what it waits for. */
  disconnect(client: number): void {
    const ended = this.#waits.filter((wait) => wait.client === client);
    this.#waits = this.#waits.filter((wait) => wait.client !== client);
    for (const wait of ended) wait.done({ status: Status.interrupted });
  }

  #answer(fn: number, parameters: readonly ServiceParameter[]): ServiceAnswer {
    const forms: Readonly<Record<number, string>> = { 1: "ppnn", 2: "ppp", 3: "pp", 4: "p", 5: "ppn" };
    const form = forms[fn];
    if (form === undefined) return { status: Status.notImplemented };
    // SET takes two, and the other form three: the number of parameters decides.
    const given = parameters.map(({ kind }) => (kind === "pointer" ? "p" : "n")).join("");
    const isSet = fn === 2 || fn === 3;
    if (isSet ? given !== "ppp" && given !== "pp" : given !== form)
      return { status: Status.invalidParameter };
    const [first, second, third] = parameters.map((each) =>
      each.kind === "pointer" ? each.bytes : Buffer.alloc(0),
    );
    if (first === undefined) return { status: Status.invalidParameter };
    if (isSet) return { status: this.#set("guest", first, second ?? Buffer.alloc(0), third) };
    if (fn === 4) return { status: this.#delete("guest", first) };
    return fn === 1 ? this.#get(first, second?.length ?? 0) : this.#enumerate(first, second?.length ?? 0);
  }

  #get(nameBytes: Buffer, room: number): ServiceAnswer {
    const name = nameOf(nameBytes);
    if (name === undefined) return { status: Status.invalidParameter };
    const kept = this.#properties.get(name);
    if (kept === undefined)
      return {
        status: Status.notFound,
        numbers: new Map([
          [2, 0n],
          [3, 0n],
        ]),
      };
    const bytes = texts(kept.value, flagText(kept.flags));
    if (bytes.length > room)
      return { status: Status.bufferOverflow, numbers: new Map([[3, BigInt(bytes.length)]]) };
    return {
      status: Status.done,
      numbers: new Map([
        [2, kept.timestamp],
        [3, BigInt(bytes.length)],
      ]),
      bytes: new Map([[1, bytes]]),
    };
  }

  #enumerate(patternBytes: Buffer, room: number): ServiceAnswer {
    if (patternBytes.length > PATTERN_BYTES) return { status: Status.tooMuchData };
    const parts = patternBytes.toString("utf8").split("\0");
    const matches = patternMatcher(parts.filter((part) => part !== "").join("|"));
    const found = this.names().filter(matches);
    const all = found.map((name) => {
      const { value, flags, timestamp } = this.#properties.get(name) as Kept;
      return texts(name, value, String(timestamp), flagText(flags));
    });
    const bytes = Buffer.concat([...all, Buffer.alloc(4)]);
    const numbers = new Map([[2, BigInt(bytes.length)]]);
    if (bytes.length > room) return { status: Status.bufferOverflow, numbers };
    return { status: Status.done, numbers, bytes: new Map([[1, bytes]]) };
  }

  #set(
    side: PropertySide,
    nameBytes: Buffer,
    valueBytes: Buffer,
    flagBytes: Buffer = Buffer.from("\0"),
  ): number {
    const name = nameOf(nameBytes);
    const end = valueBytes.indexOf(0);
    if (name === undefined) return Status.invalidParameter;
    const limit = this.faults.oldValueLimit === true ? OLD_VALUE_BYTES : MAX_VALUE_BYTES;
    if (valueBytes.length > limit + 1) return Status.tooMuchData;
    const value = Buffer.from(valueBytes.subarray(0, Math.max(end, 0)));
    if (end < 0 || !isUtf8(value)) return Status.invalidParameter;
    let flags = flagsOf(flagBytes);
    if (flags === undefined) return Status.parseError;
    const old = this.#properties.get(name);
    if (((old?.flags ?? 0) & (side === "guest" ? RDONLYGUEST : RDONLYHOST)) !== 0)
      return Status.permissionDenied;
    if (RESERVED.some((prefix) => name.startsWith(prefix))) {
      if (side === "guest") return Status.permissionDenied;
      flags |= RDONLYGUEST;
    }
    if (side === "guest" && this.faults.readOnly === true) return Status.permissionDeniedForAll;
    if (old === undefined && this.#properties.size >= MAX_PROPERTIES) {
      this.#notify(name, this.#now());
      return Status.tooMuchData;
    }
    const timestamp = this.#now();
    this.#properties.set(name, { value, flags, timestamp });
    this.#notify(name, timestamp);
    return Status.done;
  }

  #delete(side: PropertySide, nameBytes: Buffer): number {
    const name = nameOf(nameBytes);
    if (name === undefined) return Status.invalidParameter;
    const old = this.#properties.get(name);
    if (old === undefined) return Status.done;
    if ((old.flags & (side === "guest" ? RDONLYGUEST : RDONLYHOST)) !== 0) return Status.permissionDenied;
    if (side === "guest" && this.faults.readOnly === true) return Status.permissionDeniedForAll;
    this.#properties.delete(name);
    this.#notify(name, this.#now());
    return Status.done;
  }

  #wait(
    client: number,
    parameters: readonly ServiceParameter[],
    done: (answer: ServiceAnswer) => void,
  ): PendingWait | undefined {
    const [patterns, time, buffer] = parameters;
    const isForm =
      parameters.length === 4 &&
      patterns?.kind === "pointer" &&
      time?.kind === "u64" &&
      buffer?.kind === "pointer" &&
      parameters[3]?.kind === "u32";
    if (!isForm) {
      done({ status: Status.invalidParameter });
      return undefined;
    }
    if (patterns.bytes.length > PATTERN_BYTES) {
      done({ status: Status.tooMuchData });
      return undefined;
    }
    const end = patterns.bytes.indexOf(0);
    const pattern = patterns.bytes.subarray(0, Math.max(end, 0)).toString();
    const wait: PendingWait = { client, pattern, room: buffer.bytes.length, status: Status.done, done };
    if (time.value !== 0n) {
      const at = this.#notes.findIndex(({ timestamp }) => timestamp === time.value);
      if (at < 0) wait.status = Status.historyLost;
      const matches = patternMatcher(pattern);
      const found = this.#notes.slice(at + 1).find(({ name }) => matches(name));
      if (found !== undefined) {
        done(this.#told(wait, found));
        return undefined;
      }
    }
    const same = this.#waits.find((each) => each.client === client && each.pattern === pattern);
    if (same !== undefined) {
      this.cancel(same);
      same.done({ status: Status.interrupted });
    }
    if (this.#waits.filter((each) => each.client === client).length >= WAITS_OF_A_CLIENT) {
      done({ status: Status.outOfResources });
      return undefined;
    }
    this.#waits.push(wait);
    return wait;
  }

  #notify(name: string, timestamp: bigint): void {
    const kept = this.#properties.get(name);
    const note = { name, timestamp, value: kept?.value ?? Buffer.alloc(0), flags: kept?.flags ?? 0 };
    this.#notes.push(note);
    if (this.#notes.length > HISTORY) this.#notes.shift();
    const woken = this.#waits.filter(({ pattern }) => patternMatcher(pattern)(name));
    this.#waits = this.#waits.filter((wait) => !woken.includes(wait));
    for (const wait of woken) wait.done(this.#told(wait, note));
  }

  #told({ room, status }: PendingWait, { name, value, flags, timestamp }: Note): ServiceAnswer {
    const bytes = texts(name, value, flagText(flags), this.#properties.has(name) ? "0" : "1");
    const numbers = new Map([
      [1, timestamp],
      [3, BigInt(bytes.length)],
    ]);
    if (bytes.length > room) return { status: Status.bufferOverflow, numbers };
    return { status, numbers, bytes: new Map([[2, bytes]]) };
  }

  #count(name: string): void {
    const old = this.#properties.get(name);
    const value = Buffer.from(String(Number(old?.value.toString() ?? "0") + 1));
    const timestamp = this.#now();
    this.#properties.set(name, { value, flags: TRANSIENT | RDONLYGUEST, timestamp });
    this.#notify(name, timestamp);
  }

  #drop(flag: number): void {
    for (const [name, { flags }] of [...this.#properties])
      if ((flags & flag) !== 0) {
        this.#properties.delete(name);
        this.#notify(name, this.#now());
      }
  }

  #now(): bigint {
    const now = (this.#clock() / 1_000n) * 1_000n;
    this.#last = now > this.#last || this.#last - now > SET_BACK_NS ? now : this.#last + 1n;
    return this.#last;
  }
}

function texts(...parts: readonly (string | Buffer)[]): Buffer {
  return Buffer.concat(parts.flatMap((part) => [Buffer.from(part as string), Buffer.alloc(1)]));
}

/** A name as the service takes it: what stands before the first NUL. */
function nameOf(bytes: Buffer): string | undefined {
  const end = bytes.indexOf(0);
  const name = bytes.subarray(0, Math.max(end, 0));
  if (end < 1 || end > MAX_NAME_BYTES || !isUtf8(name) || /[*?|]/.test(name.toString("latin1")))
    return undefined;
  return name.toString();
}

function flagsOf(bytes: Buffer): number | undefined {
  const end = bytes.indexOf(0);
  let bits = 0;
  for (const part of bytes
    .subarray(0, end < 0 ? bytes.length : end)
    .toString("latin1")
    .split(",")) {
    const word = part.trim().toUpperCase();
    if (word === "") continue;
    const flag = FLAGS.find(([, name]) => name === word);
    if (flag === undefined) return undefined;
    bits |= flag[0];
  }
  return (bits & TRANSRESET) === 0 ? bits : bits | TRANSIENT;
}

function flagText(flags: number): string {
  const names: string[] = [];
  let left = flags;
  for (const [bits, name] of FLAGS)
    if ((left & bits) === bits) {
      names.push(name);
      left &= ~bits;
    }
  return names.join(", ");
}

/** Returns what tells whether a name matches: `*`, `?`, `|` between alternatives; empty: all do. */
function patternMatcher(pattern: string): (name: string) => boolean {
  const alternatives = pattern.split("|").map((each) => [...each]);
  return (name) => pattern === "" || alternatives.some((each) => isMatch(each, [...name]));
}

/** One pattern, by characters. Where it fails, the last `*` takes one character more. */
function isMatch(pattern: readonly string[], name: readonly string[]): boolean {
  let [at, star, taken] = [0, -1, 0];
  for (let n = 0; n < name.length; ) {
    if (pattern[at] === "*") {
      star = at++;
      taken = n;
    } else if (at < pattern.length && (pattern[at] === "?" || pattern[at] === name[n])) {
      at++;
      n++;
    } else if (star >= 0) {
      at = star + 1;
      n = ++taken;
    } else return false;
  }
  return pattern.slice(at).every((each) => each === "*");
}
