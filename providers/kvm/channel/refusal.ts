import { type PvbusError, type PvbusErrorCode, pvbusError } from "../../../src/base/errors.js";
import { peerWords } from "../../../src/base/outside-text.js";

/** Codes that our host side puts in front of its message, as far as they are about the request. */
const REFUSALS: readonly PvbusErrorCode[] = [
  "ERR_READ_ONLY",
  "ERR_PERMISSION",
  "ERR_KEY_INVALID",
  "ERR_KEY_TOO_LONG",
  "ERR_VALUE_INVALID",
  "ERR_VALUE_TOO_LONG",
  "ERR_NO_SPACE",
  "ERR_BUSY",
  "ERR_CONFLICT",
  "ERR_NOT_SUPPORTED",
];
const MAX_TEXT = 300;

/** Makes the error of a host's refusal, whose words may be anything. */
export function refusal(command: string, message: string): PvbusError {
  const text =
    peerWords(message)
      .replaceAll(/\p{Cc}/gu, " ")
      .slice(0, MAX_TEXT) || "without a reason";
  const code = REFUSALS.find((each) => text.startsWith(`${each}: `));
  if (code !== undefined) return pvbusError(code, `the host refuses it: ${text.slice(code.length + 2)}`);
  // The reference server's words for the keys that it keeps to itself.
  const protect = text.indexOf('Cannot update the "');
  if (protect >= 0 && text.includes('" Namespace', protect))
    return pvbusError("ERR_READ_ONLY", `the host keeps this key to itself (${text}); write another one`);
  if (text.startsWith("Unknown command")) {
    const why = `the host knows no ${command}; have its metadata service updated`;
    return pvbusError("ERR_NOT_SUPPORTED", why);
  }
  return pvbusError("ERR_UNAVAILABLE", `the host did not do it: ${text}; see its metadata service's log`);
}
