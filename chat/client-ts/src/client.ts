// The client: one user's connection, channels, and what is asked beside them.

import { Api, Nodes, path } from "./api.js";
import { Channel } from "./channel.js";
import { given, page } from "./channel-calls.js";
import { Connection, type Frame } from "./connection.js";
import type { Core } from "./core.js";
import { Emitter, Store } from "./emitter.js";
import { type ChatEnv, defaultEnv } from "./env.js";
import { ChatError } from "./errors.js";
import type { ClientEvents, ConnectionStatus, UserEvent, Welcome } from "./events.js";
import { Outbox } from "./outbox.js";
import { Refresher } from "./refresher.js";
import { type ChatStorage, memoryStorage, webStorage } from "./storage.js";
import { Sync } from "./sync.js";
import { Tokens, type TokenSource } from "./tokens.js";
import type { Against, ChannelInfo, Filter, InboxEntry, Json, Message, NewMember } from "./types.js";
import type { Page, PageOptions, QueryOptions, Unread, User } from "./types.js";

/** How a client is made. */
export interface ChatOptions {
  /** The address of `keevod`, or of several nodes: `https://chat.example.com`. */
  url: string | string[];
  apiKey: string;
  userId: string;
  /** The user's token, or a function that fetches one; only with a function the client lives longer than the token. */
  token: TokenSource;
  /** Where what waits to be sent outlives the page. `localStorage` where there is one. */
  storage?: ChatStorage;
  /** Not shown among watchers; does not type. */
  invisible?: boolean;
  /** The surroundings: clock, randomness, network. */
  env?: Partial<ChatEnv>;
}

/** What is unread in all channels of the user. */
export interface Totals {
  /** `true` once all of the user's channels were counted. */
  complete: boolean;
  unread: number;
  mentions: number;
  /** By cid. Channels that are watched follow; others are as when they were counted. */
  channels: Readonly<Record<string, Unread>>;
}

const COUNTED_MAX = 1_000;

/** A user's client. Makes no connection before `connect`; calls over HTTP work without one. */
export class ChatClient {
  readonly userId: string;
  /** How the connection is: `get` and `subscribe`. */
  readonly connection: Store<ConnectionStatus>;
  /** Unread counts over all channels; filled by `loadUnread`. */
  readonly unread: Store<Totals>;
  /** Any other call of the API: `client.api.call("GET", "/mutes")`. */
  readonly api: Api;
  private readonly env: ChatEnv;
  private readonly events: Emitter<ClientEvents>;
  private readonly core: Core;
  private readonly link: Connection;
  private readonly channels = new Map<string, Channel>();
  private counting: Promise<Totals> | null = null;
  private unreadWanted = false;

  constructor(options: ChatOptions) {
    const env = { ...defaultEnv(), ...options.env };
    this.env = env;
    this.userId = options.userId;
    this.events = new Emitter(env.report);
    this.connection = new Store<ConnectionStatus>("idle", env.report);
    this.unread = new Store<Totals>({ complete: false, unread: 0, mentions: 0, channels: {} }, env.report);
    const tokens = new Tokens(options.token, env);
    const nodes = new Nodes(options.url);
    this.api = new Api(env, nodes, options.apiKey, tokens);
    const failed = (error: ChatError) => this.events.emit("error", { error });
    this.link = new Connection({
      env,
      nodes,
      tokens,
      apiKey: options.apiKey,
      invisible: options.invisible ?? false,
      hello: () => sync.hello(),
      resumeRefused: () => sync.forget(),
      welcome: (frame) => this.welcome(frame),
      dropped: () => sync.dropped(),
      event: (frame) => this.frame(frame),
      status: (status, error) => {
        this.connection.set(status);
        this.events.emit("connection", { status, error });
      },
      failed,
    });
    const sync = new Sync(env, this.link, failed);
    const outbox = new Outbox({
      env,
      storage: options.storage ?? (typeof localStorage === "undefined" ? memoryStorage() : webStorage()),
      prefix: `keevo-chat ${JSON.stringify([options.apiKey, options.userId])} `,
      deliver: async ({ cid, message }) => {
        const answer = await this.api.call<{ message: Message }>("POST", `${pathOf(cid)}/messages`, { body: message, attempts: 1 });
        return answer.message;
      },
      changed: (cid, stored) => this.channels.get(cid)?.waitingChanged(stored),
      failed,
    });
    this.core = {
      env,
      userId: options.userId,
      api: this.api,
      outbox,
      sync,
      refresher: new Refresher(env, failed),
      send: (frame) => this.link.send(frame),
      emit: (type, event) => this.events.emit(type, event),
      unreadChanged: (cid, unread) => this.count(cid, unread),
      failed,
    };
    void outbox.load();
  }

