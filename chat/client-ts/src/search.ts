// Search over messages: part of @keevo/chat/more.

import { page } from "./channel-calls.js";
import type { ChatClient } from "./client.js";
import type { Message, Page } from "./types.js";

/** What is searched. One of `query`, `cids`, `author_id`, `mentions` and `has_attachments` is there. */
export interface Search {
  /** Words, "phrases", beginnings*, and -what must not be there; all of it is demanded. */
  query?: string;
  /** Channels; the user's own where none is named. */
  cids?: string[];
  author_id?: string;
  /** A user that is mentioned by name. */
  mentions?: string;
  has_attachments?: boolean;
  /** From this time on, and before that one. */
  created_after?: number;
  created_before?: number;
  sort?: "relevance" | "-created_at" | "created_at";
  limit?: number;
  cursor?: string;
}

/** A part of a message's text; `ranges` are `[from, to]` of what was found in it, as `text.slice(from, to)` takes them. */
export interface Fragment {
  text: string;
  /** Where the part begins in the message's text. */
  start: number;
  ranges: [number, number][];
}

export interface SearchResult {
  message: Message;
  highlights: Fragment[];
}

export interface SearchPage extends Page<SearchResult> {
  /** Whether a bound was met, so that something may be left out: say more, or name channels. */
  partial: boolean;
  /** How far the index of the node is: the revision that it has come to, by shard. */
  index: { catching_up: boolean; applied: Record<string, number> };
}

/** Finds messages over all channels that the user may read. */
export async function search(client: ChatClient, wanted: Search): Promise<SearchPage> {
  const answer = await client.api.call<{ partial: boolean; index: SearchPage["index"] }>("POST", "/search", { body: wanted });
  return { ...page<SearchResult>(answer as never, "results"), partial: answer.partial, index: answer.index };
}
