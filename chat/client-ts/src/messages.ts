// Lists of messages by sequence, and what of them counts. Pure: nothing here changes its arguments.

import type { Message, NewMessage } from "./types.js";

/** A message's place: in the channel, or in its thread. */
export function placeOf(message: Message): number {
  return message.sequence ?? message.thread_sequence ?? 0;
}

/**
 * The newer of two copies of a message. Counts and own reactions are kept where the newer copy was read without them; of
 * equal versions `next` is the one that was read later.
 */
export function mergeMessage(old: Message | undefined, next: Message): Message {
  if (!old) return next;
  const newer = next.version >= old.version ? next : old;
  const older = newer === next ? old : next;
  return {
    ...newer,
    reply_count: newer.reply_count ?? older.reply_count,
    reactions: newer.reactions ?? older.reactions,
    scores: newer.scores ?? older.scores,
    own_reactions: newer.own_reactions ?? older.own_reactions,
  };
}

/** Where `place` is, or where it would be inserted: the first index whose place is not below. */
export function indexOf(list: readonly Message[], place: number): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (placeOf(list[middle]!) < place) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The message with this id; looked for from the end, where most are. */
export function findById(list: readonly Message[], id: string): Message | undefined {
  for (let index = list.length - 1; index >= 0; index -= 1) {
    if (list[index]!.id === id) return list[index];
  }
  return undefined;
}

/** The list with this message in its place: a copy that is there is merged with it. */
export function withMessage(list: readonly Message[], message: Message): Message[] {
  const at = indexOf(list, placeOf(message));
  const old = list[at];
  const next = [...list];
  if (old && placeOf(old) === placeOf(message)) next[at] = mergeMessage(old, message);
  else next.splice(at, 0, message);
  return next;
}

/** The list with all of these in it. */
export function withMessages(list: readonly Message[], messages: readonly Message[]): Message[] {
  const byPlace = new Map(list.map((message) => [placeOf(message), message]));
  for (const message of messages) byPlace.set(placeOf(message), mergeMessage(byPlace.get(placeOf(message)), message));
  return [...byPlace.values()].sort((a, b) => placeOf(a) - placeOf(b));
}

/** Whether a message makes something unread for `me`: docs/CHAT.md has the table. */
export function counts(message: Message, me: string): boolean {
  return message.user_id !== me && !message.system && !message.silent && !message.shadowed && message.deleted_at === null;
}

/** Whether it names `me`; groups only the server knows. */
export function names(message: Message, me: string): boolean {
  return message.mentions.channel || message.mentions.users.includes(me);
}

/** What a page shows of a message that waits to be sent. */
export function draft(cid: string, me: string, message: NewMessage & { id: string }, queued_at: number): Message {
  return {
    id: message.id,
    cid,
    sequence: null,
    thread_sequence: null,
    parent_id: message.parent_id ?? null,
    parent_sequence: null,
    user_id: me,
    text: message.text ?? "",
    custom: message.custom ?? null,
    attachments: message.attachments ?? [],
    mentions: { users: [], groups: [], channel: false, ...message.mentions },
    quoted_id: message.quoted_id ?? null,
    pinned: null,
    system: false,
    silent: message.silent ?? false,
    shadowed: false,
    created_at: queued_at,
    updated_at: null,
    deleted_at: null,
    erased: false,
    version: 0,
    reply_count: 0,
    reactions: {},
    scores: {},
    own_reactions: [],
  };
}
