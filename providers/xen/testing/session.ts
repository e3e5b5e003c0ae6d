import type { Duplex } from "node:stream";
import { formatPermission } from "../protocol/permissions.js";
import {
  decodeStrings,
  encodeStrings,
  MessageDecoder,
  XENSTORE_PAYLOAD_MAX,
  XS,
  type XsMessage,
} from "../protocol/wire.js";
import { FaultySender, refusedByFault, type XenStoreFaults } from "./faults.js";
import { type Nodes, type SharedNodes, TransactionNodes } from "./nodes.js";
import { type Asking, Operations, permissionOf, Refusal, type XenStoreQuotas } from "./operations.js";
import { type Change, changed, type Firing, toldPath, type Watch, WatchList } from "./watch-list.js";

/** What a session has of the simulator. */
export interface SessionSurroundings {
  readonly shared: SharedNodes;
  readonly quotas: Required<XenStoreQuotas>;
  readonly faults: XenStoreFaults;
  /** Features that GET_FEATURE tells; 0: the daemon does not know the request. */
  readonly features: number;
  /** Tells all sessions what changed. */
  readonly changed: (changes: readonly Change[]) => void;
  /** Tells that the session is over. */
  readonly over: (session: Session) => void;
}

interface OpenTransaction {
  readonly nodes: TransactionNodes;
  readonly changes: Change[];
}

const PATH = /^(?:\/|\/?[A-Za-z0-9_@-]+(?:\/[A-Za-z0-9_@-]+)*)$/;
const SPECIAL = /^@[A-Za-z]+$/;
const LONGEST_PATH = 2048;
/** Bytes of a part of a long listing, its generation included. */
const PART_BYTES = XENSTORE_PAYLOAD_MAX;
const FEATURE_DEPTH = 4;
const OK = encodeStrings("OK");

/** One connection to the simulated daemon, by one domain. */
export class Session {
  readonly #stream: Duplex;
  readonly #domain: number;
  readonly #surroundings: SessionSurroundings;
  readonly #watches: WatchList;
  readonly #transactions = new Map<number, OpenTransaction>();
  readonly #decoder: MessageDecoder;
  readonly #sender: FaultySender;
  #lastTransaction = 0;
  /** Registered by the present request. */
  #added: Watch | undefined;

