import os from "node:os";
import { Call } from "../../../src/base/flow/call.js";
import type { Host } from "../../../src/base/host/host.js";
import { type InterfaceAddress, interfaceAddresses } from "../../../src/native/posix/interface-addresses.js";
import { joinList } from "./ip-lists.js";
import { parseOsRelease } from "./os-release.js";
import { type RunScript, runScript } from "./scripts.js";
import type { AutoValues } from "./services.js";

/** What the Auto pool is computed from. */
export interface AutoSources {
  /** Addresses of the interfaces. */
  readonly addresses: () => readonly InterfaceAddress[];
  /** Host name, kernel, processor. */
  readonly uname: () => {
    readonly hostname: string;
    readonly release: string;
    readonly sysname: string;
    readonly machine: string;
  };
  /** Runs a program. */
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

/** Longest value that reaches the host, in UTF-16 units. */
const LONGEST_VALUE = 1022;
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
  readonly #sources: AutoSources;
  readonly #values: readonly (readonly [string, () => string])[];
  #domainName: string;
  #version = "";

  /** @param host whose /etc/os-release is read @param sources whatever else is asked */
  constructor(host: Host, sources: AutoSources = SYSTEM) {
    this.#host = host;
    this.#sources = sources;
    this.#domainName = sources.uname().hostname;
    this.#values = host.platform === "freebsd" ? this.#freebsd() : this.#linux();
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
    const freebsd = this.#host.platform === "freebsd";
    // getent asks what getaddrinfo(3) asks, in a process that can be ended: a dead name server holds nobody up here.
    const { ok, stdout } = await this.#sources.run(
      "getent",
      [freebsd ? "hosts" : "ahostsv4", hostname],
      call,
    );
    const [first = ""] = stdout.split("\n", 1);
    const name = first.trim().split(/\s+/)[freebsd ? 1 : 2];
    if (ok && name !== undefined) this.#domainName = name;
    else if (!signal.aborted) this.#domainName = freebsd ? "getaddrinfo failed\n" : NO_NAME;
  }

  #linux(): readonly (readonly [string, () => string])[] {
    const release = (): string => this.#sources.uname().release;
    return [
      ["FullyQualifiedDomainName", () => this.#domainName],
      ["IntegrationServicesVersion", () => this.#version],
      ["NetworkAddressIPv4", () => this.#addresses(4)],
      ["NetworkAddressIPv6", () => this.#addresses(6)],
      ["OSBuildNumber", release],
      ["OSName", () => this.#system().name],
      ["OSMajorVersion", () => this.#system().major],
      ["OSMinorVersion", () => this.#system().minor],
      ["OSVersion", () => beforeDash(release())],
      ["ProcessorArchitecture", () => this.#sources.uname().machine],
    ];
  }

  #freebsd(): readonly (readonly [string, () => string])[] {
    const release = (): string => beforeDash(this.#sources.uname().release);
    const none = (): string => "";
    return [
      ["FullyQualifiedDomainName", () => this.#domainName],
      ["IntegrationServicesVersion", () => this.#version],
      ["NetworkAddressIPv4", () => this.#addresses(4)],
      ["NetworkAddressIPv6", () => this.#addresses(6)],
      ["OSBuildNumber", release],
      ["OSName", () => this.#sources.uname().sysname],
      ["OSMajorVersion", none],
      ["OSMinorVersion", none],
      ["OSVersion", release],
      ["ProcessorArchitecture", () => this.#sources.uname().machine],
    ];
  }

  #addresses(family: 4 | 6): string {
    const freebsd = this.#host.platform === "freebsd";
    const some = this.#sources
      .addresses()
      .filter((each) => each.family === family && (freebsd || !each.loopback))
      .map(({ address }) => address);
    return joinList(some, LONGEST_VALUE, freebsd ? ";" : "");
  }

  #system(): { name: string; major: string; minor: string } {
    const { sysname, release } = this.#sources.uname();
    return parseOsRelease((path) => this.#text(path)) ?? { name: sysname, major: release, minor: "" };
  }

  #text(path: string): string | undefined {
    try {
      return this.#host.files.read(path, LONGEST_RELEASE)?.toString("utf8");
    } catch {
      // Absent or unreadable: then it says nothing about the system.
      return undefined;
    }
  }
}

function beforeDash(release: string): string {
  return release.split("-", 1)[0] as string;
}
