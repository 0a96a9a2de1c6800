// A channel: its state, and what one does in it.

import { path } from "./api.js";
import { ChannelCalls, type ReadTo } from "./channel-calls.js";
import type { Core } from "./core.js";
import { Emitter, Store } from "./emitter.js";
import type { ChatError } from "./errors.js";
import type { ChannelEvent, ChannelEvents } from "./events.js";
import { draft, mergeMessage } from "./messages.js";
import type { Entry } from "./outbox.js";
import { type Ask, confirmed, reduce } from "./reduce.js";
import * as State from "./state.js";
import type { ChannelAnswer, Message, MessageEdit, NewMessage, Read, ThreadUnread, Unread } from "./types.js";

const TYPING_REPEAT_MS = 3_000;
const UNWATCH_MS = 1_000;
/** How long reads that follow events wait for more of the same. */
const UNREAD_DELAY_MS = 100;
const COUNTS_DELAY_MS = 400;
/** So many reads are waiting: reading the channel costs less. */
const ASKED_MAX = 50;

/** A channel of the client. `client.channel(type, id)` gives the same object each time. */
export class Channel extends ChannelCalls {
  readonly cid: string;
  /** The state: `get` and `subscribe`. */
  readonly store: Store<State.ChannelState>;
  private readonly events: Emitter<ChannelEvents>;
  private watched = 0;
  private unwatch_timer: unknown = null;
  private presence_is_new = true;
  /** Counts the pages of the newest messages: what was asked for before the last one is passed over. */
  private round = 0;
  private older: Promise<boolean> | null = null;
  private readonly typed_at = new Map<string | null, number>();
  /** What is shown of each message that waits: the same as long as nothing of it changes. */
  private readonly drafts = new WeakMap<Entry, State.WaitingMessage>();
  /** Of each read that is under way: the messages that events named meanwhile. */
  private readonly reading = new Set<Set<string>>();
  private marks = 0;
  private marked: Promise<Unread> | null = null;

  constructor(
    private readonly core: Core,
    type: string,
    id: string,
  ) {
    super(core.api, type, id);
    this.cid = `${type}:${id}`;
    this.store = new Store(State.emptyState(this.cid), core.env.report);
    this.events = new Emitter(core.env.report);
    this.waitingChanged(null);
  }

  /** What is known of the channel now. */
  get state(): State.ChannelState {
    return this.store.get();
  }

  /** Calls `listener` for each event of the channel while it is watched; gives what ends that. */
  on<Type extends keyof ChannelEvents>(type: Type, listener: (event: ChannelEvents[Type]) => void): () => void {
    return this.events.on(type, listener);
  }

  // --- Following ---

  /**
   * Reads the channel and follows it, over drops too, until `unwatch` was called as often. Kept once the state is there;
   * broken where the user may not read it.
   */
  async watch(): Promise<State.ChannelState> {
    this.core.env.clearTimeout(this.unwatch_timer);
    this.watched += 1;
    try {
      await this.core.sync.want(this);
    } catch (error) {
      this.watched = Math.max(0, this.watched - 1);
      throw error;
    }
    return this.state;
  }

  /** Ends what one `watch` began, a moment later: whoever watches again at once goes on. */
  unwatch(): void {
    this.watched = Math.max(0, this.watched - 1);
    if (this.watched > 0) return;
    this.core.env.clearTimeout(this.unwatch_timer);
    this.unwatch_timer = this.core.env.setTimeout(() => {
      if (this.watched === 0) this.core.sync.unwant(this.cid);
    }, UNWATCH_MS);
  }

  /** Reads the channel for the synchronization; gives where to go on from. */
  async load(): Promise<string> {
    const answer = await this.get<ChannelAnswer>("", { messages: 25, members: 30 });
    this.round += 1;
    this.older = null;
    this.core.refresher.clear(`${this.cid} `);
    this.set(without(State.loaded(this.state, answer, this.core.userId), answer.messages));
    for (const message of answer.messages) this.core.outbox.settle(message);
    for (const parent of Object.keys(this.state.threads)) this.askReplies(parent, 25);
    return answer.resume;
  }

