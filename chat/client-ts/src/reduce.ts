// How a channel's state follows its events. Pure: (state, event) to (state, what has to be asked of the server).
//
// Invariant: events come once and in order, but what a call answered may be ahead of them. So a message's version decides,
// counts are followed by events only where they are known from zero, and all other counts are asked for again.

import type { ChannelEvent } from "./events.js";
import { counts, findById, mergeMessage, names, placeOf, withMessage } from "./messages.js";
import { type ChannelState, find, MESSAGES_MAX, PEOPLE_MAX, type Tracked, truncated, withChanged, withThread } from "./state.js";
import type { Member, Message, Reaction, Read } from "./types.js";

/** What has to be read from the server, since the event does not say it. */
export type Ask = { what: "unread" } | { what: "channel" } | { what: "pinned" } | { what: "counts" | "thread"; message: string };

/** A state, and what has to be asked for. */
export interface Reduced {
  state: ChannelState;
  ask: Ask[];
}

const PINNED_MAX = 10;
/** Reactions of a message that are followed one by one; beyond, its counts are asked for. */
const TRACKED_MAX = 300;

/** Applies an event of the channel. `me` is the user. */
export function reduce(state: ChannelState, event: ChannelEvent, me: string): Reduced {
  switch (event.type) {
    case "channel.created":
    case "channel.updated": {
      const isCut = event.channel.truncated > (state.channel?.truncated ?? 0);
      const next = { ...state, channel: event.channel };
      return isCut ? { state: truncated(next), ask: [{ what: "unread" }] } : { state: next, ask: [] };
    }
    case "message.new":
      return event.message.parent_id === null ? newMessage(state, event.message, me) : newReply(state, event.message, me);
    case "message.updated":
    case "message.deleted":
      return changedMessage(state, event.message, me);
    case "reaction.new":
      return reacted(state, event.reaction, true, me);
    case "reaction.deleted":
      return reacted(state, event.reaction, false, me);
    case "message.read":
      return readBy(state, event.read, me);
    case "member.added":
    case "member.updated": {
      const next = { ...state, members: withMember(state.members, event.member) };
      // What the user may do has changed with it.
      return { state: next, ask: event.member.user_id === me ? [{ what: "channel" }] : [] };
    }
    case "member.removed": {
      const { [event.user_id]: _, ...reads } = state.reads;
      const members = state.members.filter((member) => member.user_id !== event.user_id);
      return { state: { ...state, members, reads }, ask: event.user_id === me ? [{ what: "channel" }] : [] };
    }
    case "channel.presence": {
      const left = new Set(event.left);
      const watchers = new Set([...state.watchers.filter((user) => !left.has(user)), ...event.joined]);
      const typing = event.typing.filter((one) => one.user_id !== me);
      const next = { ...state, watchers: [...watchers].slice(0, PEOPLE_MAX), watcherCount: event.watchers, typing };
      return { state: next, ask: [] };
    }
    default:
      return { state, ask: [] };
  }
}

/** The state with a message of the channel that a call answered with, ahead of its event. */
export function confirmed(state: ChannelState, message: Message): ChannelState {
  const { parent_id } = message;
  if (parent_id !== null) {
    return withThread(state, parent_id, (thread) =>
      isBefore(thread.before, message) ? thread : { ...thread, replies: withMessage(thread.replies, fresh(message)) },
    );
  }
  if (find(state, message.id)) return withChanged(state, message.id, (old) => mergeMessage(old, message));
  return isBefore(state.before, message) ? state : { ...state, messages: withMessage(state.messages, fresh(message)) };
}

/** Whether a message lies in what is not loaded yet, so that putting it in the list would leave a gap. */
function isBefore(before: number | null, message: Message): boolean {
  return before !== null && placeOf(message) < before;
}

/** Whether a message of the channel came as an event. */
function isBorn(state: ChannelState, message: Message): boolean {
  return message.sequence !== null && message.sequence > state.born;
}

/** A message that was just sent has no replies and no reactions. */
function fresh(message: Message): Message {
  return {
    ...message,
    reply_count: message.reply_count ?? 0,
    reactions: message.reactions ?? {},
    scores: message.scores ?? {},
    own_reactions: message.own_reactions ?? [],
  };
}

function newMessage(state: ChannelState, message: Message, me: string): Reduced {
  const place = placeOf(message);
  const known = findById(state.messages, message.id);
  let messages: readonly Message[] = state.messages;
  if (!isBefore(state.before, message)) messages = withMessage(messages, known ? message : fresh(message));
  let { before, ledger, unread } = state;
  if (messages.length > MESSAGES_MAX) {
    const cut = messages.length - Math.floor(MESSAGES_MAX * 0.75);
    const gone = new Set(messages.slice(0, cut).map((one) => one.id));
    ledger = Object.fromEntries(Object.entries(ledger).filter(([id]) => !gone.has(id)));
    messages = messages.slice(cut);
    before = placeOf(messages[0]!);
  }
  if (unread && place > unread.last_sequence) {
    const more = place > unread.read_sequence && counts(message, me);
    const mentions = unread.mentions + (more && names(message, me) ? 1 : 0);
    unread = { ...unread, unread: unread.unread + (more ? 1 : 0), mentions, last_sequence: place };
  }
  const ask: Ask[] = unread && mayName(message, me) ? [{ what: "unread" }] : [];
  return { state: { ...state, messages, before, ledger, unread, head: Math.max(state.head, place) }, ask };
}

/**
 * Whether mentions have to be counted by the server: of a user's groups only it knows, and an answer's mentions may have been
 * counted a moment after its position was read.
 */
function mayName(message: Message, me: string): boolean {
  return counts(message, me) && (names(message, me) || message.mentions.groups.length > 0);
}

