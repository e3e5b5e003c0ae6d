import type { Duplex } from "node:stream";
import { formatPermission } from "../protocol/permissions.js";
import {
  decodeStrings,
  encodeStrings,
  MessageDecoder,
  typeName,
  XENSTORE_PAYLOAD_MAX,
  XS,
  type XsMessage,
} from "../protocol/wire.js";
import { FaultySender, type XenStoreFaults } from "./faults.js";
import {
  type Change,
  type Node,
  type Nodes,
  Operations,
  permissionOf,
  Refusal,
  type SharedNodes,
  TransactionNodes,
  type XenStoreQuotas,
} from "./operations.js";
import { type Firing, toldPath, type Watch, WatchList } from "./watch-list.js";

export interface SessionSurroundings {
  readonly shared: SharedNodes;
  readonly quotas: Required<XenStoreQuotas>;
  readonly faults: XenStoreFaults;
  /** Features that GET_FEATURE tells; 0: the daemon does not know the request. */
  readonly features: number;
  readonly changed: (changes: readonly Change[]) => void;
  readonly over: (session: Session) => void;
}

interface OpenTransaction {
  readonly nodes: TransactionNodes;
  readonly changes: Change[];
}

interface Request extends XsMessage {
  readonly strings: readonly string[];
}

const PATH = /^(?:\/|\/?[A-Za-z0-9_@-]+(?:\/[A-Za-z0-9_@-]+)*)$/;
const SPECIAL = /^@[A-Za-z]+$/;
const LONGEST_PATH = 2048;
const FEATURE_DEPTH = 4;
const OK = encodeStrings("OK");

/** One connection to the simulated daemon, by one domain. */
export class Session {
  readonly #stream: Duplex;
  readonly #domain: number;
  readonly #surroundings: SessionSurroundings;
  readonly #watches: WatchList;
  readonly #transactions = new Map<number, OpenTransaction>();
  readonly #sender: FaultySender;
  #lastTransaction = 0;
  /** Registered by the present request. */
  #added: Watch | undefined;
  readonly #answers: Readonly<Record<number, (request: Request) => Buffer>> = {
    [XS.READ]: (request) => this.#read(request).value,
    [XS.DIRECTORY]: (request) => listing(this.#read(request).children),
    [XS.DIRECTORY_PART]: (request) => this.#part(request),
    [XS.GET_PERMS]: (request) => encodeStrings(...this.#read(request).permissions.map(formatPermission)),
    [XS.WRITE]: (request) => this.#change(request, (on) => this.#write(on, request)),
    [XS.MKDIR]: (request) => this.#change(request, (on) => on.mkdir(this.#only(request))),
    [XS.RM]: (request) => this.#change(request, (on) => on.remove(this.#only(request))),
    [XS.SET_PERMS]: (request) => this.#change(request, (on) => this.#setPermissions(on, request)),
    [XS.WATCH]: (request) => this.#watch(request),
    [XS.UNWATCH]: (request) => this.#unwatch(request),
    [XS.TRANSACTION_START]: (request) => this.#begin(request),
    [XS.TRANSACTION_END]: (request) => this.#finish(request),
    [XS.RESET_WATCHES]: () => this.#reset(),
    [XS.GET_DOMAIN_PATH]: ({ strings: [domain = ""] }) =>
      encodeStrings(`/local/domain/${Number.parseInt(domain, 10) || 0}`),
    [XS.IS_DOMAIN_INTRODUCED]: ({ strings: [domain] }) => this.#privileged(domain === "0" ? "T" : "F"),
    [XS.CONTROL]: () => this.#privileged("OK"),
    [XS.GET_FEATURE]: () => this.#features(),
  };

  /** @param stream the client's end, whoever made it */
  constructor(stream: Duplex, domain: number, surroundings: SessionSurroundings) {
    this.#stream = stream;
    this.#domain = domain;
    this.#surroundings = surroundings;
    this.#sender = new FaultySender(stream, surroundings.faults);
    this.#watches = new WatchList(domain === 0 ? Infinity : surroundings.quotas.watches);
    const decoder = new MessageDecoder(
      XENSTORE_PAYLOAD_MAX,
      (type, requestId, transactionId, bytes, start, end) =>
        this.#receive({ type, requestId, transactionId, payload: Buffer.from(bytes.subarray(start, end)) }),
    );
    stream.on("data", (chunk: Buffer) => {
      try {
        decoder.push(chunk);
      } catch {
        // As the C daemon: a length past the limit ends the connection.
        this.end();
      }
    });
    stream.on("error", () => undefined);
    stream.once("end", () => this.end());
    stream.once("close", () => surroundings.over(this));
  }

  /** Ends the connection, as a daemon that dies. */
  end(): void {
    this.#stream.destroy();
  }

  tell(changes: readonly Change[]): void {
    const operations = this.#operations(this.#surroundings.shared);
    for (const firing of this.#watches.firing(changes))
      if (operations.maySee(firing.path, firing.gone)) this.#event(firing);
  }

  #event(firing: Pick<Firing, "watch" | "path">): void {
    const payload = encodeStrings(toldPath(firing), firing.watch.token);
    this.#sender.send({ type: XS.WATCH_EVENT, requestId: 0, transactionId: 0, payload });
  }

  #receive(message: XsMessage): void {
    const { type, requestId, transactionId } = message;
    const request = { ...message, strings: decodeStrings(message.payload) };
    let reply: XsMessage;
    try {
      const code = this.#surroundings.faults.refuse?.(typeName(type), request.strings[0] ?? "");
      const answer = this.#answers[type];
      if (code !== undefined || answer === undefined) throw new Refusal(code ?? "ENOSYS");
      reply = { type, requestId, transactionId, payload: answer(request) };
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      reply = { type: XS.ERROR, requestId, transactionId, payload: encodeStrings(error.message) };
    }
    this.#sender.send(reply);
    // Unlike all other events, a watch's first one comes behind the answer.
    if (this.#added !== undefined) this.#event({ watch: this.#added, path: this.#added.path });
    this.#added = undefined;
  }

  #read(request: Request): Node {
    return this.#on(request).read(this.#only(request));
  }

