/** Kinds of boot configuration, by the names that cloud-init and Ignition have made known. */
export type BootDataKind = "user-data" | "meta-data" | "vendor-data" | "network-config" | "ignition";

/** Whose reading of an encoding's name counts. */
export type BootDataReader = "cloud-init" | "ignition";

/** How a value, or several, give what a consumer takes out of them. */
export type BootDataForm =
  /** The value's bytes as they are. */
  | { readonly is: "plain" }
  /** Encoded as another key names it. */
  | { readonly is: "named"; readonly encodingKey: string; readonly reader: BootDataReader }
  /** The field `network` of encoded metadata. */
  | { readonly is: "network-of-metadata"; readonly encodingKey: string }
  /** The key itself, else its parts `<key>.0`, `<key>.1`, … joined, up to the first that is missing. */
  | { readonly is: "parts" }
  /** A property of an OVF environment; its encoding another property of Ignition's, else base64 or text. */
  | { readonly is: "ovf-property"; readonly property: string; readonly encodingProperty?: string }
  /** Metadata out of properties of an OVF environment, by their names. */
  | { readonly is: "ovf-metadata"; readonly properties: readonly string[] }
  /** Metadata out of a serial number of the form `ds=nocloud;h=…;i=…`. */
  | { readonly is: "nocloud-serial" }
  /** Base64 where one of these keys says so of `name`: a list of names, all names, this name. */
  | {
      readonly is: "smartos";
      readonly name: string;
      readonly listKey: string;
      readonly allKey: string;
      readonly ownKey: string;
    }
  /** Metadata out of several keys, by the names of its fields; of each the first key that has a value. */
  | { readonly is: "fields"; readonly fields: Readonly<Record<string, readonly string[]>> };

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
