import { isMainThread } from "node:worker_threads";
import { type Koffi, loadKoffi, oncePer } from "../ffi/koffi.js";
import { systemError, windowsFunctions } from "../ffi/libc.js";

/** Types of registry values (winnt.h). */
export const REG_SZ = 1;

export interface RegistryValue {
  /** Name, its case kept; the empty one is the key's default value. */
  readonly name: string;
  /** Type, `REG_SZ` = 1 and so on. */
  readonly type: number;
  /** Data as stored: text is UTF-16LE, its NUL may lack. Undefined where it is longer than {@link LONGEST_DATA}. */
  readonly data: Buffer | undefined;
}

/** How a key is opened. */
export interface RegistryOpening {
  /** For writing too. Default false. */
  readonly writable?: boolean | undefined;
  /** Make it where it is missing. Default false. */
  readonly create?: boolean | undefined;
}

/** What an open registry key can do; stands in for the registry in tests. */
export interface RegistryKey {
  /** Returns a value; undefined when there is none. @throws a system error */
  query(name: string): RegistryValue | undefined;
  /** Sets a value. @throws a system error */
  set(name: string, type: number, data: Uint8Array): void;
  /** Removes a value. @returns whether it was there @throws a system error */
  delete(name: string): boolean;
  /** Returns all values of one moment. @throws a system error */
  values(): RegistryValue[];
  /** Calls back after every change of a value until the end is called; which value it was, nobody tells. @throws a system error */
  notify(changed: () => void): () => void;
  close(): void;
}

/** Bytes of the longest data that is read: far beyond what any key-value exchange takes. */
export const LONGEST_DATA = 1024 ** 2;
/** Characters of the longest name (Windows, "Registry Element Size Limits"). */
const LONGEST_NAME = 16_383;
/** Looks at a key that others change all the time. */
const ATTEMPTS = 5;
const FIRST_DATA = 4096;

/** HKEY_LOCAL_MACHINE, sign-extended (winreg.h). */
const HKEY_LOCAL_MACHINE = 0xffff_ffff_8000_0002n;
/** KEY_READ and KEY_READ | KEY_WRITE, each with the 64-bit view, which a 32-bit process would not get else (winnt.h). */
const READ = 0x2_0119;
const READ_WRITE = 0x2_011f;

const ERROR_FILE_NOT_FOUND = 2;
const ERROR_MORE_DATA = 234;
const ERROR_NO_MORE_ITEMS = 259;
/** Numbers (winerror.h) by the names that the systems' errors share. */
const ERRNO: Readonly<Record<number, string>> = {
  [ERROR_FILE_NOT_FOUND]: "ENOENT",
  3: "ENOENT",
  5: "EACCES",
  6: "EBADF",
  8: "ENOMEM",
  14: "ENOMEM",
  87: "EINVAL",
  112: "ENOSPC",
  1018: "ENOENT",
  1450: "ENOSPC",
};

function failure(syscall: string, number: number): NodeJS.ErrnoException {
  return systemError(ERRNO[number] ?? `WIN32_${number}`, number, syscall, ` (${number})`);
}

function wide(text: string): Buffer {
  return Buffer.from(`${text}\0`, "utf16le");
}

type Windows = ReturnType<typeof windows>;

/** The functions that keys need. Handles are numbers: 64 bits hold them on every Windows that Node runs on. */
const windows = oncePer((koffi: Koffi) => {
  koffi.proto("void __stdcall PvbusWaitCallback(uint64_t, uint8_t)");
  return {
    koffi,
    ...windowsFunctions(koffi, "advapi32.dll", {
      open: "int32_t RegOpenKeyExW(uint64_t, void *, uint32_t, uint32_t, void *)",
      create:
        "int32_t RegCreateKeyExW(uint64_t, void *, uint32_t, void *, uint32_t, uint32_t, void *, void *, void *)",
      query: "int32_t RegQueryValueExW(uint64_t, void *, void *, void *, void *, void *)",
      set: "int32_t RegSetValueExW(uint64_t, void *, uint32_t, uint32_t, void *, uint32_t)",
      remove: "int32_t RegDeleteValueW(uint64_t, void *)",
      enumerate: "int32_t RegEnumValueW(uint64_t, uint32_t, void *, void *, void *, void *, void *, void *)",
      info: `int32_t RegQueryInfoKeyW(uint64_t${", void *".repeat(11)})`,
      notify: "int32_t RegNotifyChangeKeyValue(uint64_t, int, uint32_t, uint64_t, int)",
      close: "int32_t RegCloseKey(uint64_t)",
    }),
    ...windowsFunctions(koffi, "kernel32.dll", {
      createEvent: "uint64_t CreateEventW(void *, int, int, void *)",
      closeHandle: "int CloseHandle(uint64_t)",
      look: "uint32_t WaitForSingleObject(uint64_t, uint32_t)",
      lastError: "uint32_t GetLastError()",
      wait: "int RegisterWaitForSingleObject(void *, uint64_t, PvbusWaitCallback *, uint64_t, uint32_t, uint32_t)",
      unwait: "int UnregisterWaitEx(uint64_t, uint64_t)",
    }),
  };
});

