/*
 * Frames of real exchanges: cloud-init 22.4.2 and the C tools of the mdata-client project as clients, and frames computed with
 * zlib. Each line: the frame, then what its payload says (base64 taken off once), `-` for no payload.
 */

const REQUESTS = `
V2 25 1ab652aa 70d3da1f GET aG9zdG5hbWU=                 | hostname
V2 21 67666d76 01eaf614 GET bm9wZQ==                     | nope
V2 21 3e1cb7f8 950cddd9 GET ZW1wdHk=                     | empty
V2 21 b6356eef 157cf9c6 GET ZG90cw==                     | dots
V2 21 2b157c73 c4381836 GET dXRmOA==                     | utf8
V2 13 993f049c 3c9f90c9 KEYS                             | -
V2 41 a05b2866 c9ed0248 PUT Y0haaWRYTXZkR1Z6ZEE9PSBkakU9 | cHZidXMvdGVzdA== djE=
V2 33 18553cc4 9da618fd PUT YzJSak9uZz0gZGpFPQ==         | c2RjOng= djE=
V2 32 14ec05eb 2607ad5f DELETE cHZidXMvdGVzdA==          | pvbus/test
V2 32 faffcddb f703c9ff DELETE cHZidXMvdGVzdA==          | pvbus/test
V2 19 8d446c45 94398520 WATCH eA==                       | x
V2 41 eb93aaaf c92eb49a PUT YXpFPSBhR1ZzYkc4Z2QyOXliR1E9 | azE= aGVsbG8gd29ybGQ=
V2 33 fc789a8f 075a209e PUT YXpJPSBZUXBpQUdNPQ==         | azI= YQpiAGM=
V2 21 2bac1d97 aea80e16 PUT YXpNPSA=                     | azM= 
V2 13 f29aef38 00000001 KEYS                             | -
V2 25 b2c791dd 00000004 GET aG9zdG5hbWU=                 | hostname
V2 13 000e8a1e 000021f4 KEYS                             | -
`;

const ANSWERS = `
V2 25 9e1d8d9e 70d3da1f SUCCESS Z3Vlc3Qx                 | guest1
V2 17 e8bac850 01eaf614 NOTFOUND                         | -
V2 16 828f11d8 950cddd9 SUCCESS                          | -
V2 29 058ded6c 157cf9c6 SUCCESS LmEKLi5iCmM=             | .a\\n..b\\nc
V2 29 f006f0ab c4381836 SUCCESS Z3LDvMOfZQ==             | gr\u00fc\u00dfe
V2 113 96c47127 3c9f90c9 SUCCESS aG9zdG5hbWUKcm9vdF9hdXRob3JpemVkX2tleXMKdXNlci1kYXRhCmRvdHMKZW1wdHkKdXRmOApvcmcucHZidXMuZmxhZw== | hostname\\nroot_authorized_keys\\nuser-data\\ndots\\nempty\\nutf8\\norg.pvbus.flag
V2 21 14cb24cd c9ed0248 SUCCESS T0s=                     | OK
V2 65 1ac3d8da 9da618fd FAILURE Q2Fubm90IHVwZGF0ZSB0aGUgInNkYyIgTmFtZXNwYWNlLg== | Cannot update the "sdc" Namespace.
V2 21 55f1f052 2607ad5f SUCCESS T0s=                     | OK
V2 21 1c09d305 f703c9ff SUCCESS T0s=                     | OK
V2 45 fc7f1c28 94398520 FAILURE VW5rbm93biBjb21tYW5kIFdBVENI | Unknown command WATCH
V2 25 a5254728 1e9887d1 SUCCESS YQpiAGM=                 | a\\nb\\0c
V2 45 232d332d aea80e16 FAILURE SW52YWxpZCBQVVQgUmVxdWVzdA== | Invalid PUT Request
V2 17 19f2f390 a013bc09 NOTFOUND                         | -
V2 21 265ae1d8 dc4fae17 SUCCESS W10=                     | []
V2 17 cb0acb58 00000002 NOTFOUND                         | -
V2 16 0af8994b 00000003 SUCCESS                          | -
V2 45 68c7beec 00000005 FAILURE VW5rbm93biBjb21tYW5kIENBUFM= | Unknown command CAPS
`;

/** One recorded frame. */
export interface Vector {
  /** The line without its end. */
  readonly line: string;
  /** What its payload says; undefined where it has none. */
  readonly says: string | undefined;
}

/** Frames of clients. */
export const REQUEST_VECTORS: readonly Vector[] = vectors(REQUESTS);
/** Frames of hosts. */
export const ANSWER_VECTORS: readonly Vector[] = vectors(ANSWERS);

function vectors(text: string): Vector[] {
  const lines = text.split("\n").filter((line) => line.includes("|"));
  return lines.map((each) => {
    const at = each.indexOf("|");
    const says = each
      .slice(at + 2)
      .replace(/\\n/g, "\n")
      .replace(/\\0/g, "\0");
    return { line: each.slice(0, at).trimEnd(), says: says === "-" ? undefined : says };
  });
}
