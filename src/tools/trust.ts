import { pvbusError } from "../base/errors.js";
import type { DetectionReport } from "../contract/report.js";

/** Whether the host's word counts in a confidential machine. */
export interface TrustOptions {
  /** Take it all the same. Default false. */
  readonly trustHost?: boolean | undefined;
}

/**
 * Refuses the host's word in a confidential machine, whose memory is kept from the host: who cannot read it could still tell it
 * what to do.
 * @param detection what detection says of the machine, `bus.detection`
 * @throws PvbusError `ERR_PERMISSION` in a confidential machine, unless the host is to be trusted
 */
export function checkTrust(
  { confidential }: Pick<DetectionReport, "confidential">,
  { trustHost }: TrustOptions = {},
): void {
  if (confidential === null || trustHost === true) return;
  throw pvbusError(
    "ERR_PERMISSION",
    `the host is not trusted in a confidential machine (${confidential}); --trust-host reads all the same`,
  );
}
