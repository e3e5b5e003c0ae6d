import { Call } from "../../base/flow/call.js";
import { SerialQueue } from "../../base/flow/queues.js";
import { type Koffi, type KoffiLoader, loadKoffi } from "../ffi/koffi.js";

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

type Declared = ((...args: unknown[]) => number) & {
  async(...args: unknown[]): void;
};

/** DIGCF_PRESENT | DIGCF_DEVICEINTERFACE (setupapi.h). */
const PRESENT_INTERFACES = 0x12;
/** GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE, OPEN_EXISTING (winnt.h, fileapi.h). */
const READ_WRITE = 0xc000_0000;
const SHARED = 3;
const OPEN_EXISTING = 3;
/** Characters of the longest path of a device. */
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

function systemError(syscall: string, code: string, number: number): Error {
  return Object.assign(new Error(`${code}: ${syscall} (0x${number.toString(16)})`), {
    code,
    errno: -number,
    syscall,
  });
}

/** Declares the functions. Handles are numbers: 64 bits hold them on every Windows that Node runs on. */
function declare(koffi: Koffi) {
  const setup = koffi.load("setupapi.dll");
  const kernel = koffi.load("kernel32.dll");
  const nt = koffi.load("ntdll.dll");
  const from = (library: typeof setup, declaration: string): Declared =>
    library.func(declaration) as unknown as Declared;
  return {
    pointerBytes: koffi.sizeof("void *"),
    devices: from(setup, "int64_t __stdcall SetupDiGetClassDevsW(void *, void *, void *, uint32_t)"),
    enumerate: from(
      setup,
      "int __stdcall SetupDiEnumDeviceInterfaces(int64_t, void *, void *, uint32_t, void *)",
    ),
    detail: from(
      setup,
      "int __stdcall SetupDiGetDeviceInterfaceDetailW(int64_t, void *, void *, uint32_t, void *, void *)",
    ),
    forget: from(setup, "int __stdcall SetupDiDestroyDeviceInfoList(int64_t)"),
    open: from(
      kernel,
      "int64_t __stdcall CreateFileW(void *, uint32_t, uint32_t, void *, uint32_t, uint32_t, void *)",
    ),
    lastError: from(kernel, "uint32_t __stdcall GetLastError()"),
    close: from(kernel, "int __stdcall CloseHandle(int64_t)"),
    // Its status is what it returns: the last error of another thread could not be read.
    control: from(
      nt,
      "uint32_t __stdcall NtDeviceIoControlFile(int64_t, void *, void *, void *, void *, uint32_t, void *, uint32_t, void *, uint32_t)",
    ),
  };
}

type Windows = ReturnType<typeof declare>;

let windows: Windows | undefined;

/** Nobody ends a call to a driver. */
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
export function openWindowsDevice(
  interfaceId: string,
  koffi: KoffiLoader = loadKoffi,
): WindowsDevice | undefined {
  windows ??= declare(koffi());
  const api = windows;
  const path = pathOf(api, guidBytes(interfaceId));
  if (path === undefined) return undefined;
  const handle = Number(api.open(path, READ_WRITE, SHARED, null, OPEN_EXISTING, 0, null));
  if (handle !== -1) return new OpenDevice(api, handle);
  const number = api.lastError();
  throw systemError("CreateFile", number === ERROR_ACCESS_DENIED ? "EACCES" : "ENXIO", number);
}

class OpenDevice implements WindowsDevice {
  readonly #api: Windows;
  readonly #handle: number;
  readonly #queue = new SerialQueue();
  #closed = false;

  constructor(api: Windows, handle: number) {
    this.#api = api;
    this.#handle = handle;
  }

  control(code: number, input: Uint8Array, room: number): Promise<Buffer> {
    return this.#queue.run(FOREVER, "the device", () => this.#send(code, input, room));
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    void this.#queue.run(FOREVER, "the device", () => this.#api.close(this.#handle));
  }

  #send(code: number, input: Uint8Array, room: number): Promise<Buffer> {
    if (this.#closed) return Promise.reject(systemError("NtDeviceIoControlFile", "EBADF", 0));
    const { pointerBytes } = this.#api;
    // IO_STATUS_BLOCK: the status, then how many bytes were given.
    const status = Buffer.alloc(2 * pointerBytes);
    const answer = Buffer.alloc(room);
    const buffers = [status, input, answer];
    return new Promise((resolve, reject) => {
      const ended = (error: unknown, result: number): void => {
        // Mentioned here, the buffers stay alive until the thread is done with them.
        buffers.length = 0;
        if (error) reject(error);
        else if (result === 0) resolve(answer.subarray(0, Math.min(room, status.readUInt32LE(pointerBytes))));
        else reject(systemError("NtDeviceIoControlFile", ERRNO[result] ?? "EIO", result));
      };
      this.#api.control.async(
        this.#handle,
        null,
        null,
        null,
        status,
        code,
        input,
        input.length,
        answer,
        room,
        ended,
      );
    });
  }
}