  /** @param stream the client's end, whoever made it */
  constructor(stream: Duplex, domain: number, surroundings: SessionSurroundings) {
    this.#stream = stream;
    this.#domain = domain;
    this.#surroundings = surroundings;
    this.#sender = new FaultySender(stream, surroundings.faults);
    this.#watches = new WatchList(domain === 0 ? Infinity : surroundings.quotas.watches);
    this.#decoder = new MessageDecoder(
      XENSTORE_PAYLOAD_MAX,
      (type, requestId, transactionId, bytes, start, end) =>
        this.#receive({ type, requestId, transactionId, payload: Buffer.from(bytes.subarray(start, end)) }),
    );
    stream.on("data", (chunk: Buffer) => {
      try {
        this.#decoder.push(chunk);
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

  /** Tells the client what changed where it watches. */
  tell(changes: readonly Change[]): void {
    const operations = this.#operations(this.#surroundings.shared);
    for (const firing of this.#watches.firing(changes))
      if (firing.path.startsWith("@") || operations.maySee(firing.path, firing.gone)) this.#event(firing);
  }

  #event(firing: Pick<Firing, "watch" | "path">): void {
    const payload = encodeStrings(toldPath(firing), firing.watch.token);
    this.#sender.send({ type: XS.WATCH_EVENT, requestId: 0, transactionId: 0, payload });
  }

  #receive(request: XsMessage): void {
    const { type, requestId, transactionId } = request;
    let reply: XsMessage;
    try {
      const code = refusedByFault(this.#surroundings.faults, request);
      if (code !== undefined) throw new Refusal(code);
      const payload = this.#answer(request);
      reply = { type, requestId, transactionId, payload };
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      reply = { type: XS.ERROR, requestId, transactionId, payload: encodeStrings(error.message) };
    }
    this.#sender.send(reply);
    // Unlike all other events, a watch's first one comes behind the answer.
    if (this.#added !== undefined) this.#event({ watch: this.#added, path: this.#added.path });
    this.#added = undefined;
  }

  #answer(request: XsMessage): Buffer {
    const { type, payload } = request;
    const strings = decodeStrings(payload);
    switch (type) {
      case XS.READ:
        return this.#on(request).read(this.#only(strings));
      case XS.DIRECTORY:
        return this.#directory(this.#on(request).children(this.#only(strings)));
      case XS.DIRECTORY_PART:
        return this.#part(this.#on(request), strings);
      case XS.GET_PERMS:
        return encodeStrings(...this.#on(request).permissions(this.#only(strings)).map(formatPermission));
      case XS.WRITE:
      case XS.MKDIR:
      case XS.RM:
      case XS.SET_PERMS:
        return this.#change(request, strings);
      case XS.WATCH:
        return this.#watch(strings);
      case XS.UNWATCH:
        return this.#unwatch(strings);
      case XS.TRANSACTION_START:
        return this.#begin(request);
      case XS.TRANSACTION_END:
        return this.#finish(request, strings);
      case XS.RESET_WATCHES:
        this.#watches.clear();
        this.#transactions.clear();
        return OK;
      case XS.GET_DOMAIN_PATH:
        return encodeStrings(`/local/domain/${Number.parseInt(strings[0] ?? "", 10) || 0}`);
      case XS.IS_DOMAIN_INTRODUCED:
        this.#privilegedOnly();
        return encodeStrings(strings[0] === "0" ? "T" : "F");
      case XS.CONTROL:
        this.#privilegedOnly();
        return OK;
      case XS.GET_FEATURE:
        if (this.#surroundings.features === 0) throw new Refusal("ENOSYS");
        return encodeStrings(String(this.#surroundings.features));
      default:
        throw new Refusal("ENOSYS");
    }
  }

  #change(request: XsMessage, strings: readonly string[]): Buffer {
    const { type, payload } = request;
    const operations = this.#on(request);
    const changes: Change[] = [];
    const nul = payload.indexOf(0);
    if (type === XS.WRITE) {
      if (nul < 0) throw new Refusal("EINVAL");
      const path = this.#path(Buffer.from(payload).toString("latin1", 0, nul));
      operations.write(path, Buffer.from(payload.subarray(nul + 1)));
      changes.push(changed(path));
    } else if (type === XS.SET_PERMS) {
      if (strings.length < 2) throw new Refusal("EINVAL");
      const path = this.#path(strings[0] ?? "");
      operations.setPermissions(path, strings.slice(1).map(permissionOf));
      changes.push(changed(path));
    } else {
      const path = this.#only(strings);
      if (type === XS.RM) {
        const gone = operations.remove(path);
        if (gone.size > 0) changes.push({ path, gone });
      } else if (operations.mkdir(path)) changes.push(changed(path));
    }
    const transaction = this.#transactions.get(request.transactionId);
    if (transaction === undefined) this.#surroundings.changed(changes);
    else transaction.changes.push(...changes);
    return OK;
  }

  #directory(children: readonly string[]): Buffer {
    const list = encodeStrings(...children);
    if (list.length > XENSTORE_PAYLOAD_MAX) throw new Refusal("E2BIG");
    return list;
  }

  #part(operations: Operations, [given = "", from = ""]: readonly string[]): Buffer {
    const path = this.#path(given);
    const list = encodeStrings(...operations.children(path));
    const generation = encodeStrings(String(operations.generation(path)));
    const offset = Math.min(Number(from), list.length);
    if (!Number.isInteger(offset) || offset < 0) throw new Refusal("EINVAL");
    const rest = list.subarray(offset);
    const room = PART_BYTES - generation.length - 1;
    if (rest.length <= room) return Buffer.concat([generation, rest, Buffer.alloc(1)]);
    return Buffer.concat([generation, rest.subarray(0, rest.lastIndexOf(0, room - 1) + 1)]);
  }

  #watch(strings: readonly string[]): Buffer {
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

  #unwatch([given = "", token = ""]: readonly string[]): Buffer {
    this.#watches.remove({ path: this.#watchPath(given), token });
    return OK;
  }

  #watchPath(given: string): string {
    return SPECIAL.test(given) ? given : this.#path(given);
  }

  #begin({ transactionId }: XsMessage): Buffer {
    if (transactionId !== 0) throw new Refusal("EBUSY");
    const { shared, quotas } = this.#surroundings;
    if (this.#domain !== 0 && this.#transactions.size >= quotas.transactions) throw new Refusal("ENOSPC");
    const id = ++this.#lastTransaction;
    this.#transactions.set(id, { nodes: new TransactionNodes(shared), changes: [] });
    return encodeStrings(String(id));
  }

  #finish({ transactionId }: XsMessage, [end = ""]: readonly string[]): Buffer {
    const transaction = this.#transactions.get(transactionId);
    if (transaction === undefined) throw new Refusal("ENOENT");
    if (end !== "T" && end !== "F") throw new Refusal("EINVAL");
    this.#transactions.delete(transactionId);
    if (end === "F") return OK;
    const { faults } = this.#surroundings;
    if ((faults.conflicts ?? 0) > 0) {
      faults.conflicts = (faults.conflicts ?? 0) - 1;
      throw new Refusal("EAGAIN");
    }
    if (!transaction.nodes.commit()) throw new Refusal("EAGAIN");
    this.#surroundings.changed(transaction.changes);
    return OK;
  }

  /** What the request works on. */
  #on({ transactionId }: XsMessage): Operations {
    const transaction = this.#transactions.get(transactionId);
    if (transactionId !== 0 && transaction === undefined) throw new Refusal("ENOENT");
    return this.#operations(transaction?.nodes ?? this.#surroundings.shared);
  }

  #operations(nodes: Nodes): Operations {
    const { quotas, shared } = this.#surroundings;
    const asking: Asking = { domain: this.#domain, quotas, owned: () => shared.ownedBy(this.#domain) };
    return new Operations(nodes, asking);
  }

  #only(strings: readonly string[]): string {
    if (strings.length !== 1) throw new Refusal("EINVAL");
    return this.#path(strings[0] ?? "");
  }

  #path(given: string): string {
    if (!PATH.test(given) || given.startsWith("@")) throw new Refusal("EINVAL");
    const path = given.startsWith("/") ? given : `/local/domain/${this.#domain}/${given}`;
    if (path.replace(/^\/local\/domain\/\d+\//, "").length > LONGEST_PATH) throw new Refusal("EINVAL");
    return path;
  }

  #privilegedOnly(): void {
    if (this.#domain !== 0) throw new Refusal("EACCES");
  }
}
