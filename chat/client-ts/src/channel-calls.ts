// The calls of a channel that its state has no part in.

import { type Api, path } from "./api.js";
import type { Filter, Json, Member, Message, NewMember, OldText, Page, PageOptions, Preference } from "./types.js";
import type { QueryOptions, Reaction, ThreadUnread } from "./types.js";

/** How a new page of messages is asked for. */
export interface MessagesOptions {
  limit?: number;
  before?: number;
  after?: number;
  order?: "newest" | "oldest";
}

/** Up to where something is read: neither = all of it. */
export type ReadTo = { sequence?: number } | { message_id?: string };

/** What a channel is asked, and told, over HTTP; `Channel` adds the state. Each call throws a `ChatError`. */
export abstract class ChannelCalls {
  protected readonly base: string;

  constructor(
    protected readonly api: Api,
    readonly type: string,
    readonly id: string,
  ) {
    this.base = path`/channels/${type}/${id}`;
  }

  /** A page of messages, beside the state. */
  messages(options: MessagesOptions = {}): Promise<{ messages: Message[]; next: number | null }> {
    return this.get("/messages", { ...options });
  }

  /** Finds messages by a filter. */
  async queryMessages(filter: Filter, options: QueryOptions = {}): Promise<Page<Message>> {
    return page(await this.post("/messages/query", { filter, ...given(options) }), "messages");
  }

  async message(id: string): Promise<Message> {
    return (await this.get<{ message: Message }>(path`/messages/${id}`)).message;
  }

  async flag(id: string, reason?: string): Promise<void> {
    await this.post(path`/messages/${id}/flag`, reason === undefined ? {} : { reason });
  }

  /** What a message said before its edits. */
  async edits(id: string): Promise<OldText[]> {
    return (await this.get<{ edits: OldText[] }>(path`/messages/${id}/edits`)).edits;
  }

  // --- Reactions ---

  /** Reacts to a message; `unique` takes back the user's other reactions on it. */
  async react(id: string, type: string, options: { score?: number; custom?: Json; unique?: boolean } = {}): Promise<boolean> {
    return (await this.post<{ changed: boolean }>(path`/messages/${id}/reactions`, { type, ...options })).changed;
  }

  async unreact(id: string, type: string): Promise<boolean> {
    const at = path`/messages/${id}/reactions/${type}`;
    return (await this.api.call<{ changed: boolean }>("DELETE", this.base + at)).changed;
  }

  async reactions(id: string, limit = 100): Promise<Reaction[]> {
    return (await this.get<{ reactions: Reaction[] }>(path`/messages/${id}/reactions`, { limit })).reactions;
  }

  replies(parent: string, options: MessagesOptions = {}): Promise<{ messages: Message[]; next: number | null }> {
    return this.get(path`/messages/${parent}/replies`, { order: "newest", ...options });
  }

  /** The threads that the user takes part in or follows. */
  async threads(options: PageOptions = {}): Promise<Page<{ parent: Message; unread: number; read_sequence: number; last_sequence: number }>> {
    return page(await this.get("/threads", { ...options }), "threads");
  }

  async threadUnread(parent: string): Promise<ThreadUnread> {
    return (await this.get<{ thread: ThreadUnread }>(path`/messages/${parent}/thread`)).thread;
  }

  async followThread(parent: string, follow = true): Promise<void> {
    await this.post(path`/messages/${parent}/thread/follow`, { follow });
  }

  async delivered(sequence: number): Promise<void> {
    await this.post("/delivered", { sequence });
  }

  // --- Members and the channel itself ---

  async members(options: PageOptions = {}): Promise<Page<Member>> {
    return page(await this.get("/members", { ...options }), "members");
  }

  async queryMembers(filter: Filter, options: QueryOptions = {}): Promise<Page<Member>> {
    return page(await this.post("/members/query", { filter, ...given(options) }), "members");
  }

  async addMembers(members: (string | NewMember)[]): Promise<void> {
    await this.post("/members", { members });
  }

  async updateMembers(members: NewMember[]): Promise<void> {
    await this.api.call("PATCH", `${this.base}/members`, { body: { members } });
  }

  async removeMember(user: string): Promise<boolean> {
    return (await this.api.call<{ removed: boolean }>("DELETE", this.base + path`/members/${user}`)).removed;
  }

  async invite(users: (string | NewMember)[]): Promise<void> {
    await this.post("/invites", { users });
  }

  async acceptInvite(): Promise<Member> {
    return (await this.post<{ member: Member }>("/invites/accept", {})).member;
  }

  async rejectInvite(): Promise<void> {
    await this.post("/invites/reject", {});
  }

  async join(): Promise<Member> {
    return (await this.post<{ member: Member }>("/join", {})).member;
  }

  async leave(): Promise<void> {
    await this.post("/leave", {});
  }

  /** Hides, archives, pins or mutes the channel for the user. */
  async prefer(preference: Preference): Promise<void> {
    await this.api.call("PATCH", `${this.base}/preference`, { body: preference });
  }

  async update(change: { custom?: Json | null; set?: Json; unset?: string[] }): Promise<void> {
    await this.api.call("PATCH", this.base, { body: change });
  }

  /** Any other call of the channel: `channel.call("POST", "/freeze", { frozen: true })`. */
  call<T = unknown>(method: string, at: string, body?: unknown): Promise<T> {
    return this.api.call<T>(method, this.base + at, body === undefined ? {} : { body });
  }

  protected get<T = Json>(at: string, query: Record<string, string | number | null | undefined> = {}): Promise<T> {
    return this.api.call<T>("GET", this.base + at, { query });
  }

  protected post<T = Json>(at: string, body: unknown): Promise<T> {
    return this.api.call<T>("POST", this.base + at, { body });
  }
}

/** A page as the client gives it: the answer has its entries under `name`. */
export function page<T>(answer: { [name: string]: unknown }, name: string): Page<T> {
  return { items: answer[name] as T[], next: (answer.next ?? null) as string | null };
}

/** The options without those that are not set: a body has no field that is `null` for nothing. */
export function given(options: QueryOptions): Partial<QueryOptions> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== null && value !== undefined));
}
