// What a page shows of a channel: one value that is replaced as a whole, never changed in place.

import type { ChatError } from "./errors.js";
import type { Typing } from "./events.js";
import { counts, findById, mergeMessage, names, placeOf, withMessages } from "./messages.js";
import type { ChannelAnswer, ChannelInfo, Member, Message, Read, ThreadUnread, Unread, User } from "./types.js";

/** How many messages, members and read states of a channel are held at most. */
export const MESSAGES_MAX = 2_000;
export const PEOPLE_MAX = 300;

/**
 * How the state stands to the server's: `none` = not watched; `loading` = nothing is known yet; `live` = it follows; `behind` =
 * it is from before a drop, and is being brought up to date; `gone` = the user may not read it (`error` says why).
 */
export type SyncStatus = "none" | "loading" | "live" | "behind" | "gone";

/** A message of the user's own that the server has not confirmed. */
export interface WaitingMessage extends Message {
  status: "sending" | "failed";
  /** Why the server refused it. */
  error: ChatError | null;
}

/** What a page shows: a stored message has no `status`. */
export type ShownMessage = Message & { status?: "sending" | "failed"; error?: ChatError | null };

/** The loaded part of a thread. */
export interface ThreadState {
  parent_id: string;
  status: "loading" | "ready" | "failed";
  /** Oldest first. */
  replies: readonly Message[];
  /** Older replies lie before this; `null` = there are none. */
  before: number | null;
  /** `null` until it was read, and for who is no member. */
  unread: ThreadUnread | null;
  /** The highest sequence that an event or a page of the newest replies brought; not for pages. */
  head: number;
}

export interface ChannelState {
  readonly cid: string;
  readonly sync: SyncStatus;
  readonly error: ChatError | null;
  readonly channel: ChannelInfo | null;
  /** The newest messages, oldest first, without gaps. Deleted ones are there, with `deleted_at`. */
  readonly messages: readonly Message[];
  /** Older messages lie before this; `null` = there are none. */
  readonly before: number | null;
  /** The user's own that wait to be sent, replies too, in their order. */
  readonly waiting: readonly WaitingMessage[];
  /** The threads that were opened, by the id of the message replied to. */
  readonly threads: Readonly<Record<string, ThreadState>>;
  /** The first members; `channel.members()` has them all. */
  readonly members: readonly Member[];
  readonly membership: Member | null;
  readonly capabilities: readonly string[];
  /** Up to where members have read, by user; of the first ones in large channels. */
  readonly reads: Readonly<Record<string, Read>>;
  readonly pinned: readonly Message[];
  /** `null` for who is no member. */
  readonly unread: Unread | null;
  /** Who is connected to this node and watches (the first 100), and how many. */
  readonly watchers: readonly string[];
  readonly watcherCount: number;
  /** Who else types. */
  readonly typing: readonly Typing[];
  readonly users: Readonly<Record<string, User>>;
  /** The highest sequence that an event or a page of the newest messages brought; not for pages. */
  readonly head: number;
  /** Messages above this sequence came as events: their counts are known from zero on. Not for pages. */
  readonly born: number;
  /** What is known of the counts of messages that were reacted to, or whose counts were read; not for pages. */
  readonly ledger: Readonly<Record<string, Tracked | null>>;
}

/** Counts of a message that are followed by events alone; `null` in the ledger = they were read, maybe ahead of events. */
export interface Tracked {
  /** The score of each reaction, by type and user. */
  readonly reactions: Readonly<Record<string, number>>;
  /** Whether its replies are followed too. */
  readonly replies: boolean;
}

export function emptyState(cid: string): ChannelState {
  return {
    cid,
    sync: "none",
    error: null,
    channel: null,
    messages: [],
    before: null,
    waiting: [],
    threads: {},
    members: [],
    membership: null,
    capabilities: [],
    reads: {},
    pinned: [],
    unread: null,
    watchers: [],
    watcherCount: 0,
    typing: [],
    users: {},
    head: 0,
    born: 0,
    ledger: {},
  };
}

/**
 * The state after the channel was read. What was there is replaced, since all of it may have changed; only messages that were
 * confirmed after the answer was made are kept. Opened threads are to be read anew.
 */
export function loaded(state: ChannelState, answer: ChannelAnswer, me: string): ChannelState {
  const newest = answer.messages.at(-1);
  const head = newest ? placeOf(newest) : answer.channel.truncated;
  const newer = state.messages.filter((message) => placeOf(message) > head);
  const threads: Record<string, ThreadState> = {};
  for (const thread of Object.values(state.threads)) threads[thread.parent_id] = { ...thread, status: "loading" };
  const next: ChannelState = {
    ...state,
    error: null,
    channel: answer.channel,
    messages: withMessages(answer.messages, newer),
    before: answer.before,
    threads,
    members: answer.members.slice(0, PEOPLE_MAX),
    membership: answer.membership,
    capabilities: answer.own_capabilities,
    reads: Object.fromEntries(answer.reads.map((read) => [read.user_id, read])),
    pinned: answer.pinned,
    watchers: answer.watchers.user_ids,
    watcherCount: answer.watchers.count,
    typing: [],
    users: { ...state.users, ...answer.users },
    head,
    born: head,
    ledger: {},
  };
  return withUnread({ ...next, unread: null }, answer.unread, me);
}

