// A model of the server: channels in memory, with the calls and the socket of docs/CHAT-API.md that the tests need.
//
// It is told when to fail: a call may be lost before or after it was carried out, a socket may end at any frame, frames
// come late and twice, pages overlap the events behind them, and what a token needs may be gone.

import type { Message, Reaction, Read } from "../src/types.js";
import { type Answer, errorBody, type FakeSocket, type World } from "./world.js";

type Body = Record<string, any>;
type Event = Body & { type: string; version: number; index: number };

/** How likely each fault is, 0 to 1. */
export interface Faults {
  lost: number;
  busy: number;
  drop: number;
  twice: number;
  late_ms: number;
}

const CALM: Faults = { lost: 0, busy: 0, drop: 0, twice: 0, late_ms: 0 };

/** A channel of the model. */
export class ModelChannel {
  readonly messages: Message[] = [];
  readonly replies = new Map<string, Message[]>();
  readonly reactions = new Map<string, Map<string, Reaction>>();
  readonly reads = new Map<string, Read>();
  readonly threadReads = new Map<string, number>();
  readonly members = new Set<string>();
  /** What each message said when it was sent: edits do not change what a repeat is compared with. */
  private readonly first = new Map<string, string>();
  truncated = 0;
  log: Event[] = [];
  version = 0;
  /** Events up to this version are kept no longer. */
  purged = 0;

  constructor(
    readonly cid: string,
    private readonly world: World,
  ) {}

  private tell(type: string, fields: Body): void {
    this.version += 1;
    this.log.push({ type, cid: this.cid, version: this.version, index: 1, ...structuredClone(fields) });
  }

  info() {
    const [type, id] = this.cid.split(":") as [string, string];
    const flags = { distinct: false, frozen: false, disabled: false, slow_mode_ms: null, team: null, custom: null };
    return { cid: this.cid, type, id, created_by: "x", created_at: 1, updated_at: null, truncated: this.truncated, ...flags };
  }

  find(id: string): Message | undefined {
    return [this.messages, ...this.replies.values()].flat().find((message) => message.id === id);
  }

  /** Stores a message once; `null` = the id is another's. */
  send(user: string, body: Body): Message | null {
    const held = this.find(body.id as string);
    if (held) return held.user_id === user && this.first.get(held.id) === body.text ? held : null;
    const parent = body.parent_id ? this.find(body.parent_id as string) : undefined;
    const list = parent ? (this.replies.get(parent.id) ?? []) : this.messages;
    if (parent) this.replies.set(parent.id, list);
    const place = list.length + 1;
    const message: Message = {
      id: body.id as string,
      cid: this.cid,
      sequence: parent ? null : place,
      thread_sequence: parent ? place : null,
      parent_id: parent?.id ?? null,
      parent_sequence: parent?.sequence ?? null,
      user_id: user,
      text: body.text as string,
      custom: null,
      attachments: [],
      mentions: { users: [], groups: [], channel: false, ...body.mentions },
      quoted_id: null,
      pinned: null,
      system: false,
      silent: body.silent === true,
      shadowed: false,
      created_at: this.world.now,
      updated_at: null,
      deleted_at: null,
      erased: false,
      version: 1,
      reply_count: null,
      reactions: null,
      scores: null,
      own_reactions: null,
    };
    list.push(message);
    this.first.set(message.id, message.text);
    this.tell("message.new", { message });
    return message;
  }

  change(id: string, change: Partial<Message>): Message {
    const message = this.find(id)!;
    Object.assign(message, change, { version: message.version + 1, updated_at: this.world.now });
    this.tell(message.deleted_at === null ? "message.updated" : "message.deleted", { message });
    return message;
  }