/**
 * Opens a key below `HKEY_LOCAL_MACHINE`, always the one of 64-bit programs.
 * @throws PvbusError `ERR_UNAVAILABLE` without native calls; a system error: `ENOENT` for no such key, `EACCES` for
 *   users who may not
 */
export function openRegistryKey(
  path: string,
  { writable = false, create = false }: RegistryOpening = {},
): RegistryKey {
  const api = windows(loadKoffi());
  const access = writable || create ? READ_WRITE : READ;
  const handle = Buffer.alloc(8);
  const name = wide(path);
  const failed = create
    ? api.create(HKEY_LOCAL_MACHINE, name, 0, null, 0, access, null, handle, null)
    : api.open(HKEY_LOCAL_MACHINE, name, 0, access, handle);
  if (failed !== 0) throw failure("RegOpenKeyExW", failed);
  return new OpenKey(api, handle.readBigUInt64LE());
}

class OpenKey implements RegistryKey {
  readonly #api: Windows;
  readonly #handle: bigint;
  readonly #ends = new Set<() => void>();
  #closed = false;

  constructor(api: Windows, handle: bigint) {
    this.#api = api;
    this.#handle = handle;
  }

  query(name: string): RegistryValue | undefined {
    const type = Buffer.alloc(4);
    const size = Buffer.alloc(4);
    let data = Buffer.alloc(FIRST_DATA);
    for (;;) {
      size.writeUInt32LE(data.length);
      const failed = this.#api.query(this.#open(), wide(name), null, type, data, size);
      if (failed === ERROR_FILE_NOT_FOUND) return undefined;
      const length = size.readUInt32LE();
      if (failed === ERROR_MORE_DATA) {
        if (length > LONGEST_DATA) return { name, type: type.readUInt32LE(), data: undefined };
        // It may grow once more in the meantime.
        data = Buffer.alloc(Math.max(length, 2 * data.length));
        continue;
      }
      if (failed !== 0) throw failure("RegQueryValueExW", failed);
      return { name, type: type.readUInt32LE(), data: data.subarray(0, length) };
    }
  }

  set(name: string, type: number, data: Uint8Array): void {
    const bytes = Buffer.from(data);
    const failed = this.#api.set(this.#open(), wide(name), 0, type, bytes, bytes.length);
    if (failed !== 0) throw failure("RegSetValueExW", failed);
  }

  delete(name: string): boolean {
    const failed = this.#api.remove(this.#open(), wide(name));
    if (failed !== 0 && failed !== ERROR_FILE_NOT_FOUND) throw failure("RegDeleteValueW", failed);
    return failed === 0;
  }

