import { closeSync, constants, openSync } from "node:fs";
import { isMainThread } from "node:worker_threads";
import { isSystemError } from "../../base/system-error.js";
import type { Libc } from "./libc.js";

/*
 * Who owns descriptors. Node notes the numbers that a worker thread opens, and closes them when the thread ends, which may be at
 * any moment. A number that Node has noted and that is closed behind its back is closed once more at that end, though it is
 * another thread's by then; one that Node has not noted stays open for ever. So each descriptor is closed by the layer that
 * opened it, and what a native call makes in a worker is moved onto a number that Node has noted. Nothing else in this
 * project closes or duplicates descriptors by native calls: test/sources/native.test.ts upholds it.
 */

const LINUX = { duplicate: 1030, closeOnExec: 0x8_0000 };
/** fcntl.h of each system: F_DUPFD_CLOEXEC, and O_CLOEXEC of those that have dup3 and pipe2. The BSD ones not verified by a run. */
const NUMBERS: Partial<Record<NodeJS.Platform, { duplicate: number; closeOnExec?: number }>> = {
  linux: LINUX,
  android: LINUX,
  darwin: { duplicate: 67 },
  freebsd: { duplicate: 17, closeOnExec: 0x10_0000 },
  netbsd: { duplicate: 12, closeOnExec: 0x40_0000 },
  openbsd: { duplicate: 10, closeOnExec: 0x1_0000 },
};
/** Flag of dup3 and pipe2; undefined where there are none. */
export const O_CLOEXEC: number | undefined = NUMBERS[process.platform]?.closeOnExec;
/* fcntl.h of every system served. */
const FCNTL = "int fcntl(int, int, ...)";
const F_GETFL = 3;
const F_SETFL = 4;

/** Numbers that native calls made and that Node does not know, by what closes them. */
const foreign = new Map<number, Libc>();

/**
 * Takes over a descriptor that a native call has just made; the number given is the only valid one afterwards. Closed with
 * {@link closeDescriptor}, or with the worker thread that it belongs to.
 * @throws a system error, `EMFILE`; the descriptor is closed then
 */
export function ownDescriptor(libc: Libc, made: number): number {
  return ownDescriptors(libc, [made])[0] as number;
}

/** The same for several that one call made: all of them, or none. */
export function ownDescriptors(libc: Libc, made: readonly number[]): readonly number[] {
  for (const fd of made) foreign.set(fd, libc);
  if (isMainThread) return made;
  const own = [...made];
  try {
    for (const [at, fd] of made.entries()) own[at] = moved(libc, fd);
  } catch (error) {
    own.forEach(closeDescriptor);
    throw error;
  }
  return own;
}

/** Closes what a native call made a moment ago, for a short use that ends within the same turn. */
export function closeMade(libc: Libc, made: number): void {
  libc.function("int close(int)")(made);
}

/**
 * Returns a second descriptor of the same open file, which child processes do not inherit.
 * @throws a system error, `EBADF` for what is no descriptor
 */
export function duplicate(libc: Libc, fd: number): number {
  const number = isMainThread ? undefined : notedNumber();
  if (number !== undefined) return onto(libc, fd, number);
  const command = NUMBERS[process.platform]?.duplicate as number;
  const { rc, errno } = libc.call(FCNTL, fd, command, "int", 0);
  if (rc < 0) throw libc.systemError("dup", errno);
  foreign.set(rc, libc);
  return rc;
}

/** Makes reads and writes of an open file return instead of waiting. @throws a system error */
export function setNonBlocking(libc: Libc, fd: number): void {
  const flags = libc.must(FCNTL, fd, F_GETFL, "int", 0);
  if ((flags & constants.O_NONBLOCK) === 0)
    libc.must(FCNTL, fd, F_SETFL, "int", flags | constants.O_NONBLOCK);
}

/** Closes a descriptor of ours, by the layer that it was opened by. */
export function closeDescriptor(fd: number): void {
  const libc = foreign.get(fd);
  if (libc !== undefined) {
    foreign.delete(fd);
    closeMade(libc, fd);
    return;
  }
  try {
    closeSync(fd);
  } catch {
    // It is closed all the same, or never was open.
  }
}

/** Moves a descriptor onto a number that Node has noted, where there is one to be had. */
function moved(libc: Libc, made: number): number {
  const number = notedNumber();
  if (number === undefined) return made;
  const fd = onto(libc, made, number);
  closeDescriptor(made);
  return fd;
}

/**
 * Opens a number that Node has noted as this thread's; undefined where there is no dup3 or nothing may be opened (Node's
 * permission model, a root without devices): then a thread that is stopped in its tracks leaves a descriptor behind.
 */
function notedNumber(): number | undefined {
  if (O_CLOEXEC === undefined) return undefined;
  try {
    return openSync("/dev/null", "r");
  } catch (error) {
    if (isSystemError(error) && (error.code === "EMFILE" || error.code === "ENFILE")) throw error;
    return undefined;
  }
}

/** Makes the number another descriptor of an open file; closes it when that fails. */
function onto(libc: Libc, fd: number, number: number): number {
  let failure = "EBADF";
  // A descriptor that is none may have just that number.
  if (fd !== number)
    do {
      const { rc, errno } = libc.call("int dup3(int, int, int)", fd, number, O_CLOEXEC ?? 0);
      if (rc >= 0) return number;
      failure = libc.errnoName(errno);
    } while (failure === "EINTR");
  closeSync(number);
  throw libc.systemError("dup", libc.errnoNumber(failure));
}
