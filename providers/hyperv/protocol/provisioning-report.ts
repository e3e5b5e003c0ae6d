/*
 * What a guest of Azure reports of its provisioning in one pair of pool 1: fields `name=value` in a line of separated values, whose
 * separator is `|`. A field that holds a separator, a quote or a line end stands in quotes, quotes inside are doubled. cloud-init
 * (cloudinit/sources/azure/errors.py) quotes with ', azure-init (libazureinit-kvp/src/report.rs) with ".
 */

/** Key of the pair. */
export const PROVISIONING_REPORT = "PROVISIONING_REPORT";

/** Fields in their order. */
export type ReportFields = readonly (readonly [name: string, value: string])[];

/** What both writers cut their line to fits in this. */
export const MAX_REPORT_BYTES = 1022;
const QUOTE = "'";

/** Returns the line, cut where it is too long, never inside a character. */
export function encodeReport(fields: ReportFields): string {
  const line = fields.map(([name, value]) => quoted(`${name}=${value}`)).join("|");
  const bytes = Buffer.from(line);
  if (bytes.length <= MAX_REPORT_BYTES) return line;
  let end = MAX_REPORT_BYTES;
  while (((bytes[end] as number) & 0xc0) === 0x80) end--;
  return bytes.toString("utf8", 0, end);
}

/** Returns the fields of a line, whoever wrote it; what has no name is left out. */
export function decodeReport(line: string): ReportFields {
  const fields: (readonly [string, string])[] = [];
  for (const field of splitLine(line)) {
    const at = field.indexOf("=");
    if (at > 0) fields.push([field.slice(0, at), field.slice(at + 1)]);
  }
  return fields;
}

/** One that begins with the other writer's quote stands in quotes too: a reader takes both. */
function quoted(field: string): string {
  return /^"|[|'\r\n]/.test(field) ? `${QUOTE}${field.replaceAll(QUOTE, QUOTE + QUOTE)}${QUOTE}` : field;
}

/** A quote counts at the beginning of a field alone; in quotes its double stands for it. */
function splitLine(line: string): string[] {
  const fields: string[] = [];
  let at = 0;
  while (at <= line.length) {
    const quote = line[at];
    if (quote !== "'" && quote !== '"') {
      const end = line.indexOf("|", at) >>> 0;
      fields.push(line.slice(at, end));
      at = Math.min(end, line.length) + 1;
      continue;
    }
    let field = "";
    for (at++; at < line.length; at++) {
      if (line[at] === quote && line[at + 1] === quote) field += line[at++];
      else if (line[at] === quote) break;
      else field += line[at];
    }
    const end = Math.min(line.indexOf("|", at) >>> 0, line.length);
    fields.push(field + line.slice(at + 1, end));
    at = end + 1;
  }
  return fields;
}
