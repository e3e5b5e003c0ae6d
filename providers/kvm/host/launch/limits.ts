/*
 * Limits of what hypervisors take at a machine's start, found by running QEMU 7.2 and by reading libvirt's schema and Cloud
 * Hypervisor's parser of options.
 */

/** Longest name of a fw_cfg item in bytes; QEMU exits above. */
export const MAX_ITEM_NAME_BYTES = 55;
/** The item directory has 32 places, and QEMU itself takes up to 17 of them; with one more it aborts. */
export const FREE_ITEM_SLOTS = 15;
/** So many places QEMU takes for itself, with some to spare for later versions. */
export const OWN_ITEM_SLOTS = 24;
/** Largest item that a guest reads where nothing else is set; reading takes the square of the size. */
export const MAX_ITEM_BYTES = 1024 * 1024;
/** Longest single argument of a program on Linux (MAX_ARG_STRLEN), its NUL included. */
export const MAX_ARGUMENT_BYTES = 128 * 1024 - 1;
/** The whole SMBIOS table has 65535 bytes with the 32-bit entry point; the other structures take some of them. */
export const MAX_OEM_BYTES = 60_000;
/** Cloud Hypervisor counts OEM strings in one byte. */
export const MAX_OEM_STRINGS = 255;
