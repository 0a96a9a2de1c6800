// The objects of the protocol, as docs/CHAT-API.md has them. Times are milliseconds since the epoch.

/** A JSON object. */
export type Json = Record<string, unknown>;

/** A channel itself; what is in it lies in `ChannelState`. */
export interface ChannelInfo {
  cid: string;
  type: string;
  id: string;
  created_by: string;
  created_at: number;
  updated_at: number | null;
  custom: Json | null;
  team: string | null;
  distinct: boolean;
  frozen: boolean;
  disabled: boolean;
  slow_mode_ms: number | null;
  /** Messages up to this sequence are not shown. */
  truncated: number;
}

/** Whom a message mentions. */
export interface Mentions {
  users: string[];
  groups: string[];
  channel: boolean;
}

/** A message as the server stores it. */
export interface Message {
  id: string;
  cid: string;
  /** 1, 2, 3… without gaps in the channel; `null` for replies. */
  sequence: number | null;
  /** The same in the thread; `null` for messages that are no replies. */
  thread_sequence: number | null;
  parent_id: string | null;
  parent_sequence: number | null;
  user_id: string;
  text: string;
  custom: Json | null;
  attachments: Json[];
  mentions: Mentions;
  quoted_id: string | null;
  /** The poll that it shows: `@keevo/chat/more` reads it. */
  poll_id?: string | null;
  /** Whether it shares where its sender is. */
  shares_location?: boolean;
  pinned: { at: number; by: string; until: number | null } | null;
  system: boolean;
  silent: boolean;
  /** Only its sender sees it. */
  shadowed: boolean;
  created_at: number;
  updated_at: number | null;
  deleted_at: number | null;
  erased: boolean;
  /** 1 when sent, one more with each change: the highest wins. */
  version: number;
  /** Replies that are not deleted; like the next three, `null` where it was not read: keep what is there. */
  reply_count: number | null;
  reactions: Record<string, number> | null;
  scores: Record<string, number> | null;
  own_reactions: string[] | null;
}

/** A message to send. One of `text`, `custom` and `attachments` has to say something. */
export interface NewMessage {
  /** Chosen by the client; left out = a UUID is made up. */
  id?: string;
  text?: string;
  parent_id?: string;
  custom?: Json;
  attachments?: Json[];
  mentions?: Partial<Mentions>;
  quoted_id?: string;
  poll_id?: string;
  silent?: boolean;
}

/** What an edit changes; what is left out stays. `set` and `unset` change paths of `custom`. */
export interface MessageEdit {
  text?: string;
  custom?: Json | null;
  set?: Json;
  unset?: string[];
  attachments?: Json[];
  mentions?: Partial<Mentions>;
}

/** What a message said before an edit. */
export interface OldText {
  version: number;
  text: string;
  custom: Json | null;
  attachments: Json[];
  replaced_at: number;
  replaced_by: string;
}

export interface Member {
  user_id: string;
  role: string;
  grants: string[];
  joined_at: number;
  custom: Json | null;
}

/** A member to add. */
export interface NewMember {
  user_id: string;
  role?: string;
  grants?: string[];
  custom?: Json;
}

export interface Reaction {
  message_id: string;
  user_id: string;
  type: string;
  score: number;
  created_at: number;
  custom: Json | null;
}

/** Up to where a member has read. */
export interface Read {
  user_id: string;
  sequence: number;
  read_at: number;
}

/** Up to where a member has got messages. */
export interface Receipt {
  user_id: string;
  sequence: number;
  delivered_at: number;
}

/** What of a channel's own sequence is unread, as of `last_sequence`. */
export interface Unread {
  cid: string;
  unread: number;
  mentions: number;
  read_sequence: number;
  last_sequence: number;
}

/** The same of a thread. */
export interface ThreadUnread {
  parent_id: string;
  unread: number;
  mentions: number;
  read_sequence: number;
  last_sequence: number;
}

export interface Invite {
  user_id: string;
  state: "pending" | "rejected" | "revoked";
  role: string;
  grants: string[];
  custom: Json | null;
  invited_by: string;
  invited_at: number;
  answered_at: number | null;
}

export interface Ban {
  user_id: string;
  banned_by: string;
  banned_at: number;
  expires_at: number | null;
  reason: string | null;
  shadow: boolean;
}

export interface User {
  id: string;
  role: string;
  teams: string[];
  custom: Json | null;
  created_at: number;
  updated_at: number | null;
  deactivated_at: number | null;
}

/** A user whom the caller has muted or blocked. */
export interface Against {
  user_id: string;
  since: number;
  until: number | null;
}

/** A channel of the caller, with what the caller wants of it. */
export interface InboxEntry {
  cid: string;
  role: string;
  joined_at: number;
  last_sequence: number;
  hidden: boolean;
  archived_at: number | null;
  pinned_at: number | null;
  muted: boolean;
  muted_until: number | null;
}

/** One wish of the caller about a channel. */
export type Preference =
  | { hidden: boolean }
  | { archived: boolean }
  | { pinned: boolean }
  | { muted: boolean }
  | { muted_for_ms: number };

/** A page: `next` goes on behind it and is `null` at the end. A short page with a `next` goes on too. */
export interface Page<T> {
  items: T[];
  next: string | null;
}

/** A filter, such as `{"custom.name": {"$autocomplete": "pla"}}`; docs/CHAT.md has the operators. */
export type Filter = Json;

/** How much of a list is asked for. */
export interface PageOptions {
  limit?: number;
  cursor?: string | null;
}

/** A filter's order and page. */
export interface QueryOptions extends PageOptions {
  /** A field, with `-` before it for the other way round. */
  sort?: string;
}

/** What `GET /channels/{type}/{id}` answers. */
export interface ChannelAnswer {
  channel: ChannelInfo;
  messages: Message[];
  before: number | null;
  members: Member[];
  membership: Member | null;
  own_capabilities: string[];
  reads: Read[];
  pinned: Message[];
  unread: Unread | null;
  watchers: { user_ids: string[]; count: number };
  users: Record<string, User>;
  resume: string;
}
