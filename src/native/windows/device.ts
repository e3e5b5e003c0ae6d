import { pvbusError } from "../../base/errors.js";
import { Call } from "../../base/flow/call.js";
import { SerialQueue } from "../../base/flow/queues.js";
import { callAsync } from "../ffi/async-call.js";
import { type Koffi, loadKoffi, oncePer } from "../ffi/koffi.js";
import { systemError, windowsFunctions } from "../ffi/libc.js";
import { NativeBlock } from "../ffi/memory.js";

/** An open device of a Windows driver; stands in for the driver in tests. */
export interface WindowsDevice {
  /**
   * Sends a control code, one at a time, on a thread of the pool.
   * @param room bytes of the answer at most
   * @returns the answer
   * @throws a system error
   */
  control(code: number, input: Uint8Array, room: number): Promise<Buffer>;
  /** Closes it when what is under way has ended. */
  close(): Promise<void>;
}

/** DIGCF_PRESENT | DIGCF_DEVICEINTERFACE (setupapi.h). */
const PRESENT_INTERFACES = 0x12;
/** GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE, OPEN_EXISTING (winnt.h, fileapi.h). */
const READ_WRITE = 0xc000_0000;
const SHARED = 3;
const OPEN_EXISTING = 3;
const LONGEST_PATH = 1024;
const ERROR_ACCESS_DENIED = 5;

/** NTSTATUS (ntstatus.h) by the names that the systems' errors share. */
const ERRNO: Readonly<Record<number, string>> = {
  3221225485: "EINVAL", // 0xc000000d STATUS_INVALID_PARAMETER
  3221225506: "EACCES", // 0xc0000022 STATUS_ACCESS_DENIED
  3221225507: "ENOSPC", // 0xc0000023 STATUS_BUFFER_TOO_SMALL
  3221225524: "ENOENT", // 0xc0000034 STATUS_OBJECT_NAME_NOT_FOUND
  3221225530: "ENOENT", // 0xc000003a STATUS_OBJECT_PATH_NOT_FOUND
  3221225599: "ENOSPC", // 0xc000007f STATUS_DISK_FULL
  3221225626: "ENOMEM", // 0xc000009a STATUS_INSUFFICIENT_RESOURCES
  3221225635: "ENXIO", // 0xc00000a3 STATUS_DEVICE_NOT_READY
};

function failure(syscall: string, code: string, number: number): NodeJS.ErrnoException {
  return systemError(code, number, syscall, ` (0x${number.toString(16)})`);
}

type Windows = ReturnType<typeof windows>;

/** The functions that devices need. Handles are numbers: 64 bits hold them on every Windows that Node runs on. */
const windows = oncePer((koffi: Koffi) => ({
  koffi,
  pointerBytes: koffi.sizeof("void *"),
  ...windowsFunctions(koffi, "setupapi.dll", {
    devices: "int64_t SetupDiGetClassDevsW(void *, void *, void *, uint32_t)",
    enumerate: "int SetupDiEnumDeviceInterfaces(int64_t, void *, void *, uint32_t, void *)",
    detail: "int SetupDiGetDeviceInterfaceDetailW(int64_t, void *, void *, uint32_t, void *, void *)",
    forget: "int SetupDiDestroyDeviceInfoList(int64_t)",
  }),
  ...windowsFunctions(koffi, "kernel32.dll", {
    open: "int64_t CreateFileW(void *, uint32_t, uint32_t, void *, uint32_t, uint32_t, void *)",
    lastError: "uint32_t GetLastError()",
    close: "int CloseHandle(int64_t)",
  }),
  // Its status is what it returns: the last error of another thread could not be read.
  ...windowsFunctions(koffi, "ntdll.dll", {
    control:
      "uint32_t NtDeviceIoControlFile(int64_t, void *, void *, void *, void *, uint32_t, void *, uint32_t, void *, uint32_t)",
  }),
}));

const FOREVER = Call.endless();

/** Bytes of a GUID given as text: three numbers in little-endian order, then bytes. */
function guidBytes(text: string): Buffer {
  const digits = Buffer.from(text.replaceAll("-", ""), "hex");
  digits.subarray(0, 4).reverse();
  digits.subarray(4, 6).reverse();
  digits.subarray(6, 8).reverse();
  return digits;
}