  event(event: ChannelEvent): void {
    if (event.type === "channel.presence" && this.presence_is_new) {
      // The first one tells of all.
      this.presence_is_new = false;
      this.set({ ...this.state, watchers: [] });
    }
    for (const named of this.reading) for (const id of namesOf(event)) named.add(id);
    const { state, ask } = reduce(this.state, event, this.core.userId);
    this.set(event.type === "message.new" ? without(state, [event.message]) : state);
    if (event.type === "message.new") this.core.outbox.settle(event.message);
    for (const one of ask) this.ask(one);
    // Another device may have marked after what is being marked here.
    if (event.type === "message.read" && event.read.user_id === this.core.userId && this.marked) this.ask({ what: "unread" });
    this.events.emit(event.type, event as never);
    this.core.emit(event.type, event as never);
  }

  sync(status: State.SyncStatus, error: ChatError | null): void {
    const sync = status === "behind" && this.state.channel === null ? "loading" : status;
    if (sync !== "live") this.presence_is_new = true;
    const passing = sync === "live" ? {} : { typing: [] };
    this.set({ ...this.state, ...passing, sync, error });
  }

  /** The queue of what waits changed; `stored` was confirmed. */
  waitingChanged(stored: Message | null): void {
    const waiting = this.core.outbox.waiting(this.cid).map(({ entry, error }) => {
      let shown = this.drafts.get(entry);
      if (!shown) {
        const status = error ? "failed" : "sending";
        shown = { ...draft(this.cid, this.core.userId, entry.message, entry.queued_at), status, error };
        this.drafts.set(entry, shown);
      }
      return shown;
    });
    this.set({ ...(stored ? confirmed(this.state, stored) : this.state), waiting });
  }

  // --- Messages ---

  /**
   * Sends a message: it is shown at once among `state.waiting`, kept over reloads of the page, and sent when there is a
   * connection, in order and once. The promise is the stored message; it fails where the server refuses it, and then the
   * message waits for `retry` or `discard`. Fails at once with `queue-full` where too many wait.
   */
  send(message: NewMessage): Promise<Message> {
    this.stopTyping(message.parent_id ?? null);
    return this.core.outbox.add(this.cid, { ...message, id: message.id ?? this.core.env.uuid() });
  }

  /** Sends a refused message again, behind what waits. */
  retry(id: string): boolean {
    return this.core.outbox.retry(this.cid, id);
  }

  /** Gives up a message that waits; `false` while it is being sent. */
  discard(id: string): boolean {
    return this.core.outbox.discard(this.cid, id);
  }

  /** Loads a page of older messages into the state; `false` when there are no more. */
  loadOlder(limit = 25): Promise<boolean> {
    this.older ??= this.readOlder(limit).finally(() => {
      this.older = null;
    });
    return this.older;
  }

  private async readOlder(limit: number): Promise<boolean> {
    const { before } = this.state;
    if (before === null) return false;
    await this.show(this.messages({ limit, before, order: "newest" }), ({ messages, next }) => {
      return State.withOlder(this.state, messages, next);
    });
    return this.state.before !== null;
  }

  edit(id: string, change: MessageEdit): Promise<Message> {
    return this.change("PATCH", path`/messages/${id}`, change);
  }

  /** Deletes a message; with `erase` nothing of it is kept. */
  delete(id: string, options: { erase?: boolean } = {}): Promise<Message> {
    return this.change("DELETE", path`/messages/${id}`, undefined, options.erase ? { erase: true } : {});
  }

  undelete(id: string): Promise<Message> {
    return this.change("POST", path`/messages/${id}/undelete`, {});
  }

  pin(id: string, until?: number): Promise<Message> {
    return this.change("POST", path`/messages/${id}/pin`, { pinned: true, ...(until === undefined ? {} : { until }) });
  }

  unpin(id: string): Promise<Message> {
    return this.change("POST", path`/messages/${id}/pin`, { pinned: false });
  }

