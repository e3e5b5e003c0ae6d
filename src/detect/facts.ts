import type { CpuidRegisters } from "../base/firmware/cpuid.js";
import type { FirmwareSources, ForeignSources } from "../base/firmware/dmi.js";
import type { Fact } from "../base/firmware/fact.js";

/**
 * What can be seen of one machine. Live and recorded machines answer through the same interface, so that one
 * decision serves both. No method throws.
 */
export interface Facts extends FirmwareSources, Pick<ForeignSources, "pvbusTypes"> {
  /** Operating system: `linux`, `freebsd`, `openbsd`, `netbsd`, `windows`, `darwin`. */
  readonly os: string;
  /** Processor architecture, as `process.arch` names it. */
  readonly arch: string;
  /** Registers of a CPUID leaf, sub-leaf 0. */
  cpuid(leaf: number): Fact<CpuidRegisters>;
  /** Content of a text file by its absolute path; an existing directory has the empty text. */
  file(path: string): Fact<string>;
  /** Names in a directory. */
  names(directory: string): readonly string[];
  /** Bytes 268..275 of the ACPI FADT. */
  fadtHypervisorId(): Fact<string>;
  /** Bit 4 of SMBIOS type 0's second extension byte: the firmware says that this is a virtual machine. */
  smbiosVmBit(): Fact<boolean>;
  /** A model-specific register of the processor. */
  msr(number: number): Fact<bigint>;
}
