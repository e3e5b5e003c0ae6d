/** Kinds of boot configuration, by the names that cloud-init and Ignition have made known. */
export type BootDataKind = "user-data" | "meta-data" | "vendor-data" | "network-config" | "ignition";

/** Whose reading of an encoding's name counts. */
export type BootDataReader = "cloud-init" | "ignition";

/** The value's bytes as they are. */
export interface PlainForm {
  /** Which form it is. */
  readonly is: "plain";
}

/** Encoded as another key names it. */
export interface NamedForm {
  /** Which form it is. */
  readonly is: "named";
  /** The key that names the encoding. */
  readonly encodingKey: string;
  /** Whose names they are. */
  readonly reader: BootDataReader;
}

/** The field `network` of encoded metadata. */
export interface MetadataNetworkForm {
  /** Which form it is. */
  readonly is: "network-of-metadata";
  /** The key that names the metadata's encoding. */
  readonly encodingKey: string;
}

/** The key itself, else its parts `<key>.0`, `<key>.1`, … joined, up to the first that is missing. */
export interface PartsForm {
  /** Which form it is. */
  readonly is: "parts";
}

/** A property of an OVF environment: encoded as another property names it to Ignition, else base64 or text. */
export interface OvfPropertyForm {
  /** Which form it is. */
  readonly is: "ovf-property";
  /** Name of the property. */
  readonly property: string;
  /** The property that names the encoding. */
  readonly encodingProperty?: string;
}

/** Metadata out of properties of an OVF environment. */
export interface OvfMetadataForm {
  /** Which form it is. */
  readonly is: "ovf-metadata";
  /** Names of the properties, which are those of the metadata's fields. */
  readonly properties: readonly string[];
}

/** Metadata out of a serial number of the form `ds=nocloud;h=…;i=…`. */
export interface NoCloudSerialForm {
  /** Which form it is. */
  readonly is: "nocloud-serial";
}

/** Base64 where one of three keys says so. */
export interface SmartosForm {
  /** Which form it is. */
  readonly is: "smartos";
  /** The value's own name. */
  readonly name: string;
  /** Key of a list of names, separated by commas. */
  readonly listKey: string;
  /** Key that says so of all. */
  readonly allKey: string;
  /** Key that says so of this one. */
  readonly ownKey: string;
}

/** Metadata out of several keys. */
export interface FieldsForm {
  /** Which form it is. */
  readonly is: "fields";
  /** Keys by the names of the metadata's fields; of each the first one counts that has a value. */
  readonly fields: Readonly<Record<string, readonly string[]>>;
}

/** The network's configuration out of what SmartOS' host tells of interfaces, resolvers and routes. */
export interface SmartosNetworkForm {
  /** Which form it is. */
  readonly is: "smartos-network";
  /** Key of the resolvers. */
  readonly resolversKey: string;
  /** Key of the routes. */
  readonly routesKey: string;
  /** Key of the domain. */
  readonly domainKey: string;
}

/** How a value, or several, give what a consumer takes out of them. */
export type BootDataForm =
  | PlainForm
  | NamedForm
  | MetadataNetworkForm
  | PartsForm
  | OvfPropertyForm
  | OvfMetadataForm
  | NoCloudSerialForm
  | SmartosForm
  | SmartosNetworkForm
  | FieldsForm;

/** One place of boot configuration. */
export interface BootDataPlace {
  /** What is found there. */
  readonly kind: BootDataKind;
  /** Short name of the store: `guestinfo`, `fw_cfg`. */
  readonly store: string;
  /** The native key that is looked at first. */
  readonly key: string;
  /** Who reads it: `cloud-init`. */
  readonly consumer: string;
  /** How it is encoded. */
  readonly form: BootDataForm;
}

/** Keys of systemd's credentials. */
export interface CredentialPlace {
  /** Short name of the source: `fw_cfg`. */
  readonly source: string;
  /** Beginning of the native keys; the rest of one is the credential's name. */
  readonly prefix: string;
  /** Beginning of keys that would be credentials if their values were what they should be. */
  readonly brokenPrefix?: string;
}

/** Where boot configuration lives on a store, as data. */
export interface BootData {
  /** Its places, of each kind the strongest first. */
  readonly places: readonly BootDataPlace[];
  /** Where systemd's credentials lie, in the order in which systemd imports them. */
  readonly credentials?: readonly CredentialPlace[];
  /**
   * So many milliseconds without anything new show that the host has given all; only where its values come one after the other,
   * once the guest's side is up. Elsewhere they are there from the start.
   */
  readonly settleMs?: number;
}
