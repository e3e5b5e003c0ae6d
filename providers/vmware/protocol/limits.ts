/** Longest message from the guest (GUESTMSG_MAX_IN_SIZE, open-vm-tools lib/include/guest_msg_def.h). */
export const MAX_REQUEST_BYTES = 65_536;
/** Longest reply that is taken; hosts send about a mebibyte at most. */
export const MAX_REPLY_BYTES = 8 * 1024 * 1024;

/** Longest guestinfo key; the host's own limit is not documented. */
export const MAX_KEY_BYTES = 255;
/**
 * Longest guestinfo value that every key takes: a whole command less `info-set `, the longest key, the space behind it, and
 * the NUL that some hosts count.
 */
export const MAX_VALUE_BYTES = MAX_REQUEST_BYTES - "info-set ".length - MAX_KEY_BYTES - 2;

/** Bytes of a whole command for OpenBSD's driver, its NUL included (OpenBSD sys/dev/pv/vmt.c). */
export const VMT_RPC_BUFLEN = 4096;
/** Longest value that every key takes there. */
export const OPENBSD_VALUE_BYTES = VMT_RPC_BUFLEN - "info-set ".length - MAX_KEY_BYTES - 2;

/** Longest key of a DataSet (Broadcom Guest SDK, "In-Guest Communication Limits"). */
export const DATASET_KEY_BYTES = 4096;
/** Longest value of a DataSet. */
export const DATASET_VALUE_BYTES = 1024 * 1024;

/** Longest value of the namespace database that VMware's own tool sends. */
export const NAMESPACE_VALUE_BYTES = 16 * 1024;