  react(user: string, id: string, type: string, score: number | null): void {
    const held = this.reactions.get(id) ?? new Map<string, Reaction>();
    this.reactions.set(id, held);
    const key = `${user} ${type}`;
    const reaction = { message_id: id, user_id: user, type, score: score ?? 0, created_at: 1, custom: null };
    if (score === null ? !held.has(key) : held.get(key)?.score === score) return;
    if (score === null) held.delete(key);
    else held.set(key, reaction);
    this.tell(score === null ? "reaction.deleted" : "reaction.new", { reaction });
  }

  read(user: string, sequence: number): void {
    const read = { user_id: user, sequence, read_at: this.world.now };
    this.reads.set(user, read);
    this.tell("message.read", { read });
  }

  truncate(up_to: number): void {
    this.truncated = Math.max(this.truncated, up_to);
    this.tell("channel.updated", { channel: this.info() });
  }

  join(user: string): void {
    this.members.add(user);
    this.tell("member.added", { member: this.member(user) });
  }

  member(user: string) {
    return { user_id: user, role: "member", grants: [], joined_at: 1, custom: null };
  }

  /** The message as a page holds it for `user`. */
  full(message: Message, user: string): Message {
    const reactions: Record<string, number> = {};
    const scores: Record<string, number> = {};
    const own: string[] = [];
    for (const { type, score, user_id } of this.reactions.get(message.id)?.values() ?? []) {
      reactions[type] = (reactions[type] ?? 0) + 1;
      scores[type] = (scores[type] ?? 0) + score;
      if (user_id === user) own.push(type);
    }
    const reply_count = (this.replies.get(message.id) ?? []).filter((reply) => reply.deleted_at === null).length;
    return structuredClone({ ...message, reply_count, reactions, scores, own_reactions: own.sort() });
  }

  unread(user: string) {
    const read_sequence = this.reads.get(user)?.sequence ?? 0;
    const visible = this.messages.filter((message) => message.sequence! > Math.max(read_sequence, this.truncated));
    return { cid: this.cid, read_sequence, last_sequence: this.messages.length, ...count(visible, user) };
  }

  threadUnread(parent: string, user: string) {
    const replies = this.replies.get(parent) ?? [];
    const read_sequence = this.threadReads.get(`${user} ${parent}`) ?? 0;
    const behind = replies.filter((reply) => reply.thread_sequence! > read_sequence);
    return { parent_id: parent, read_sequence, last_sequence: replies.length, ...count(behind, user) };
  }
}

function count(messages: Message[], user: string): { unread: number; mentions: number } {
  const all = messages.filter((message) => message.user_id !== user && message.deleted_at === null && !message.silent);
  return { unread: all.length, mentions: all.filter((one) => one.mentions.channel || one.mentions.users.includes(user)).length };
}

interface Link {
  socket: FakeSocket;
  at: Map<string, number>;
  queue: string[];
  planned: boolean;
  ended: boolean;
}

/** The server, as one user's client sees it. */
export class Model {
  readonly channels = new Map<string, ModelChannel>();
  faults: Faults = CALM;
  /** How often each call was carried out, by method and path. */
  readonly calls = new Map<string, number>();
  private readonly links = new Set<Link>();

  constructor(
    private readonly world: World,
    private readonly me: string,
  ) {
    world.onSocket = (socket) => this.connect(socket);
    world.onCall = (call) => this.call(call);
  }

  channel(cid: string): ModelChannel {
    const channel = this.channels.get(cid) ?? new ModelChannel(cid, this.world);
    this.channels.set(cid, channel);
    return channel;
  }

  /** Ends all faults. */
  calm(): void {
    this.faults = CALM;
  }

  /** Ends all sockets, without a word. */
  cut(code = 1006): void {
    for (const link of this.links) this.end(link, code);
  }

  private chance(likely: number): boolean {
    return likely > 0 && this.world.random() < likely;
  }

  private wait(): Promise<void> {
    const delay_ms = this.faults.late_ms * this.world.random();
    return new Promise((done) => void this.world.env.setTimeout(done, delay_ms));
  }