  // --- The connection ---

  /**
   * Connects, and stays connected: after a drop it goes on where it was. The promise is kept at the first welcome, however
   * long that takes, and broken where the server refuses the user for good.
   */
  connect(): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (status: ConnectionStatus, error: ChatError | null) => {
        if (status === "connecting" || status === "waiting") return;
        off();
        if (status === "connected") resolve();
        else reject(error ?? new ChatError("closed", "the client was disconnected before it was connected"));
      };
      const off = this.on("connection", ({ status, error }) => settle(status, error));
      this.link.start();
      if (this.link.status === "connected") settle("connected", null);
    });
  }

  /** Ends the connection and stops sending; what waits stays in storage. The client is of no further use. */
  disconnect(): void {
    this.core.outbox.close();
    this.core.sync.close();
    this.core.refresher.clear("");
    this.link.stop();
  }

  /** Calls `listener` for each event of the type; gives what ends that. */
  on<Type extends keyof ClientEvents>(type: Type, listener: (event: ClientEvents[Type]) => void): () => void {
    return this.events.on(type, listener);
  }

  private welcome(frame: Welcome): void {
    if (frame.user_id !== this.userId) {
      throw new ChatError("usage", `the token is of user '${frame.user_id}', the client of '${this.userId}'`);
    }
    this.core.sync.welcome(frame);
    this.core.outbox.wake();
    if (this.unreadWanted) void this.loadUnread().catch(this.core.failed);
  }

  private frame(frame: Frame): void {
    if (frame.type === "resume") {
      this.core.sync.resume = String(frame.resume);
    } else if (frame.type.startsWith("user.")) {
      this.userEvent(frame as unknown as UserEvent);
    } else {
      this.core.sync.event(frame);
    }
  }

  private userEvent(event: UserEvent): void {
    if (event.type === "user.channel_added") this.core.sync.added(event.cid);
    if (event.type === "user.channel_removed") this.count(event.cid, null);
    if (event.type === "user.channel_added" || event.type === "user.missed") {
      if (this.unreadWanted) void this.loadUnread().catch(this.core.failed);
    }
    this.events.emit(event.type, event as never);
  }

  // --- Channels ---

  /** The channel with this cid (`team:general`), or type and id. Nothing is asked of the server. */
  channel(cid: string): Channel;
  channel(type: string, id: string): Channel;
  channel(first: string, second?: string): Channel {
    const [type, id] = second === undefined ? split(first) : [first, second];
    const cid = `${type}:${id}`;
    let channel = this.channels.get(cid);
    if (!channel) {
      channel = new Channel(this.core, type, id);
      this.channels.set(cid, channel);
    }
    return channel;
  }

  /** Makes a channel, or gives the one that is there. With `distinct` it is the one of these members and the user. */
  async createChannel(made: NewChannel): Promise<Channel> {
    const body = made.distinct || made.id !== undefined ? made : { ...made, id: this.env.uuid() };
    const { channel } = await this.api.call<{ channel: ChannelInfo }>("POST", "/channels", { body });
    return this.channel(channel.type, channel.id);
  }

  /** Finds channels; `filter` names `cid` or `members`, or the user's own are meant. */
  async queryChannels(filter: Filter = {}, options: QueryOptions = {}): Promise<Page<FoundChannel>> {
    const body = { filter, ...given(options) };
    return page(await this.api.call("POST", "/channels/query", { body }), "channels");
  }

  async inbox(options: PageOptions = {}): Promise<Page<InboxEntry>> {
    return page(await this.api.call("GET", "/inbox", { query: { ...options } }), "entries");
  }

  async invites(options: PageOptions = {}): Promise<Page<{ cid: string; role: string; invited_at: number }>> {
    return page(await this.api.call("GET", "/invites", { query: { ...options } }), "invites");
  }

  /** Counts what is unread in all of the user's channels (up to 1,000), now and after each new connection. */
  loadUnread(): Promise<Totals> {
    this.unreadWanted = true;
    this.counting ??= this.countAll().finally(() => {
      this.counting = null;
    });
    return this.counting;
  }

  private async countAll(): Promise<Totals> {
    const channels: Record<string, Unread> = {};
    let cursor: string | null = null;
    do {
      const answer: { channels: Unread[]; next: string | null } = await this.api.call("GET", "/unread", { query: { limit: 100, cursor } });
      for (const unread of answer.channels) channels[unread.cid] = unread;
      cursor = answer.next;
    } while (cursor !== null && Object.keys(channels).length < COUNTED_MAX);
    // Channels that are followed are as new or newer.
    for (const channel of this.channels.values()) {
      if (channel.state.sync === "live" && channel.state.unread) channels[channel.cid] = channel.state.unread;
    }
    this.setTotals(channels, cursor === null);
    return this.unread.get();
  }

  private count(cid: string, unread: Unread | null): void {
    const { channels, complete } = this.unread.get();
    if (unread) this.setTotals({ ...channels, [cid]: unread }, complete);
    else if (cid in channels) this.setTotals(Object.fromEntries(Object.entries(channels).filter(([held]) => held !== cid)), complete);
    this.events.emit("unread", { cid });
  }

  private setTotals(channels: Record<string, Unread>, complete: boolean): void {
    const totals = { complete, unread: 0, mentions: 0, channels };
    for (const { unread, mentions } of Object.values(channels)) {
      totals.unread += unread;
      totals.mentions += mentions;
    }
    this.unread.set(totals);
  }

  // --- Users and files ---

  async user(id: string): Promise<User> {
    return (await this.api.call<{ user: User }>("GET", path`/users/${id}`)).user;
  }

  async queryUsers(filter: Filter, options: QueryOptions = {}): Promise<Page<User>> {
    return page(await this.api.call("POST", "/users/query", { body: { filter, ...given(options) } }), "users");
  }

  /** Changes the user's own data. */
  async updateMe(change: { custom?: Json | null; set?: Json; unset?: string[] }): Promise<User> {
    return (await this.api.call<{ user: User }>("PATCH", path`/users/${this.userId}`, { body: change })).user;
  }

  async mute(user: string, for_ms?: number): Promise<void> {
    await this.api.call("PUT", path`/mutes/${user}`, { body: for_ms === undefined ? {} : { for_ms } });
  }

  async unmute(user: string): Promise<void> {
    await this.api.call("DELETE", path`/mutes/${user}`);
  }

  async block(user: string): Promise<void> {
    await this.api.call("PUT", path`/blocks/${user}`, { body: {} });
  }

  async unblock(user: string): Promise<void> {
    await this.api.call("DELETE", path`/blocks/${user}`);
  }

  async mutes(options: PageOptions = {}): Promise<Page<Against>> {
    return page(await this.api.call("GET", "/mutes", { query: { ...options } }), "users");
  }

  async blocks(options: PageOptions = {}): Promise<Page<Against>> {
    return page(await this.api.call("GET", "/blocks", { query: { ...options } }), "users");
  }

  /** Stores a file, of at most 20 MiB, and gives its address, for an attachment. Addresses expire: `fileUrl` renews one. */
  async upload(file: Blob, options: { name?: string; image?: boolean } = {}): Promise<string> {
    const form = new FormData();
    form.append("file", file, options.name ?? (file as Partial<File>).name ?? "file");
    return (await this.api.call<{ file: string }>("POST", options.image ? "/images" : "/files", { form, attempts: 1 })).file;
  }

  /** A fresh address of a stored file, or of an image in another size. */
  async fileUrl(url: string, size?: { w?: number; h?: number; resize?: string }): Promise<string> {
    return (await this.api.call<{ file: string }>("GET", size ? "/images" : "/files", { query: { url, ...size } })).file;
  }
}

/** A channel to make. */
export interface NewChannel {
  type: string;
  id?: string;
  members?: (string | NewMember)[];
  distinct?: boolean;
  team?: string;
  custom?: Json;
}

/** A channel that a query found. */
export interface FoundChannel {
  channel: ChannelInfo;
  last_sequence: number;
  last_message_at: number | null;
}

function split(cid: string): [string, string] {
  const at = cid.indexOf(":");
  if (at <= 0 || at === cid.length - 1) throw new ChatError("usage", `'${cid}' is no cid: it has to be type:id`);
  return [cid.slice(0, at), cid.slice(at + 1)];
}

function pathOf(cid: string): string {
  const [type, id] = split(cid);
  return path`/channels/${type}/${id}`;
}
