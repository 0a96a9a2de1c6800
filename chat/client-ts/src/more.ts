// @keevo/chat/more: drafts, reminders, polls and search. Functions of a channel or a client, so that pages without them do not carry them.

import { path } from "./api.js";
import type { Channel } from "./channel.js";
import { page } from "./channel-calls.js";
import type { ChatClient } from "./client.js";
import type { Json, Mentions, Message, Page, PageOptions } from "./types.js";

export * from "./search.js";

/** What a user has begun to write, in a channel or in the thread of `parent_id`. */
export interface Draft {
  cid: string;
  parent_id: string | null;
  text: string;
  custom: Json | null;
  attachments: Json[];
  mentions: Mentions;
  quoted_id: string | null;
  created_at: number;
  updated_at: number;
}

/** A draft to keep. */
export interface NewDraft {
  parent_id?: string;
  text?: string;
  custom?: Json;
  attachments?: Json[];
  mentions?: Partial<Mentions>;
  quoted_id?: string;
}

/** A reminder of a message; without `remind_at` it is only kept. */
export interface Reminder {
  cid: string;
  message_id: string;
  remind_at: number | null;
  created_at: number;
  updated_at: number;
  fired_at: number | null;
}

export interface Poll {
  id: string;
  cid: string;
  name: string;
  description: string | null;
  options: { id: string; text: string; suggested_by: string | null }[];
  created_by: string;
  created_at: number;
  updated_at: number | null;
  closes_at: number | null;
  closed_at: number | null;
  /** The most options that one user votes for; `null` = all. */
  votes_max: number | null;
  anonymous: boolean;
  suggestions: boolean;
  answers: boolean;
  custom: Json | null;
  version: number;
  /** Votes by option; like the next two `null` where they were not read: in events, lists and answers to changes. */
  votes: Record<string, number> | null;
  voter_count: number | null;
  answer_count: number | null;
}

/** A poll to make. Options without `id` are called `1`, `2`, …; `votes_max` is 1 unless said, 0 for as many as there are. */
export interface NewPoll {
  id?: string;
  name: string;
  description?: string;
  options?: { id?: string; text: string }[];
  closes_at?: number;
  votes_max?: number;
  anonymous?: boolean;
  suggestions?: boolean;
  answers?: boolean;
  custom?: Json;
}

/** What one user votes. */
export interface Ballot {
  poll_id: string;
  /** `null` in events of anonymous polls. */
  user_id: string | null;
  options: string[];
  answer: string | null;
  voted_at: number | null;
}

/** A poll with its counts, and what the user votes in it. */
export interface Voted {
  poll: Poll;
  ballot: Ballot | null;
}

// --- Drafts ---

/** Keeps a draft in the place of the one before. */
export async function putDraft(channel: Channel, draft: NewDraft): Promise<Draft> {
  return (await channel.call<{ draft: Draft }>("PUT", "/draft", draft)).draft;
}

export async function draftOf(channel: Channel, parent?: string): Promise<Draft | null> {
  return (await channel.call<{ draft: Draft | null }>("GET", `/draft${inThread(parent)}`)).draft;
}

export async function deleteDraft(channel: Channel, parent?: string): Promise<boolean> {
  return (await channel.call<{ removed: boolean }>("DELETE", `/draft${inThread(parent)}`)).removed;
}

/** Sends the draft under this id, of your choice; sending it again with the same id sends nothing more. */
export async function sendDraft(channel: Channel, id: string, parent?: string): Promise<Message> {
  return (await channel.call<{ message: Message }>("POST", "/draft/send", { id, ...(parent === undefined ? {} : { parent_id: parent }) })).message;
}

/** The user's drafts in all channels. */
export async function drafts(client: ChatClient, options: PageOptions = {}): Promise<Page<Draft>> {
  return page(await client.api.call("GET", "/drafts", { query: { ...options } }), "drafts");
}

function inThread(parent: string | undefined): string {
  return parent === undefined ? "" : `?parent_id=${encodeURIComponent(parent)}`;
}

// --- Reminders ---

/** Reminds the user of a message, at a time (the event `user.reminder_due`) or just so. */
export async function remind(channel: Channel, message: string, remind_at?: number): Promise<Reminder> {
  const body = remind_at === undefined ? {} : { remind_at };
  return (await channel.call<{ reminder: Reminder }>("PUT", path`/messages/${message}/reminder`, body)).reminder;
}

export async function forgetReminder(channel: Channel, message: string): Promise<boolean> {
  return (await channel.call<{ removed: boolean }>("DELETE", path`/messages/${message}/reminder`)).removed;
}

export async function reminders(client: ChatClient, options: PageOptions = {}): Promise<Page<Reminder>> {
  return page(await client.api.call("GET", "/reminders", { query: { ...options } }), "reminders");
}

// --- Polls ---

/** Makes a poll; a message shows it with its `poll_id`. */
export async function createPoll(channel: Channel, poll: NewPoll): Promise<Poll> {
  return (await channel.call<{ poll: Poll }>("POST", "/polls", poll)).poll;
}

/** A poll with its counts, and what the user votes. */
export function poll(channel: Channel, id: string): Promise<Voted> {
  return channel.call("GET", path`/polls/${id}`);
}

export function vote(channel: Channel, id: string, option_id: string): Promise<Voted> {
  return channel.call("POST", path`/polls/${id}/votes`, { option_id });
}

export function unvote(channel: Channel, id: string, option: string): Promise<Voted> {
  return channel.call("DELETE", path`/polls/${id}/votes/${option}`);
}

/** Answers in the user's own words; `null` takes the answer back. */
export function answerPoll(channel: Channel, id: string, answer: string | null): Promise<Voted> {
  const at = path`/polls/${id}/answer`;
  return answer === null ? channel.call("DELETE", at) : channel.call("PUT", at, { answer });
}

export async function suggestOption(channel: Channel, id: string, option: { id: string; text: string }): Promise<Poll> {
  return (await channel.call<{ poll: Poll }>("POST", path`/polls/${id}/options`, option)).poll;
}

export async function closePoll(channel: Channel, id: string): Promise<Poll> {
  return (await channel.call<{ poll: Poll }>("POST", path`/polls/${id}/close`, {})).poll;
}

export async function deletePoll(channel: Channel, id: string): Promise<void> {
  await channel.call("DELETE", path`/polls/${id}`);
}