  // --- Threads ---

  /**
   * Loads a thread's newest replies and unread count into `state.threads`, and follows them until `closeThread`. Where nothing
   * answers the promise is broken, and it is tried again all the same.
   */
  async openThread(parent: string, limit = 25): Promise<State.ThreadState> {
    const closed: State.ThreadState = { parent_id: parent, status: "loading", replies: [], before: null, unread: null, head: 0 };
    const open = { ...(this.state.threads[parent] ?? closed), status: "loading" as const };
    this.set({ ...this.state, threads: { ...this.state.threads, [parent]: open } });
    try {
      await this.readReplies(parent, limit);
    } catch (error) {
      if ((error as ChatError).isTransient) this.askReplies(parent, limit);
      else this.set(State.withThread(this.state, parent, (thread) => ({ ...thread, status: "failed" })));
      throw error;
    }
    return this.state.threads[parent] ?? open;
  }

  private async readReplies(parent: string, limit: number): Promise<void> {
    const read = async () => {
      const replies = await this.replies(parent, { limit });
      return { ...replies, unread: this.state.membership ? await this.threadUnread(parent) : null };
    };
    await this.show(read(), ({ messages, next, unread }) => {
      return State.withThreadUnread(State.withReplies(this.state, parent, messages, next), parent, unread, this.core.userId);
    });
  }

  private askReplies(parent: string, limit: number): void {
    this.core.refresher.ask(`${this.cid} replies ${parent}`, 0, async () => {
      if (this.state.threads[parent]) await this.readReplies(parent, limit);
    });
  }

  /** Forgets a thread's replies. */
  closeThread(parent: string): void {
    const { [parent]: _, ...threads } = this.state.threads;
    this.set({ ...this.state, threads });
  }

  /** Loads a page of older replies into the state; `false` when there are no more. */
  async loadOlderReplies(parent: string, limit = 25): Promise<boolean> {
    const before = this.state.threads[parent]?.before ?? null;
    if (before === null) return false;
    await this.show(this.replies(parent, { limit, before }), ({ messages, next }) => {
      return State.withOlderReplies(this.state, parent, messages, next);
    });
    return (this.state.threads[parent]?.before ?? null) !== null;
  }

  async markThreadRead(parent: string, to: ReadTo = {}): Promise<ThreadUnread> {
    const { thread } = await this.post<{ thread: ThreadUnread }>(path`/messages/${parent}/thread/read`, to);
    this.set(State.withThreadUnread(this.state, parent, thread, this.core.userId));
    return thread;
  }

  // --- Read state ---

  /** Marks the channel read, up to a message, or all. A call while one is under way waits for it. */
  async markRead(to: ReadTo = {}): Promise<Unread> {
    while (this.marked) await this.marked.catch(() => {});
    return this.mark("/read", to);
  }

  /** Marks it unread from this sequence on. */
  async markUnread(from_sequence: number): Promise<Unread> {
    while (this.marked) await this.marked.catch(() => {});
    return this.mark("/unread", { from_sequence });
  }

  private mark(at: string, body: object): Promise<Unread> {
    this.marked = this.post<{ read: Read; unread: Unread }>(at, body)
      .then(({ unread }) => {
        this.setUnread(this.state, unread);
        return unread;
      })
      .finally(() => {
        this.marks += 1;
        this.marked = null;
      });
    return this.marked;
  }

  /** Reads the user's unread count; what was marked meanwhile is newer. */
  private async readUnread(): Promise<void> {
    for (;;) {
      while (this.marked) await this.marked.catch(() => {});
      const { marks, round } = this;
      const { unread } = await this.get<{ unread: Unread }>("/unread");
      if (round !== this.round) return;
      if (marks !== this.marks || this.marked) continue;
      if (this.state.unread) this.setUnread(this.state, unread);
      return;
    }
  }

  // --- Typing ---