  private async call(call: { method: string; path: string; query: URLSearchParams; body: any }): Promise<Answer> {
    await this.wait();
    if (this.chance(this.faults.lost)) return "lost";
    if (this.chance(this.faults.busy)) return { status: 503, body: errorBody(-1, 503) };
    const key = `${call.method} ${call.path}`;
    this.calls.set(key, (this.calls.get(key) ?? 0) + 1);
    const answer = this.answer(call.method, call.path, call.query, call.body ?? {});
    const text = JSON.stringify(answer);
    this.pump();
    await this.wait();
    return this.chance(this.faults.lost) ? "lost" : (JSON.parse(text) as Answer);
  }

  private answer(method: string, path: string, query: URLSearchParams, body: Body): Answer {
    const ok = (fields: unknown): Answer => ({ status: 200, body: fields });
    if (path === "/unread") return ok({ channels: [...this.channels.values()].map((one) => one.unread(this.me)), next: null });
    const [, first, type, id, part, message, more, last] = path.split("/");
    const channel = this.channels.get(`${type}:${id}`);
    if (first !== "channels" || !channel) return { status: 404, body: errorBody(16, 404) };
    const list = (all: Message[], place: (one: Message) => number): Answer => {
      const before = Number(query.get("before") ?? Infinity);
      const limit = Number(query.get("limit") ?? 25);
      const found = all.filter((one) => place(one) < before && (part !== "messages" || more || place(one) > channel.truncated));
      const page = found.slice(-limit).reverse();
      const next = found.length > page.length ? place(page.at(-1)!) : null;
      return ok({ messages: page.map((one) => channel.full(one, this.me)), next });
    };
    switch (`${method} ${part ?? ""}${message ? `/M${more ? `/${more}` : ""}${last ? "/R" : ""}` : ""}`) {
      case "GET ":
        return ok(this.page(channel));
      case "GET messages":
        return list(channel.messages, (one) => one.sequence!);
      case "POST messages": {
        const stored = channel.send(this.me, body);
        return stored ? ok({ message: stored }) : { status: 409, body: errorBody(22, 409) };
      }
      case "GET messages/M":
        return ok({ message: channel.full(channel.find(message!)!, this.me) });
      case "GET messages/M/replies":
        return list(channel.replies.get(message!) ?? [], (one) => one.thread_sequence!);
      case "GET messages/M/thread":
        return ok({ thread: channel.threadUnread(message!, this.me) });
      case "POST messages/M/reactions":
        channel.react(this.me, message!, body.type as string, (body.score as number | undefined) ?? 1);
        return ok({ changed: true, message: channel.find(message!) });
      case "DELETE messages/M/reactions/R":
        channel.react(this.me, message!, last!, null);
        return ok({ changed: true, message: channel.find(message!) });
      case "PATCH messages/M":
        return ok({ message: channel.change(message!, { text: body.text as string }) });
      case "POST read": {
        channel.read(this.me, (body.sequence as number | undefined) ?? channel.messages.length);
        return ok({ read: channel.reads.get(this.me), unread: channel.unread(this.me) });
      }
      case "POST unread":
        channel.read(this.me, Math.max(0, (body.from_sequence as number) - 1));
        return ok({ read: channel.reads.get(this.me), unread: channel.unread(this.me) });
      case "GET unread":
        return ok({ unread: channel.unread(this.me) });
      default:
        return { status: 404, body: errorBody(16, 404) };
    }
  }

  private page(channel: ModelChannel): Body {
    const all = channel.messages.filter((message) => message.sequence! > channel.truncated);
    const messages = all.slice(-25);
    // The token is made before the messages are read.
    const overlap = this.chance(this.faults.twice) ? Math.floor(this.world.random() * 4) : 0;
    return {
      channel: channel.info(),
      messages: messages.map((one) => channel.full(one, this.me)),
      before: all.length > messages.length ? messages[0]!.sequence : null,
      members: [...channel.members].map((user) => channel.member(user)),
      membership: channel.member(this.me),
      own_capabilities: ["send-message"],
      reads: [...channel.reads.values()],
      pinned: [],
      unread: channel.unread(this.me),
      watchers: { user_ids: [], count: 0 },
      users: {},
      resume: String(Math.max(channel.purged, channel.version - overlap)),
    };
  }

