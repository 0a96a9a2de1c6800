// What the socket says, by type. Unknown types are passed over.

import type { ChatError, ErrorBody } from "./errors.js";
import type { Ballot, Draft, Poll, Reminder } from "./more.js";
import type { ChannelInfo, Invite, Member, Message, Reaction, Read, Receipt, User } from "./types.js";

/** Where an event stands in its channel: `[version, index]` only grows. */
export interface Placed {
  cid: string;
  version: number;
  index: number;
}

/** The events of a channel's own changes: each comes once and in order, over drops too. */
export interface DurableEvents {
  "channel.created": Placed & { channel: ChannelInfo };
  "channel.updated": Placed & { channel: ChannelInfo };
  "message.new": Placed & { message: Message };
  "message.updated": Placed & { message: Message };
  "message.deleted": Placed & { message: Message };
  "reaction.new": Placed & { reaction: Reaction };
  "reaction.deleted": Placed & { reaction: Reaction };
  "message.read": Placed & { read: Read };
  "message.delivered": Placed & { receipt: Receipt };
  "member.added": Placed & { member: Member };
  "member.updated": Placed & { member: Member };
  "member.removed": Placed & { user_id: string };
  "invite.new": Placed & { invite: Invite };
  "invite.rejected": Placed & { invite: Invite };
  "invite.revoked": Placed & { invite: Invite };
  "poll.created": Placed & { poll: Poll };
  "poll.updated": Placed & { poll: Poll };
  "poll.closed": Placed & { poll: Poll };
  "poll.deleted": Placed & { poll_id: string };
  /** What a user votes now: read the counts by `poll` of `@keevo/chat/more`. */
  "poll.voted": Placed & { ballot: Ballot };
}

/** Who types where: `parent_id` names a thread. */
export interface Typing {
  user_id: string;
  parent_id: string | null;
}

/** Events of a channel that are not part of its history. */
export interface PassingEvents {
  "channel.reload": { cid: string; reason: string };
  "channel.removed": { cid: string; reason: string };
  "channel.presence": { cid: string; joined: string[]; left: string[]; watchers: number; typing: Typing[] };
}

/** What happens to the user; not resumed. */
export interface UserEvents {
  "user.channel_added": { cid: string; role: string };
  "user.channel_removed": { cid: string };
  "user.invited": { cid: string; role: string };
  "user.updated": { user: User };
  "user.preference": { cid: string };
  /** Whom the user muted or blocked changed. */
  "user.against": Record<never, never>;
  "user.draft": { draft: Draft };
  "user.draft_removed": { cid: string; parent_id: string | null };
  "user.reminder": { reminder: Reminder };
  "user.reminder_due": { reminder: Reminder };
  "user.reminder_removed": { cid: string; message_id: string };
  "user.group_joined": { group_id: string };
  "user.group_left": { group_id: string };
  /** Some events of the user were missed: read `inbox`, `invites` and unread counts anew. */
  "user.missed": Record<never, never>;
}

export type ChannelEvents = DurableEvents & PassingEvents;

type Tagged<Map> = { [Type in keyof Map]: { type: Type } & Map[Type] }[keyof Map];

export type DurableEvent = Tagged<DurableEvents>;
export type PassingEvent = Tagged<PassingEvents>;
export type UserEvent = Tagged<UserEvents>;
export type ChannelEvent = DurableEvent | PassingEvent;

/** How the connection is. `refused` stays so until `connect` is called again. */
export type ConnectionStatus = "idle" | "connecting" | "connected" | "waiting" | "refused";

/** What the client itself tells. */
export interface ClientEvents extends UserEvents, ChannelEvents {
  /** The connection has another status; with the error that led to it. */
  connection: { status: ConnectionStatus; error: ChatError | null };
  /** `unread` of some channel, or the sum of them, changed. */
  unread: { cid: string };
  /** Something failed that no call was waiting for, such as storage that is full. */
  error: { error: ChatError };
}

/** Whether the type is one of a channel's history. */
export function isDurable(event: { type: string }): event is DurableEvent {
  return typeof (event as Partial<Placed>).version === "number" && /^(channel|message|reaction|member|invite|poll|location)\./.test(event.type);
}

/** What a channel's subscription came to. */
export interface Subscribed {
  cid: string;
  status: "ok" | "reload" | "error";
  error: ErrorBody | null;
}

/** The first frame of a connection that stands. */
export interface Welcome {
  type: "welcome";
  connection_id: string;
  user_id: string;
  heartbeat_ms: number;
  time: number;
  limits: { channels: number; frame_bytes: number; sockets: number };
  channels: Subscribed[];
  resume: string;
}