/** Returns the path of the first device of an interface that is there; undefined when there is none. */
function pathOf(api: Windows, guid: Buffer): Buffer | undefined {
  const wide = api.pointerBytes === 8;
  const list = api.devices(guid, null, null, PRESENT_INTERFACES);
  if (Number(list) === -1) return undefined;
  try {
    // SP_DEVICE_INTERFACE_DATA: size, GUID, flags, a pointer.
    const found = Buffer.alloc(wide ? 32 : 28);
    found.writeUInt32LE(found.length);
    if (api.enumerate(list, null, guid, 0, found) === 0) return undefined;
    // SP_DEVICE_INTERFACE_DETAIL_DATA_W: the size of its fixed part, then the path.
    const detail = Buffer.alloc(4 + 2 * LONGEST_PATH);
    detail.writeUInt32LE(wide ? 8 : 6);
    if (api.detail(list, found, detail, detail.length, null, null) === 0) return undefined;
    return detail.subarray(4);
  } finally {
    api.forget(list);
  }
}

/**
 * Opens the first device of an interface.
 * @param interfaceId GUID, `B2CFB085-AA5E-…`
 * @returns undefined when no device has it
 * @throws PvbusError `ERR_UNAVAILABLE` without native calls; a system error when it cannot be opened
 */
export function openWindowsDevice(interfaceId: string): WindowsDevice | undefined {
  const api = windows(loadKoffi());
  const path = pathOf(api, guidBytes(interfaceId));
  if (path === undefined) return undefined;
  const handle = Number(api.open(path, READ_WRITE, SHARED, null, OPEN_EXISTING, 0, null));
  if (handle !== -1) return new OpenDevice(api, handle);
  const number = api.lastError();
  throw failure("CreateFile", number === ERROR_ACCESS_DENIED ? "EACCES" : "ENXIO", number);
}

/** An open device whose structures point into memory. */
export interface WindowsFile extends WindowsDevice {
  /** Bytes of a pointer. */
  readonly pointerBytes: number;
  /** Returns memory for a structure and what it points to; the caller frees it. */
  allocate(size: number): NativeBlock;
}

/**
 * Opens a device by its name, `\\\\.\\NAME`.
 * @throws PvbusError `ERR_UNAVAILABLE` without native calls or without such a device, `ERR_PERMISSION`
 */
export function openWindowsFile(path: string): WindowsFile {
  const api = windows(loadKoffi());
  const handle = Number(
    api.open(Buffer.from(`${path}\0`, "utf16le"), READ_WRITE, SHARED, null, OPEN_EXISTING, 0, null),
  );
  if (handle !== -1) return new OpenDevice(api, handle);
  const number = api.lastError();
  const isRefused = number === ERROR_ACCESS_DENIED;
  const cause = failure("CreateFile", isRefused ? "EACCES" : "ENXIO", number);
  throw isRefused
    ? pvbusError("ERR_PERMISSION", `cannot open ${path}: access is denied; run as an administrator`, {
        cause,
      })
    : pvbusError("ERR_UNAVAILABLE", `cannot open ${path}; install the hypervisor's guest additions`, {
        cause,
      });
}

class OpenDevice implements WindowsFile {
  readonly #api: Windows;
  readonly #handle: number;
  readonly #queue = new SerialQueue();
  #closed = false;

  constructor(api: Windows, handle: number) {
    this.#api = api;
    this.#handle = handle;
  }

  get pointerBytes(): number {
    return this.#api.pointerBytes;
  }

  allocate(size: number): NativeBlock {
    return new NativeBlock(this.#api.koffi, size);
  }

  control(code: number, input: Uint8Array, room: number): Promise<Buffer> {
    return this.#queue.run(FOREVER, "the device", () => this.#send(code, input, room));
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    void this.#queue.run(FOREVER, "the device", () => this.#api.close(this.#handle));
  }

  async #send(code: number, input: Uint8Array, room: number): Promise<Buffer> {
    if (this.#closed) throw failure("NtDeviceIoControlFile", "EBADF", 0);
    const { control, pointerBytes } = this.#api;
    // IO_STATUS_BLOCK: the status, then how many bytes were given.
    const status = Buffer.alloc(2 * pointerBytes);
    const answer = Buffer.alloc(room);
    const buffers = [status, code, input, input.length, answer, room] as const;
    const { rc } = await callAsync(this.#api, control, this.#handle, null, null, null, ...buffers);
    if (rc !== 0) throw failure("NtDeviceIoControlFile", ERRNO[rc] ?? "EIO", rc);
    return answer.subarray(0, Math.min(room, status.readUInt32LE(pointerBytes)));
  }
}