  /** To be called with each key: tells others, at most every 3 s, that the user types. It ends by itself 6 s later. */
  keystroke(parent_id: string | null = null): void {
    const now = this.core.env.now();
    if (now - (this.typed_at.get(parent_id) ?? -TYPING_REPEAT_MS) < TYPING_REPEAT_MS) return;
    this.typed_at.set(parent_id, now);
    this.core.send({ type: "typing", cid: this.cid, ...(parent_id === null ? {} : { parent_id }), typing: true });
  }

  stopTyping(parent_id: string | null = null): void {
    if (!this.typed_at.delete(parent_id)) return;
    this.core.send({ type: "typing", cid: this.cid, ...(parent_id === null ? {} : { parent_id }), typing: false });
  }

  private ask(ask: Ask): void {
    const { refresher } = this.core;
    if (ask.what === "channel" || refresher.size > ASKED_MAX) return this.core.sync.reload(this.cid);
    const { round } = this;
    const run = async (read: () => Promise<void>) => {
      if (round === this.round) await read();
    };
    const key = `${this.cid} ${ask.what}`;
    if (ask.what === "unread") refresher.ask(key, UNREAD_DELAY_MS, () => run(() => this.readUnread()));
    else if (ask.what === "pinned") refresher.ask(key, COUNTS_DELAY_MS, () => run(() => this.readPinned()));
    else if (ask.what === "counts") refresher.ask(`${key} ${ask.message}`, COUNTS_DELAY_MS, () => run(() => this.readCounts(ask.message)));
    else refresher.ask(`${key} ${ask.message}`, UNREAD_DELAY_MS, () => run(() => this.readThread(ask.message)));
  }

  private readPinned(): Promise<void> {
    const read = this.get<{ messages: Message[] }>("/pinned", { limit: 10 });
    return this.show(read, ({ messages }) => ({ ...this.state, pinned: messages }));
  }

  private readCounts(id: string): Promise<void> {
    return this.show(this.message(id), (message) => State.withCounts(this.state, message));
  }

  private async readThread(parent: string): Promise<void> {
    const { round } = this;
    const unread = await this.threadUnread(parent);
    if (round === this.round) this.set(State.withThreadUnread(this.state, parent, unread, this.core.userId));
  }

  /**
   * Reads something and shows it, unless the channel was read anew meanwhile. A message that an event named meanwhile is
   * read again: the answer may be from before, and the event may have met no such message.
   */
  private async show<T>(read: Promise<T>, next: (answer: T) => State.ChannelState): Promise<void> {
    const { round } = this;
    const named = new Set<string>();
    this.reading.add(named);
    try {
      const answer = await read;
      if (round !== this.round) return;
      this.set(next(answer));
      for (const id of named) if (State.find(this.state, id)) this.ask({ what: "counts", message: id });
    } finally {
      this.reading.delete(named);
    }
  }

  private async change(method: string, at: string, body?: unknown, query: Record<string, boolean> = {}): Promise<Message> {
    const options = body === undefined ? { query } : { query, body };
    const { message } = await this.api.call<{ message: Message }>(method, this.base + at, options);
    this.set(State.withChanged(this.state, message.id, (old) => mergeMessage(old, message)));
    return message;
  }

  private setUnread(state: State.ChannelState, unread: Unread): void {
    this.set(State.withUnread(state, unread, this.core.userId));
  }

  private set(state: State.ChannelState): void {
    const before = this.state.unread;
    this.store.set(state);
    if (before !== state.unread) this.core.unreadChanged(this.cid, state.unread);
  }
}

/** The state without what waits but is stored already: a page shows a message once. */
function without(state: State.ChannelState, stored: readonly Message[]): State.ChannelState {
  const ids = new Set(stored.map((message) => message.id));
  const waiting = state.waiting.filter((message) => !ids.has(message.id));
  return waiting.length === state.waiting.length ? state : { ...state, waiting };
}

/** The messages that an event changes. */
function namesOf(event: ChannelEvent): string[] {
  if ("reaction" in event) return [event.reaction.message_id];
  if ("message" in event) return [event.message.id, event.message.parent_id ?? event.message.id];
  return [];
}