  private connect(socket: FakeSocket): void {
    const link: Link = { socket, at: new Map(), queue: [], planned: false, ended: false };
    socket.onSent = (frame) => void this.hear(link, frame);
    void this.wait().then(() => (this.chance(this.faults.drop) ? socket.end(1006) : socket.open()));
  }

  private async hear(link: Link, frame: Body): Promise<void> {
    await this.wait();
    if (link.ended || link.socket.closed !== null) return;
    const resume = () => JSON.stringify([...link.at]);
    if (frame.type === "hello") {
      this.links.add(link);
      const held = frame.resume ? (JSON.parse(frame.resume as string) as [string, number][]) : [];
      const seen = (frame.seen ?? {}) as Record<string, [number, number]>;
      const channels = held.map(([cid, at]) => this.subscribe(link, cid, Math.max(at, seen[cid]?.[0] ?? 0)));
      const limits = { channels: 200, frame_bytes: 131_072, sockets: 20 };
      const time = this.world.now;
      this.say(link, { type: "welcome", id: frame.id, connection_id: "c", user_id: this.me, heartbeat_ms: 25_000, time, limits, channels, resume: resume() });
    } else if (frame.type === "subscribe") {
      const channels = (frame.channels as { cid: string; resume: string }[]).map(({ cid, resume }) => this.subscribe(link, cid, Number(resume)));
      this.say(link, { type: "subscribed", id: frame.id, channels, resume: resume() });
    } else if (frame.type === "unsubscribe") {
      for (const cid of frame.channels as string[]) link.at.delete(cid);
      this.say(link, { type: "unsubscribed", id: frame.id, resume: resume() });
    } else if (frame.type === "ping") {
      this.say(link, { type: "pong", id: frame.id, time: this.world.now });
    }
    this.pump();
  }

  private subscribe(link: Link, cid: string, from: number): Body {
    const channel = this.channels.get(cid);
    if (!channel) return { cid, status: "error", error: errorBody(16, 404) };
    if (from < channel.purged) return { cid, status: "reload", error: null };
    if (!link.at.has(cid)) link.at.set(cid, from);
    return { cid, status: "ok", error: null };
  }

  /** Sends what is new to whoever is subscribed. */
  pump(): void {
    for (const link of this.links) {
      for (const [cid, at] of link.at) {
        const channel = this.channels.get(cid)!;
        if (at < channel.purged) {
          link.at.delete(cid);
          this.say(link, { type: "channel.reload", cid, reason: "purged" });
          continue;
        }
        for (const event of channel.log.filter((one) => one.version > at)) {
          this.say(link, event);
          if (this.chance(this.faults.twice)) this.say(link, event);
        }
        link.at.set(cid, channel.version);
      }
      if (this.chance(0.1)) this.say(link, { type: "resume", resume: JSON.stringify([...link.at]) });
    }
  }

  private say(link: Link, frame: Body): void {
    link.queue.push(JSON.stringify(frame));
    if (!link.planned) this.deliver(link);
  }

  private deliver(link: Link): void {
    link.planned = true;
    void this.wait().then(() => {
      link.planned = false;
      if (link.ended) return;
      if (this.chance(this.faults.drop)) return this.end(link, 1006);
      const text = link.queue.shift();
      if (text !== undefined) link.socket.say(text);
      if (link.queue.length > 0) this.deliver(link);
    });
  }

  private end(link: Link, code: number): void {
    link.ended = true;
    this.links.delete(link);
    link.socket.end(code);
  }
}
