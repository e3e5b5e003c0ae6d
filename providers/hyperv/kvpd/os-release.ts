/** What the Auto pool says of the operating system. */
export interface SystemName {
  /** OSName. */
  readonly name: string;
  /** OSMajorVersion. */
  readonly major: string;
  /** OSMinorVersion. */
  readonly minor: string;
}

const RELEASE_FILES = ["/etc/SuSE-release", "/etc/redhat-release"];

/**
 * Reads the system's name as the vendor's daemon does (Linux tools/hv/hv_kvp_daemon.c): `NAME` and `VERSION_ID` of
 * /etc/os-release, else up to three lines of an old release file.
 * @param read returns the text of a file
 * @returns undefined when there is neither
 */
export function parseOsRelease(read: (path: string) => string | undefined): SystemName | undefined {
  const text = read("/etc/os-release");
  if (text !== undefined) {
    const values = new Map<string, string>();
    for (const line of text.split("\n")) {
      const at = line.indexOf("=");
      if (line.startsWith("#") || at < 0) continue;
      values.set(line.slice(0, at), unquote(line.slice(at + 1)));
    }
    return { name: values.get("NAME") ?? "", major: values.get("VERSION_ID") ?? "", minor: "" };
  }
  for (const path of RELEASE_FILES) {
    const lines = read(path)?.split("\n");
    if (lines === undefined) continue;
    const [name = "", major = "", minor = ""] = lines;
    return { name, major, minor };
  }
  return undefined;
}

/** Quotes go anywhere, a backslash takes the next character as it is. */
function unquote(value: string): string {
  return value.replace(/\\(.)|["']/g, (_, escaped: string | undefined) => escaped ?? "");
}
