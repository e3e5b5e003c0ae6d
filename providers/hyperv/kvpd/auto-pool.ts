import os from "node:os";
import { Call } from "../../../src/base/flow/call.js";
import type { Host } from "../../../src/base/host/host.js";
import { type InterfaceAddress, interfaceAddresses } from "../../../src/native/posix/interface-addresses.js";
import { HOST_LIMITS } from "../protocol/limits.js";
import { joinList } from "./ip-settings.js";
import { textOf } from "./own-files.js";
import { type RunScript, runScript } from "./scripts.js";

/** The Auto pool: values that the daemon computes. */
export interface AutoValues {
  /** Begins what takes longer, such as asking the name service; resolves when that is done. */
  prepare?(signal: AbortSignal): Promise<void>;
  /** Takes the text that the driver sent at the registration. */
  setIntegrationServicesVersion(version: string): void;
  /** Returns the pair at a position of the host's enumeration; undefined past the end. Never waits. */
  entry(position: number): { readonly key: string; readonly value: string } | undefined;
}

/** What the Auto pool is computed from. */
export interface AutoSources {
  readonly addresses: () => readonly InterfaceAddress[];
  readonly uname: () => Readonly<Record<"hostname" | "release" | "sysname" | "machine", string>>;
  readonly run: RunScript;
}

const SYSTEM: AutoSources = {
  addresses: () => interfaceAddresses(),
  uname: () => ({
    hostname: os.hostname(),
    release: os.release(),
    sysname: os.type(),
    machine: os.machine(),
  }),
  run: runScript,
};

/** More than any file with the release of a system has. */
const LONGEST_RELEASE = 64 * 1024;
/** How long the name service may take; the host's questions are answered meanwhile. */
const NAME_SERVICE_MS = 30_000;
/** What getaddrinfo(3) says of a name that nobody knows. */
const NO_NAME = "getaddrinfo failed: 0xfffffffe Name or service not known";

/**
 * The values of pool 2 as the vendor's daemon computes them: same keys, same order, same formats. They are read when the host asks,
 * but for the domain name, which takes the name service and is looked up ahead.
 */
export class AutoPool implements AutoValues {
  readonly #host: Host;
  readonly #freebsd: boolean;
  readonly #sources: AutoSources;
  readonly #values: readonly (readonly [string, () => string])[];
  #domainName: string;
  #version = "";

  /** @param host whose /etc/os-release is read @param sources whatever else is asked */
  constructor(host: Host, sources: AutoSources = SYSTEM) {
    this.#host = host;
    this.#freebsd = host.platform === "freebsd";
    this.#sources = sources;
    const { uname } = sources;
    this.#domainName = uname().hostname;
    const release = (): string => uname().release;
    const version = (): string => release().split("-", 1)[0] as string;
    this.#values = [
      ["FullyQualifiedDomainName", () => this.#domainName],
      ["IntegrationServicesVersion", () => this.#version],
      ["NetworkAddressIPv4", () => this.#addresses(4)],
      ["NetworkAddressIPv6", () => this.#addresses(6)],
      ["OSBuildNumber", this.#freebsd ? version : release],
      ["OSName", () => this.#system().name],
      ["OSMajorVersion", () => this.#system().major],
      ["OSMinorVersion", () => this.#system().minor],
      ["OSVersion", version],
      ["ProcessorArchitecture", () => uname().machine],
    ];
  }

  setIntegrationServicesVersion(version: string): void {
    this.#version = version;
  }

  entry(position: number): { key: string; value: string } | undefined {
    const found = this.#values[position];
    return found && { key: found[0], value: found[1]() };
  }

  /** Resolves when the domain name is known, or cannot be. Never rejects. */
  async prepare(signal: AbortSignal): Promise<void> {
    const { hostname } = this.#sources.uname();
    const call = new Call({ signal, timeoutMs: NAME_SERVICE_MS });
    // getent asks what getaddrinfo(3) asks, in a process that can be ended: a dead name server holds nobody up here.
    const words = [this.#freebsd ? "hosts" : "ahostsv4", hostname];
    const { ok, stdout } = await this.#sources.run("getent", words, call);
    const [first = ""] = stdout.split("\n", 1);
    const name = first.trim().split(/\s+/)[this.#freebsd ? 1 : 2];
    if (ok && name !== undefined) this.#domainName = name;
    else if (!signal.aborted) this.#domainName = this.#freebsd ? "getaddrinfo failed\n" : NO_NAME;
  }

  #addresses(family: 4 | 6): string {
    const some = this.#sources
      .addresses()
      .filter((each) => each.family === family && (this.#freebsd || !each.loopback))
      .map(({ address }) => address);
    return joinList(some, HOST_LIMITS.maxValueUnits, this.#freebsd ? ";" : "");
  }

  #system(): SystemName {
    const { sysname, release } = this.#sources.uname();
    if (this.#freebsd) return { name: sysname, major: "", minor: "" };
    const read = (path: string): string | undefined => textOf(this.#host, path, LONGEST_RELEASE);
    return parseOsRelease(read) ?? { name: sysname, major: release, minor: "" };
  }
}

/** What the Auto pool says of the operating system. */
type SystemName = Readonly<Record<"name" | "major" | "minor", string>>;

/**
 * Reads the system's name as the vendor's daemon does (Linux tools/hv/hv_kvp_daemon.c): `NAME` and `VERSION_ID` of
 * /etc/os-release, else up to three lines of an old release file; undefined without either. @param read returns a file's text
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
  const old = read("/etc/SuSE-release") ?? read("/etc/redhat-release");
  if (old === undefined) return undefined;
  const [name = "", major = "", minor = ""] = old.split("\n");
  return { name, major, minor };
}

/** Quotes go anywhere, a backslash takes the next character as it is. */
function unquote(value: string): string {
  return value.replace(/\\(.)|["']/g, (_, escaped: string | undefined) => escaped ?? "");
}
