/** Most bytes of one credential, and of all together (systemd, src/basic/creds-util.h). */
export const MAX_CREDENTIAL_BYTES = 1024 * 1024;
const MAX_NAME = 255;

/** Reports whether a name can be a credential's: of a file, printable ASCII without a colon. */
export function isCredentialName(name: string): boolean {
  return (
    /^[\x20-\x7e]+$/.test(name) &&
    !/[:/]/.test(name) &&
    name.length <= MAX_NAME &&
    name !== "." &&
    name !== ".."
  );
}
