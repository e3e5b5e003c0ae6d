import { decodeBase64 } from "../../mdata/base64.js";

/** A credential of the kernel's command line. */
export interface CommandLineCredential {
  /** Its name. */
  readonly name: string;
  /** Its value; undefined for base64 that is none. */
  readonly value: Uint8Array | undefined;
}

/** Binary ones systemd knows from 254 on. */
const TEXT = "systemd.set_credential";
const BINARY = "systemd.set_credential_binary";

/** Returns the credentials in a kernel command line, `systemd.set_credential=NAME:VALUE`, in their order. */
export function commandLineCredentials(line: string): readonly CommandLineCredential[] {
  const found: CommandLineCredential[] = [];
  for (const word of wordsOf(line)) {
    const at = word.indexOf("=");
    // The kernel and systemd do not tell dashes and underscores apart there.
    const option = at < 0 ? "" : word.slice(0, at).replaceAll("-", "_");
    if (option !== TEXT && option !== BINARY) continue;
    const [, name, text] = /^([^:]*):(.*)$/s.exec(word.slice(at + 1)) ?? [];
    if (name === undefined || text === undefined) continue;
    const value = option === TEXT ? Buffer.from(text) : decodeBase64(text.replace(/\s+/g, ""));
    found.push({ name, value });
  }
  return found;
}

/** Words end at white space outside of quotes, which are left out, wherever they stand in a word. */
function wordsOf(line: string): string[] {
  const words: string[] = [];
  let [word, quote] = ["", ""];
  for (const char of line) {
    if (quote !== "") {
      if (char === quote) quote = "";
      else word += char;
    } else if (char === '"' || char === "'") quote = char;
    else if (/\s/.test(char)) {
      if (word !== "") words.push(word);
      word = "";
    } else word += char;
  }
  return word === "" ? words : [...words, word];
}