/**
 * The state with an unread count that the server computed. Messages that came as events behind the position of the answer
 * are added; the user's own, confirmed ahead of the events, count for nobody.
 */
export function withUnread(state: ChannelState, answer: Unread | null, me: string): ChannelState {
  if (answer === null) return { ...state, unread: null };
  const unread = { ...answer, last_sequence: Math.max(answer.last_sequence, state.head) };
  for (const message of state.messages) {
    const place = placeOf(message);
    if (place <= answer.last_sequence || place <= answer.read_sequence || !counts(message, me)) continue;
    unread.unread += 1;
    if (names(message, me)) unread.mentions += 1;
  }
  return { ...state, unread };
}

/** The state with older messages that were read. */
export function withOlder(state: ChannelState, messages: readonly Message[], before: number | null): ChannelState {
  return truncated({ ...state, messages: withMessages(messages, state.messages), before });
}

/** The state without what the channel shows no longer. */
export function truncated(state: ChannelState): ChannelState {
  const up_to = state.channel?.truncated ?? 0;
  const isShown = (message: Message) => placeOf(message) > up_to;
  const before = state.before !== null && state.before <= up_to + 1 ? null : state.before;
  return { ...state, messages: state.messages.filter(isShown), pinned: state.pinned.filter(isShown), before };
}

/** The state with a change of one thread; one that is not open stays closed. */
export function withThread(state: ChannelState, parent: string, change: (thread: ThreadState) => ThreadState): ChannelState {
  const thread = state.threads[parent];
  return thread ? { ...state, threads: { ...state.threads, [parent]: change(thread) } } : state;
}

/** The state with a thread's newest replies. Events that came meanwhile are kept; older pages are to be read anew. */
export function withReplies(state: ChannelState, parent: string, page: readonly Message[], before: number | null): ChannelState {
  const first = page.length > 0 ? Math.min(...page.map(placeOf)) : 0;
  return withThread(state, parent, (thread) => {
    const kept = thread.replies.filter((reply) => placeOf(reply) >= first);
    const head = Math.max(thread.head, ...page.map(placeOf));
    return { ...thread, status: "ready", replies: withMessages(kept, page), before, head };
  });
}

/** The state with older replies that were read. */
export function withOlderReplies(state: ChannelState, parent: string, page: readonly Message[], before: number | null): ChannelState {
  return withThread(state, parent, (thread) => ({ ...thread, replies: withMessages(page, thread.replies), before }));
}

/** The state with a thread's unread count that the server computed; replies that came as events behind it are added. */
export function withThreadUnread(state: ChannelState, parent: string, answer: ThreadUnread | null, me: string): ChannelState {
  return withThread(state, parent, (thread) => {
    if (answer === null) return { ...thread, unread: null };
    const unread = { ...answer, last_sequence: Math.max(answer.last_sequence, thread.head) };
    for (const reply of thread.replies) {
      const place = placeOf(reply);
      if (place <= answer.last_sequence || place <= answer.read_sequence || !counts(reply, me)) continue;
      unread.unread += 1;
      if (names(reply, me)) unread.mentions += 1;
    }
    return { ...thread, unread };
  });
}

/** The state with `change` applied to every copy of a message that it holds. */
export function withChanged(state: ChannelState, id: string, change: (message: Message) => Message): ChannelState {
  const all = (list: readonly Message[]) =>
    findById(list, id) ? list.map((message) => (message.id === id ? change(message) : message)) : list;
  let threads = state.threads;
  for (const thread of Object.values(state.threads)) {
    const replies = all(thread.replies);
    if (replies !== thread.replies) threads = { ...threads, [thread.parent_id]: { ...thread, replies } };
  }
  return { ...state, messages: all(state.messages), pinned: all(state.pinned), threads };
}

/** The state with a message as the server now counts it, whatever is known of its text by then. */
export function withCounts(state: ChannelState, message: Message): ChannelState {
  const ledger = { ...state.ledger, [message.id]: null };
  const { reply_count, reactions, scores, own_reactions } = message;
  return withChanged({ ...state, ledger }, message.id, (old) =>
    mergeMessage({ ...old, reply_count, reactions, scores, own_reactions }, message),
  );
}

/** A message that the state holds, wherever. */
export function find(state: ChannelState, id: string): Message | undefined {
  const lists = [state.messages, ...Object.values(state.threads).map((thread) => thread.replies), state.pinned];
  for (const list of lists) {
    const found = findById(list, id);
    if (found) return found;
  }
  return undefined;
}

/** What a page shows in the channel, or in one of its threads: what is stored, then what waits. */
export function shown(state: ChannelState, parent: string | null = null): ShownMessage[] {
  const stored = parent === null ? state.messages : (state.threads[parent]?.replies ?? []);
  return [...stored, ...state.waiting.filter((message) => message.parent_id === parent)];
}
