import { type PvbusError, type PvbusErrorCode, pvbusError } from "../../../src/base/errors.js";

/** Statuses of VirtualBox that mean something here (include/iprt/err.h, include/VBox/err.h). */
export const Status = {
  done: 0,
  /** Positive, and yet refused: the store is read-only for guests. */
  permissionDeniedForAll: 10,
  /** WAIT: events were lost; what came is valid. */
  historyLost: 78,
  invalidParameter: -2,
  invalidHandle: -4,
  noMemory: -8,
  permissionDenied: -10,
  versionMismatch: -11,
  notImplemented: -12,
  notSupported: -37,
  accessDenied: -38,
  interrupted: -39,
  timeout: -40,
  bufferOverflow: -41,
  tooMuchData: -42,
  parseError: -53,
  outOfRange: -54,
  notFound: -78,
  outOfResources: -80,
  serviceNotFound: -2900,
  hgcmInternal: -2904,
  invalidClient: -2905,
  tooManyClients: -2908,
  tooManyCalls: -2909,
} as const;

/** Statuses after which a client is to be connected again. */
const LOST: readonly number[] = [Status.invalidHandle, Status.hgcmInternal, Status.invalidClient];

/** Whether a client is no longer one. */
export function isLost(status: number): boolean {
  return LOST.includes(status);
}

type Words = readonly [PvbusErrorCode, string];

const BUSY: Words = ["ERR_BUSY", "the host takes no more calls at the moment; try again"];
const WITHOUT: Words = ["ERR_NOT_SUPPORTED", "this host's service of guest properties does not have it"];
const GONE: Words = [
  "ERR_DISCONNECTED",
  "the host has dropped the connection to its guest properties; try again",
];
const KEPT: Words = [
  "ERR_READ_ONLY",
  "the property is read-only for guests, or its name is VirtualBox's own; the host can change it: VBoxManage guestproperty set VM NAME VALUE",
];

const OF_STATUS: ReadonlyMap<number, Words> = new Map<number, Words>([
  [Status.permissionDeniedForAll, ["ERR_READ_ONLY", "this host's guest properties are read-only for guests"]],
  [Status.permissionDenied, KEPT],
  [Status.accessDenied, KEPT],
  [
    Status.invalidParameter,
    ["ERR_KEY_INVALID", "the host does not take the name or the value; choose others"],
  ],
  [Status.parseError, ["ERR_VALUE_INVALID", "the host does not take these flags"]],
  [Status.versionMismatch, WITHOUT],
  [Status.notImplemented, WITHOUT],
  [Status.notSupported, WITHOUT],
  [Status.interrupted, ["ERR_DISCONNECTED", "the call was interrupted; try again"]],
  [Status.timeout, ["ERR_TIMEOUT", "the host has not answered in time; try again"]],
  [Status.noMemory, BUSY],
  [Status.outOfResources, BUSY],
  [Status.tooManyClients, BUSY],
  [Status.tooManyCalls, BUSY],
  [
    Status.serviceNotFound,
    ["ERR_UNAVAILABLE", "this host has no service of guest properties; update VirtualBox on the host"],
  ],
  [Status.invalidHandle, GONE],
  [Status.hgcmInternal, GONE],
  [Status.invalidClient, GONE],
]);

/** Makes the error of a status that is no success. */
export function statusError(status: number): PvbusError {
  const [code, words] = OF_STATUS.get(status) ?? [
    "ERR_PROTOCOL",
    "the host answered what it should not; see `pvbus doctor`",
  ];
  return pvbusError(code, `${words} (VirtualBox status ${status})`);
}

const OF_ERRNO: ReadonlyMap<string, Words> = new Map<string, Words>([
  ["EINTR", ["ERR_DISCONNECTED", "the call was interrupted; try again"]],
  ["ETIMEDOUT", ["ERR_TIMEOUT", "the host has not answered in time; try again"]],
  ["ENOMEM", ["ERR_BUSY", "the driver has no memory for it; try again"]],
  ["EMFILE", ["ERR_BUSY", "the open driver has 64 clients; close some"]],
  ["EBADF", ["ERR_DISCONNECTED", "the store is closed; open the bus again"]],
  ["EINVAL", GONE],
  ["ENODEV", GONE],
  ["EIO", GONE],
  ["ENOTCONN", GONE],
  ["ECONNABORTED", GONE],
]);

/** Makes the error of a driver's refusal. @param errno by its name */
export function errnoError(errno: string): PvbusError {
  const [code, words] = OF_ERRNO.get(errno) ?? [
    "ERR_PROTOCOL",
    "the driver refused the call; see `pvbus doctor`",
  ];
  return pvbusError(code, `${words} (${errno})`);
}

/** Whether a refusal of the driver means that the client, or the driver behind the open file, is no longer there. */
export function isLostErrno(errno: string): boolean {
  return OF_ERRNO.get(errno) === GONE;
}
