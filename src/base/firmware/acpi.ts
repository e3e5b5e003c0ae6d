/** Where Linux has the FADT. */
export const FADT_FILE = "/sys/firmware/acpi/tables/FACP";

/** Hypervisor vendor identity (ACPI 6.0, FADT bytes 268 to 275). */
const HYPERVISOR_ID = { from: 268, to: 276 };

/** Returns the hypervisor vendor identity of a FADT, NULs included; undefined when the table is an older, shorter one. */
export function fadtHypervisorId(table: Buffer): string | undefined {
  const { from, to } = HYPERVISOR_ID;
  return table.length < to ? undefined : table.toString("latin1", from, to);
}
