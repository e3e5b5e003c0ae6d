/*
 * How a simulator talks to the process that serves its device: one write to the control file is one command, one read
 * returns the answer to the oldest command that has none yet.
 */

/** First byte of a command. */
export const Command = {
  /** The host asks: the rest is a message of the driver. Answer: {@link Answer}. */
  request: 0x52,
  /** Answered with the number of registrations so far, when there are more than the number in the rest (u32). */
  awaitRegistration: 0x57,
  /** Answered with the number of registrations so far. */
  registrations: 0x4e,
  /** Answered with the process id of the agent that has the device open, 0 for none. */
  agent: 0x41,
  /** A command that waits for a registration is answered now. */
  cancel: 0x43,
  /** The driver's patience ends. */
  expire: 0x58,
  /** The driver goes away. */
  remove: 0x44,
  /** The driver comes back. */
  restore: 0x42,
} as const;

/** First byte of an answer. */
export const Answer = {
  /** The rest is the agent's reply. */
  reply: 0,
  /** The rest is the status that the driver answered by itself (u32) and the reason as text. */
  status: 1,
  /** Done; the rest is a number (u32). */
  done: 2,
} as const;
