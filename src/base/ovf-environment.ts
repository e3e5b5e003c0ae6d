import type { Document, Element } from "@xmldom/xmldom";
import { pvbusError } from "./errors.js";

/** A network adapter of the OVF environment. */
export interface OvfAdapter {
  /** MAC address. */
  readonly mac: string;
  /** Name of its network. */
  readonly network: string;
  /** Unit number; undefined where there is none. */
  readonly unitNumber: string | undefined;
}

/** What the host deployed a virtual machine with: the content of `guestinfo.ovfEnv`. */
export interface OvfEnvironment {
  /** Id of the machine in its appliance. */
  readonly id: string | undefined;
  /** Id of the machine in vCenter. */
  readonly vCenterId: string | undefined;
  /** Kind, version, vendor and locale of the platform, by their names in lower case. */
  readonly platform: Readonly<Record<string, string>>;
  /** Properties: what an administrator filled in on deployment. They may hold secrets. */
  readonly properties: ReadonlyMap<string, string>;
  /** Network adapters. */
  readonly adapters: readonly OvfAdapter[];
  /** Properties of the appliance's other machines, by their ids. */
  readonly entities: ReadonlyMap<string, ReadonlyMap<string, string>>;
}

/** Hosts send some kilobytes; the parser runs on this thread. */
const MAX_CHARACTERS = 1024 * 1024;
/** The parser copies all names of namespaces at each element that declares one: nested, they take the square of their number. */
const MAX_NAMESPACES = 1000;
const OVF = "http://schemas.dmtf.org/ovf/environment/1";
const VMWARE = "http://www.vmware.com/schema/ovfenv";

/**
 * Parses an OVF environment (DMTF DSP0243). Elements and attributes are taken by namespace and name, whatever their prefix;
 * white space in attributes is normalised, as XML demands.
 * @throws PvbusError `ERR_CORRUPT` for a text that is no such document, or that declares a document type
 */
export async function parseOvfEnvironment(xml: string): Promise<OvfEnvironment> {
  const root = (await parse(xml)).documentElement;
  if (root?.namespaceURI !== OVF || root.localName !== "Environment")
    throw corrupt("its outermost element is no Environment of OVF");
  const properties = propertiesOf(root);
  const platform = childrenOf(root, OVF, "PlatformSection").flatMap((section) =>
    childrenOf(section, OVF).map(
      (each) => [(each.localName ?? "").toLowerCase(), each.textContent ?? ""] as const,
    ),
  );
  const adapters = childrenOf(root, VMWARE, "EthernetAdapterSection").flatMap((section) =>
    childrenOf(section, VMWARE, "Adapter").map((each) => ({
      mac: attribute(each, VMWARE, "mac") ?? "",
      network: attribute(each, VMWARE, "network") ?? "",
      unitNumber: attribute(each, VMWARE, "unitNumber"),
    })),
  );
  const entities = childrenOf(root, OVF, "Entity").map(
    (each) => [attribute(each, OVF, "id") ?? "", propertiesOf(each)] as const,
  );
  return {
    id: attribute(root, OVF, "id"),
    vCenterId: attribute(root, VMWARE, "vCenterId"),
    platform: Object.fromEntries(platform),
    properties,
    adapters,
    entities: new Map(entities),
  };
}

/** The parser expands no entities of the document's own; without a document type there are none to expand. */
async function parse(xml: string): Promise<Document> {
  if (xml.length > MAX_CHARACTERS) throw corrupt(`it has more than ${MAX_CHARACTERS} characters`);
  if (xml.split("xmlns", MAX_NAMESPACES + 2).length > MAX_NAMESPACES + 1)
    throw corrupt(`it declares more than ${MAX_NAMESPACES} namespaces`);
  const { DOMParser } = await import("@xmldom/xmldom");
  const fail = (_level: string, message: unknown): never => {
    throw new Error(String(message));
  };
  let document: Document;
  try {
    document = new DOMParser({ onError: fail }).parseFromString(xml, "text/xml");
  } catch (cause) {
    throw corrupt("it is no XML", cause);
  }
  if (document.doctype !== null) throw corrupt("it declares a document type");
  return document;
}

function propertiesOf(parent: Element): ReadonlyMap<string, string> {
  const pairs = childrenOf(parent, OVF, "PropertySection").flatMap((section) =>
    childrenOf(section, OVF, "Property").map(
      (each) => [attribute(each, OVF, "key") ?? "", attribute(each, OVF, "value") ?? ""] as const,
    ),
  );
  return new Map(pairs);
}

function childrenOf(parent: Element, namespace: string, name?: string): Element[] {
  const found: Element[] = [];
  for (let child = parent.firstChild; child !== null; child = child.nextSibling) {
    const isWanted = child.namespaceURI === namespace && (name === undefined || child.localName === name);
    if (isWanted && child.nodeType === child.ELEMENT_NODE) found.push(child as Element);
  }
  return found;
}

function attribute(element: Element, namespace: string, name: string): string | undefined {
  return element.getAttributeNS(namespace, name) ?? undefined;
}

function corrupt(why: string, cause?: unknown): Error {
  const message = `the OVF environment cannot be read: ${why}; see it with get guestinfo.ovfEnv`;
  return pvbusError("ERR_CORRUPT", message, { cause });
}
