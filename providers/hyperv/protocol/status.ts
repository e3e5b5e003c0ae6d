/**
 * Error words of a reply to the kernel's driver (Linux include/uapi/linux/hyperv.h). Anything but success ends the
 * host's enumeration.
 */
export const KvpStatus = {
  /** HV_S_OK */
  ok: 0x0000_0000,
  /** HV_S_CONT, "no more items": the end of an enumeration, and every key that is not there. */
  noMoreItems: 0x8007_0103,
  /** HV_E_FAIL */
  fail: 0x8000_4005,
  /** HV_ERROR_NOT_SUPPORTED */
  notSupported: 0x8007_0032,
  /** HV_INVALIDARG: an address that is none. */
  invalidArgument: 0x8007_0057,
  /** HV_GUID_NOTFOUND: no interface with that id. */
  guidNotFound: 0x8004_1002,
  /** HV_ERROR_DISK_FULL */
  diskFull: 0x8007_0070,
  /** HV_ERROR_MACHINE_LOCKED: another program keeps the pool locked. */
  machineLocked: 0x8007_04f7,
} as const;

/** A request that is answered with an error word. */
export class KvpStatusError extends Error {
  /** One of {@link KvpStatus}. */
  readonly status: number;

  /** @param status the error word @param message what was wrong, for the log */
  constructor(status: number, message: string) {
    super(message);
    this.name = "KvpStatusError";
    this.status = status;
  }
}
