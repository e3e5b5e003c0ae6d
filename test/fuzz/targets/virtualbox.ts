import {
  decodeClient,
  decodeNumber,
  decodeRequest,
  decodeStatus,
  encodeCall,
} from "../../../providers/virtualbox/protocol/ioctl.js";
import {
  decodeEvent,
  decodeFlags,
  decodeProperties,
  decodeValueAndFlags,
  encodeName,
  encodePattern,
  encodeValue,
} from "../../../providers/virtualbox/protocol/properties.js";
import { statusError } from "../../../providers/virtualbox/protocol/status.js";
import type { Input } from "../input.js";
import { holds, same, type Target } from "../target.js";

function answers(input: Input): void {
  const index = input.below(40);
  const bytes = input.rest();
  statusError(decodeStatus(bytes));
  holds(decodeClient(bytes) > 0, "a client that is none");
  decodeNumber(bytes, index);
}

function requests(input: Input): void {
  const number = input.word() * 0x1_0000 + input.pick([0x5600, 0x5604, 0x5605, 0x5606, 0x5607, 0x5699]);
  const bytes = input.rest();
  const found = decodeRequest(number, bytes);
  if (typeof found === "string" || found.request !== "call") return;
  same(decodeRequest(0x5607, encodeCall(found)), { ...found, bits: 64 }, "a call written and read");
}

function texts(input: Input): void {
  const kind = input.below(3);
  const bytes = input.rest();
  if (kind === 0) decodeFlags(decodeValueAndFlags(bytes).flags.join(", "));
  else if (kind === 1) {
    for (const { timestamp } of decodeProperties(bytes)) holds(timestamp >= 0n, "a time before 1970");
  } else holds(decodeEvent(bytes).name !== "", "an event without a name");
}

function arguments_(input: Input): void {
  const kind = input.below(3);
  if (kind === 0) holds(encodeName(input.rest16()).length <= 64, "a name beyond the limit");
  else if (kind === 1) holds(encodeValue(input.rest()).length <= 1024, "a value beyond the limit");
  else holds(encodePattern(input.rest16()).length <= 1024, "a pattern beyond the limit");
}

/** What VirtualBox's driver and host answer, and what they are asked. */
export const VIRTUALBOX: readonly Target[] = [
  { name: "virtualbox-answer", run: answers, seeds: () => [Buffer.alloc(200, 1)] },
  {
    name: "virtualbox-request",
    run: requests,
    seeds: () => [
      Buffer.concat([
        Buffer.from([0, 0, 4]),
        encodeCall({
          client: 7,
          function: 1,
          timeoutMs: 1,
          parameters: [
            { kind: "in", size: 3, address: 1n },
            { kind: "u64", value: 5n },
          ],
        }),
      ]),
    ],
  },
  {
    name: "virtualbox-text",
    run: texts,
    seeds: () => ["\0v\0TRANSIENT\0", "\x01/a\0v\x0012\0\0\0\0\0\0", "\x02/a\0v\0\x001\0"],
  },
  { name: "virtualbox-argument", run: arguments_, seeds: () => ["\0/a", "\x01v", "\x02/a*"] },
];