function newReply(state: ChannelState, reply: Message, me: string): Reduced {
  const parent = reply.parent_id!;
  const place = placeOf(reply);
  let next = withThread(state, parent, (thread) => {
    const replies = isBefore(thread.before, reply) ? thread.replies : withMessage(thread.replies, fresh(reply));
    let { unread } = thread;
    if (unread && place > unread.last_sequence) {
      const more = place > unread.read_sequence && counts(reply, me);
      const mentions = unread.mentions + (more && names(reply, me) ? 1 : 0);
      unread = { ...unread, unread: unread.unread + (more ? 1 : 0), mentions, last_sequence: place };
    }
    return { ...thread, replies, unread, head: Math.max(thread.head, place) };
  });
  const ask: Ask[] = state.threads[parent]?.unread && mayName(reply, me) ? [{ what: "thread", message: parent }] : [];
  if (!find(next, parent)) return { state: next, ask };
  next = withChanged(next, parent, (message) => ({ ...message, reply_count: (message.reply_count ?? 0) + 1 }));
  const entry = state.ledger[parent];
  const isFollowed = entry ? entry.replies : entry === undefined && isBorn(state, find(next, parent)!);
  if (!isFollowed) ask.push({ what: "counts", message: parent });
  return { state: next, ask };
}

function changedMessage(state: ChannelState, message: Message, me: string): Reduced {
  const { parent_id } = message;
  const old = find(state, message.id);
  // An answer was ahead of the event: what the event changes can't be seen any more.
  const isAhead = !old || old.version >= message.version;
  const next = withPinned(withChanged(state, message.id, (held) => mergeMessage(held, message)), message);
  const ask: Ask[] = [];
  if (parent_id === null) {
    const counted = isAhead || counts(old, me) !== counts(message, me) || names(old, me) !== names(message, me);
    const grouped = message.mentions.groups.length > 0 || (old?.mentions.groups.length ?? 0) > 0;
    const own = message.user_id === me;
    // Whatever the read position: one that is being read may be lower.
    if (next.unread && !own && (counted || grouped)) ask.push({ what: "unread" });
  } else if (isAhead || (old.deleted_at === null) !== (message.deleted_at === null)) {
    if (find(next, parent_id)) ask.push({ what: "counts", message: parent_id });
    if (next.threads[parent_id]) ask.push({ what: "thread", message: parent_id });
  }
  if (state.pinned.length >= PINNED_MAX && next.pinned.length < state.pinned.length) ask.push({ what: "pinned" });
  return { state: next, ask };
}

function withPinned(state: ChannelState, message: Message): ChannelState {
  const others = state.pinned.filter((one) => one.id !== message.id);
  const held = state.pinned.find((one) => one.id === message.id);
  if (message.pinned === null || message.deleted_at !== null) return held ? { ...state, pinned: others } : state;
  const pinned = [...others, mergeMessage(held ?? find(state, message.id), message)];
  pinned.sort((a, b) => (b.pinned?.at ?? 0) - (a.pinned?.at ?? 0));
  return { ...state, pinned: pinned.slice(0, PINNED_MAX) };
}

/** A reaction came, changed, or went. */
function reacted(state: ChannelState, reaction: Reaction, there: boolean, me: string): Reduced {
  const { message_id, user_id, type } = reaction;
  const message = find(state, message_id);
  if (!message) return { state, ask: [] };
  const others = (message.own_reactions ?? []).filter((one) => one !== type);
  const own_reactions = user_id !== me ? message.own_reactions : there ? [...others, type] : others;
  const isNone = message.reactions !== null && Object.keys(message.reactions).length === 0;
  const entry = state.ledger[message_id];
  const replies = entry === undefined && isBorn(state, message);
  const tracked: Tracked | null = entry ?? (isNone ? { reactions: {}, replies } : null);
  if (!tracked || Object.keys(tracked.reactions).length >= TRACKED_MAX) {
    // Whether it is a new one or another score of one that was there, only the server knows.
    const ledger = tracked ? { ...state.ledger, [message_id]: null } : state.ledger;
    const next = withChanged({ ...state, ledger }, message_id, (held) => ({ ...held, own_reactions }));
    return { state: next, ask: [{ what: "counts", message: message_id }] };
  }
  const entries = { ...tracked.reactions };
  const key = JSON.stringify([type, user_id]);
  if (there) entries[key] = reaction.score;
  else delete entries[key];
  const reactions: Record<string, number> = {};
  const scores: Record<string, number> = {};
  for (const [known, score] of Object.entries(entries)) {
    const [kind] = JSON.parse(known) as [string, string];
    reactions[kind] = (reactions[kind] ?? 0) + 1;
    scores[kind] = (scores[kind] ?? 0) + score;
  }
  const next = withChanged(state, message_id, (held) => ({ ...held, reactions, scores, own_reactions }));
  return { state: { ...next, ledger: { ...next.ledger, [message_id]: { ...tracked, reactions: entries } } }, ask: [] };
}

function readBy(state: ChannelState, read: Read, me: string): Reduced {
  const isKnown = read.user_id in state.reads || Object.keys(state.reads).length < PEOPLE_MAX;
  const reads = isKnown ? { ...state.reads, [read.user_id]: read } : state.reads;
  const next = { ...state, reads };
  const moved = read.user_id === me && state.unread !== null && state.unread.read_sequence !== read.sequence;
  return { state: next, ask: moved ? [{ what: "unread" }] : [] };
}

function withMember(members: readonly Member[], member: Member): readonly Member[] {
  const at = members.findIndex((one) => one.user_id === member.user_id);
  if (at >= 0) return members.map((one, index) => (index === at ? member : one));
  return members.length < PEOPLE_MAX ? [...members, member] : members;
}