  values(): RegistryValue[] {
    for (let attempt = 1; ; attempt++) {
      const before = this.#info();
      const values = this.#enumerate(before.dataBytes);
      // A change meanwhile moves the numbers by which values are asked for.
      if (values !== undefined && this.#info().changed === before.changed) return values;
      if (attempt === ATTEMPTS) throw failure("RegEnumValueW", ERROR_MORE_DATA);
    }
  }

  notify(changed: () => void): () => void {
    const watch = watchKey(this.#api, this.#open(), changed);
    const end = (): void => {
      if (this.#ends.delete(end)) watch();
    };
    this.#ends.add(end);
    return end;
  }

  close(): void {
    if (this.#closed) return;
    for (const end of [...this.#ends]) end();
    this.#closed = true;
    this.#api.close(this.#handle);
  }

  #open(): bigint {
    if (this.#closed) throw failure("RegistryKey", 6);
    return this.#handle;
  }

  #info(): { readonly dataBytes: number; readonly changed: bigint } {
    const data = Buffer.alloc(4);
    const time = Buffer.alloc(8);
    const failed = this.#api.info(this.#open(), ...new Array<null>(8).fill(null), data, null, time);
    if (failed !== 0) throw failure("RegQueryInfoKeyW", failed);
    return { dataBytes: data.readUInt32LE(), changed: time.readBigUInt64LE() };
  }

  /** Returns undefined when a value grew meanwhile. */
  #enumerate(dataBytes: number): RegistryValue[] | undefined {
    const values: RegistryValue[] = [];
    const name = Buffer.alloc(2 * (LONGEST_NAME + 1));
    const data = Buffer.alloc(Math.min(dataBytes, LONGEST_DATA) + 2);
    const [nameLength, type, size] = [Buffer.alloc(4), Buffer.alloc(4), Buffer.alloc(4)];
    for (let index = 0; ; index++) {
      nameLength.writeUInt32LE(LONGEST_NAME + 1);
      size.writeUInt32LE(data.length);
      const failed = this.#api.enumerate(this.#open(), index, name, nameLength, null, type, data, size);
      if (failed === ERROR_NO_MORE_ITEMS) return values;
      const tooLong = failed === ERROR_MORE_DATA && size.readUInt32LE() > LONGEST_DATA;
      if (failed === ERROR_MORE_DATA && !tooLong) return undefined;
      if (failed !== 0 && !tooLong) throw failure("RegEnumValueW", failed);
      values.push({
        name: name.toString("utf16le", 0, 2 * nameLength.readUInt32LE()),
        type: type.readUInt32LE(),
        data: tooLong ? undefined : Buffer.from(data.subarray(0, size.readUInt32LE())),
      });
    }
  }
}

const REG_NOTIFY_CHANGE_NAME_AND_LAST_SET = 0x5;
const INFINITE = 0xffff_ffff;
/** How often a worker thread looks for a change. */
const LOOK_MS = 50;

/** Listeners by the number that Windows hands back; the one callback lives as long as the process. */
const listeners = new Map<number, () => void>();
let nextListener = 1;
let callback: bigint | undefined;

/** Watches a key by an event, which is armed again before each look: so nothing is missed. */
function watchKey(api: Windows, handle: bigint, changed: () => void): () => void {
  const event = BigInt(api.createEvent(null, 0, 0, null));
  if (event === 0n) throw failure("CreateEventW", api.lastError());
  const arm = (): number => api.notify(handle, 0, REG_NOTIFY_CHANGE_NAME_AND_LAST_SET, event, 1);
  const happened = (): void => {
    // Where this fails the key was removed, which the listener finds out.
    arm();
    changed();
  };
  try {
    const failed = arm();
    if (failed !== 0) throw failure("RegNotifyChangeKeyValue", failed);
    const end = isMainThread ? awaitEvent(api, event, happened) : lookAtEvent(api, event, happened);
    return () => {
      end();
      api.closeHandle(event);
    };
  } catch (error) {
    api.closeHandle(event);
    throw error;
  }
}

/** For worker threads: one that is stopped must not be called by a thread of Windows afterwards, so it asks for the event itself. */
function lookAtEvent(api: Windows, event: bigint, happened: () => void): () => void {
  const looking = setInterval(() => {
    if (api.look(event, 0) === 0) happened();
  }, LOOK_MS);
  return () => clearInterval(looking);
}

/** A thread of Windows waits for the event and hands over to this one. */
function awaitEvent(api: Windows, event: bigint, happened: () => void): () => void {
  const id = nextListener++;
  const wait = Buffer.alloc(8);
  callback ??= api.koffi.register(
    (context: number | bigint) => listeners.get(Number(context))?.(),
    "PvbusWaitCallback *",
  ) as bigint;
  if (api.wait(wait, event, callback, id, INFINITE, 0) === 0)
    throw failure("RegisterWaitForSingleObject", api.lastError());
  // Whoever waits for a change wants to live: the thread of Windows alone keeps no process.
  const alive = setInterval(() => undefined, 2 ** 30);
  listeners.set(id, happened);
  return () => {
    listeners.delete(id);
    clearInterval(alive);
    // Without waiting for a callback under way: it waits for this thread.
    api.unwait(wait.readBigUInt64LE(), 0);
  };
}

/** Reads a text value below `HKLM\\` for detection; undefined when there is none. */
export function readRegistry(path: string, name: string): string | undefined {
  let key: RegistryKey;
  try {
    key = openRegistryKey(path.replace(/^HKLM\\/, ""));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  try {
    return key.query(name)?.data?.toString("utf16le").split("\0", 1)[0];
  } finally {
    key.close();
  }
}
