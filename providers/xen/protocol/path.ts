import { pvbusError } from "../../../src/base/errors.js";
import { XENSTORE_ABS_PATH_MAX, XENSTORE_REL_PATH_MAX } from "./wire.js";

/** What all daemons take: names of these characters, one slash between them, none at the end. */
const PATH = /^(?:\/|\/?[A-Za-z0-9_@-]+(?:\/[A-Za-z0-9_@-]+)*)$/;
const HOME = /^\/local\/domain\/\d+\//;

/**
 * Checks a path as the daemons do, before it is sent.
 * @throws PvbusError `ERR_KEY_INVALID`, `ERR_KEY_TOO_LONG`
 */
export function checkPath(path: string): void {
  checkLength(path);
  if (!PATH.test(path)) throw badPath(path);
}

/**
 * Checks the path of a node that holds a value: names that begin a path with `@` belong to the special watches.
 * @throws PvbusError as {@link checkPath}
 */
export function checkNodePath(path: string): void {
  checkPath(path);
  if (path.startsWith("@") || path.startsWith("/@")) {
    throw pvbusError("ERR_KEY_INVALID", "a path that begins with @ names a special watch, no node");
  }
}

/**
 * Checks the path of a node that is to be removed.
 * @throws PvbusError `ERR_NOT_SUPPORTED` for `/`: oxenstored would empty the whole store; and as {@link checkPath}
 */
export function checkRemovable(path: string): void {
  checkNodePath(path);
  if (path === "/")
    throw pvbusError("ERR_NOT_SUPPORTED", "the root of XenStore is never removed; name a node");
}

/** Returns the path of a child. */
export function childPath(parent: string, name: string): string {
  return parent === "/" ? `/${name}` : parent === "" ? name : `${parent}/${name}`;
}

/** Reports whether a path is another one or lies below it. */
export function isAtOrBelow(path: string, top: string): boolean {
  return path === top || top === "/" || (path.startsWith(top) && path[top.length] === "/");
}

/** Checks a path's length alone. @throws PvbusError `ERR_KEY_TOO_LONG` */
export function checkLength(path: string): void {
  if (path.length <= XENSTORE_REL_PATH_MAX) return;
  const counted = path.startsWith("/") ? path.replace(HOME, "") : path;
  const most = path.startsWith("/") && counted === path ? XENSTORE_ABS_PATH_MAX : XENSTORE_REL_PATH_MAX;
  if (path.length <= XENSTORE_ABS_PATH_MAX && counted.length <= most) return;
  throw pvbusError(
    "ERR_KEY_TOO_LONG",
    `the path has ${path.length} characters; XenStore takes ${XENSTORE_REL_PATH_MAX} behind the domain's own ` +
      `directory and ${XENSTORE_ABS_PATH_MAX} in all, shorten it`,
  );
}

function badPath(path: string): Error {
  const why =
    path === ""
      ? "is empty"
      : path.endsWith("/")
        ? "ends with a slash"
        : path.includes("//")
          ? "holds two slashes in a row"
          : "holds characters other than A-Z a-z 0-9 - _ @ and /";
  return pvbusError(
    "ERR_KEY_INVALID",
    `the path ${why}, which XenStore cannot hold; encode such names with encodeName() or the option encodeNames`,
  );
}