  /** Makes changes, and tells of them; of those in a transaction at its end. */
  #change(request: Request, make: (on: Operations) => readonly Change[]): Buffer {
    const changes = make(this.#on(request));
    const transaction = this.#transactions.get(request.transactionId);
    if (transaction === undefined) this.#surroundings.changed(changes);
    else transaction.changes.push(...changes);
    return OK;
  }

  #write(on: Operations, { payload, strings: [path = ""] }: Request): readonly Change[] {
    const nul = payload.indexOf(0);
    if (nul < 0) throw new Refusal("EINVAL");
    return on.write(this.#path(path), Buffer.from(payload.subarray(nul + 1)));
  }

  #setPermissions(on: Operations, { strings: [path = "", ...permissions] }: Request): readonly Change[] {
    if (permissions.length === 0) throw new Refusal("EINVAL");
    return on.setPermissions(this.#path(path), permissions.map(permissionOf));
  }

  #part(request: Request): Buffer {
    const [path = "", from = ""] = request.strings;
    const node = this.#on(request).read(this.#path(path));
    const list = encodeStrings(...node.children);
    const generation = encodeStrings(String(node.generation));
    const offset = Math.min(Number(from), list.length);
    if (!Number.isInteger(offset) || offset < 0) throw new Refusal("EINVAL");
    const rest = list.subarray(offset);
    const room = XENSTORE_PAYLOAD_MAX - generation.length - 1;
    if (rest.length <= room) return Buffer.concat([generation, rest, Buffer.alloc(1)]);
    return Buffer.concat([generation, rest.subarray(0, rest.lastIndexOf(0, room - 1) + 1)]);
  }

  #watch({ strings }: Request): Buffer {
    const [given = "", token = "", depth] = strings;
    const { features } = this.#surroundings;
    if (strings.length < 2 || strings.length > 3) throw new Refusal("EINVAL");
    if (depth !== undefined && ((features & FEATURE_DEPTH) === 0 || !/^\d+$/.test(depth)))
      throw new Refusal("EINVAL");
    const path = this.#watchPath(given);
    const watch = { given, path, token, depth: depth === undefined ? Infinity : Number(depth) };
    this.#watches.add(watch);
    this.#added = watch;
    return OK;
  }

  #unwatch({ strings: [given = "", token = ""] }: Request): Buffer {
    this.#watches.remove({ path: this.#watchPath(given), token });
    return OK;
  }

  #reset(): Buffer {
    this.#watches.clear();
    this.#transactions.clear();
    return OK;
  }

  #watchPath(given: string): string {
    return SPECIAL.test(given) ? given : this.#path(given);
  }

  #begin({ transactionId }: Request): Buffer {
    if (transactionId !== 0) throw new Refusal("EBUSY");
    const { shared, quotas } = this.#surroundings;
    if (this.#domain !== 0 && this.#transactions.size >= quotas.transactions) throw new Refusal("ENOSPC");
    const id = ++this.#lastTransaction;
    this.#transactions.set(id, { nodes: new TransactionNodes(shared), changes: [] });
    return encodeStrings(String(id));
  }

  #finish({ transactionId, strings: [end] }: Request): Buffer {
    const transaction = this.#transactions.get(transactionId);
    if (transaction === undefined) throw new Refusal("ENOENT");
    if (end !== "T" && end !== "F") throw new Refusal("EINVAL");
    this.#transactions.delete(transactionId);
    if (end === "F") return OK;
    const { faults } = this.#surroundings;
    const { conflicts = 0 } = faults;
    if (conflicts > 0) faults.conflicts = conflicts - 1;
    if (conflicts > 0 || !transaction.nodes.commit()) throw new Refusal("EAGAIN");
    this.#surroundings.changed(transaction.changes);
    return OK;
  }

  #on({ transactionId }: Request): Operations {
    const transaction = this.#transactions.get(transactionId);
    if (transactionId !== 0 && transaction === undefined) throw new Refusal("ENOENT");
    return this.#operations(transaction?.nodes ?? this.#surroundings.shared);
  }

  #operations(nodes: Nodes): Operations {
    const { quotas, shared } = this.#surroundings;
    const owned = (): number => shared.ownedBy(this.#domain);
    return new Operations(nodes, { domain: this.#domain, quotas, owned });
  }

  #only({ strings: [path = "", ...others] }: Request): string {
    if (others.length > 0) throw new Refusal("EINVAL");
    return this.#path(path);
  }

  #path(given: string): string {
    if (!PATH.test(given) || given.startsWith("@")) throw new Refusal("EINVAL");
    const path = given.startsWith("/") ? given : `/local/domain/${this.#domain}/${given}`;
    if (path.replace(/^\/local\/domain\/\d+\//, "").length > LONGEST_PATH) throw new Refusal("EINVAL");
    return path;
  }

  #privileged(answer: string): Buffer {
    if (this.#domain !== 0) throw new Refusal("EACCES");
    return encodeStrings(answer);
  }

  #features(): Buffer {
    const { features } = this.#surroundings;
    if (features === 0) throw new Refusal("ENOSYS");
    return encodeStrings(String(features));
  }
}

function listing(children: readonly string[]): Buffer {
  const list = encodeStrings(...children);
  if (list.length > XENSTORE_PAYLOAD_MAX) throw new Refusal("E2BIG");
  return list;
}
