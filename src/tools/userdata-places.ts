import { type OvfEnvironment, parseOvfEnvironment } from "../base/ovf-environment.js";
import { ownEntry, putEntry } from "../base/own.js";
import type { BootDataForm, BootDataPlace } from "../contract/boot-data.js";
import { readNumbered } from "./numbered.js";
import {
  type Decoded,
  decodeAnnounced,
  decodeBase64OrText,
  decodeNamed,
  decodePlain,
  MAX_BOOT_DATA_BYTES,
} from "./userdata/encodings.js";
import { fieldOf, metadataOf, serialMetadata } from "./userdata/metadata.js";
import { smartosNetwork } from "./userdata/smartos-network.js";

/** Reads a native key of the place's store. */
export type ReadKey = (key: string) => Promise<Uint8Array | undefined>;

const TRUE = ["1", "true", "on", "yes"];

/**
 * Reads a place as its consumer does; undefined when there is nothing.
 * @throws PvbusError `ERR_VALUE_INVALID` and `ERR_VALUE_TOO_LONG` for what is not as it must be, `ERR_CORRUPT` for a broken document,
 *   and those of reading
 */
export async function readPlace({ key, form }: BootDataPlace, read: ReadKey): Promise<Decoded | undefined> {
  switch (form.is) {
    case "parts":
      return readParts(key, read);
    case "fields":
      return readFields(form, read);
    default: {
      const value = await read(key);
      return value === undefined ? undefined : decodeValue(value, form, read);
    }
  }
}

/** Returns what is stored at a place, without decoding it. */
export async function readStored(
  { key, form }: BootDataPlace,
  read: ReadKey,
): Promise<Uint8Array | undefined> {
  if (form.is !== "parts") return read(key);
  const found = await readParts(key, read);
  return found !== undefined && "value" in found ? found.value : undefined;
}

async function decodeValue(
  value: Uint8Array,
  form: Exclude<BootDataForm, { is: "parts" | "fields" }>,
  read: ReadKey,
): Promise<Decoded | undefined> {
  switch (form.is) {
    case "plain":
      return decodePlain(value);
    case "named":
      return decodeNamed(form.reader, value, textOf(await read(form.encodingKey)));
    case "network-of-metadata":
      return networkOf(await decodeNamed("cloud-init", value, textOf(await read(form.encodingKey))));
    case "smartos":
      return (await isAnnounced(form, read)) ? decodeAnnounced(value) : decodePlain(value);
    case "smartos-network": {
      const [resolvers, routes, domain] = await Promise.all(
        [form.resolversKey, form.routesKey, form.domainKey].map(async (key) =>
          textOf(await read(key)).trim(),
        ),
      );
      const network = smartosNetwork({ nics: textOf(value), resolvers, routes, domain });
      return { encoding: "sdc:nics", value: network };
    }
    case "nocloud-serial": {
      const fields = serialMetadata(textOf(value));
      return fields && { encoding: "ds=nocloud", value: metadataOf(fields) };
    }
    case "ovf-property":
    case "ovf-metadata": {
      const document = textOf(value).trim();
      return document === "" ? undefined : ofOvf(await parseOvfEnvironment(document), form);
    }
  }
}

async function ofOvf(
  { properties }: OvfEnvironment,
  form: Extract<BootDataForm, { is: "ovf-property" | "ovf-metadata" }>,
): Promise<Decoded | undefined> {
  if (form.is === "ovf-property") {
    const text = properties.get(form.property);
    if (text === undefined) return undefined;
    if (form.encodingProperty === undefined) return decodeBase64OrText(text);
    return decodeNamed("ignition", Buffer.from(text), properties.get(form.encodingProperty) ?? "");
  }
  const fields: Record<string, string> = {};
  for (const name of form.properties) {
    const text = properties.get(name);
    if (text !== undefined && text !== "") putEntry(fields, name, text);
  }
  return Object.keys(fields).length === 0 ? undefined : { encoding: "ovf", value: metadataOf(fields) };
}

/** Takes the network's configuration out of metadata: as it stands there, or encoded once more. */
async function networkOf(metadata: Decoded): Promise<Decoded | undefined> {
  if ("absent" in metadata) return undefined;
  const text = textOf(metadata.value);
  const field = fieldOf(text, "network");
  if (field === undefined) return undefined;
  if ("document" in field) return { encoding: metadata.encoding, value: Buffer.from(field.document) };
  const encoding = fieldOf(text, "network.encoding");
  const name = encoding !== undefined && "text" in encoding ? encoding.text : "";
  return decodeNamed("cloud-init", Buffer.from(field.text), name);
}

async function isAnnounced(
  { name, listKey, allKey, ownKey }: Extract<BootDataForm, { is: "smartos" }>,
  read: ReadKey,
): Promise<boolean> {
  const isTrue = async (key: string): Promise<boolean> =>
    TRUE.includes(
      textOf(await read(key))
        .trim()
        .toLowerCase(),
    );
  if ((await isTrue(ownKey)) || (await isTrue(allKey))) return true;
  const listed = textOf(await read(listKey)).split(",");
  return listed.some((each) => each.trim() === name);
}

async function readFields(
  { fields }: Extract<BootDataForm, { is: "fields" }>,
  read: ReadKey,
): Promise<Decoded | undefined> {
  const found: Record<string, string> = {};
  for (const name of Object.keys(fields)) {
    for (const key of ownEntry(fields, name) ?? []) {
      const text = textOf(await read(key)).trim();
      if (text === "") continue;
      putEntry(found, name, text);
      break;
    }
  }
  return Object.keys(found).length === 0 ? undefined : { encoding: "fields", value: metadataOf(found) };
}

/** A value under its own key, else its parts. */
async function readParts(key: string, read: ReadKey): Promise<Decoded | undefined> {
  const whole = await read(key);
  if (whole !== undefined) return decodePlain(whole);
  const found = await readNumbered({ readBytes: read }, `${key}.`, { maxBytes: MAX_BOOT_DATA_BYTES });
  if (found === undefined) return undefined;
  const decoded = decodePlain(found.value);
  if (!found.isGapped || "absent" in decoded) return decoded;
  const warning = `there are parts behind ${key}.${found.parts - 1}, but not the next one: the value may be cut; set it again`;
  return { ...decoded, warning };
}

function textOf(value: Uint8Array | undefined): string {
  return value === undefined ? "" : Buffer.from(value).toString("utf8");
}
