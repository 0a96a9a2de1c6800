// What the user has sent and the server has not confirmed.
//
// Invariant: the messages of a channel are sent one after the other in their order, each with its own id until it is
// confirmed or refused. The server stores an id once, so sending again after a lost answer makes no second message.

import { backoffMs, type ChatEnv } from "./env.js";
import { asChatError, ChatError, type ErrorBody } from "./errors.js";
import type { ChatStorage } from "./storage.js";
import type { Message, NewMessage } from "./types.js";

/** How much waits at most. */
export const OUTBOX_MAX = 500;
export const OUTBOX_BYTES_MAX = 1024 * 1024;
/** How often a message is tried that the server fails on (status 500). */
const SERVER_FAULTS_MAX = 8;

/** A message that waits, as it is stored. */
export interface Entry {
  cid: string;
  message: NewMessage & { id: string };
  /** When it was queued: the order. */
  queued_at: number;
  /** Why the server refused it; such a message waits for `retry` or `discard`. */
  failed: { message: string; body: ErrorBody | null } | null;
}

interface Held {
  entry: Entry;
  bytes: number;
  error: ChatError | null;
  /** The writes to storage, one after the other. */
  stored: Promise<void>;
  sending: boolean;
  done: { resolve: (message: Message) => void; reject: (error: ChatError) => void; promise: Promise<Message> };
}

interface Lane {
  held: Held[];
  running: boolean;
  attempt: number;
  faults: number;
  timer: unknown;
}

export interface OutboxHost {
  env: ChatEnv;
  storage: ChatStorage;
  /** The first part of all keys: one user's. */
  prefix: string;
  /** Sends it once. */
  deliver(entry: Entry): Promise<Message>;
  /** The channel's queue is another, or one of its messages is stored now. */
  changed(cid: string, stored: Message | null): void;
  failed(error: ChatError): void;
}

/** The offline queue. */
export class Outbox {
  private readonly lanes = new Map<string, Lane>();
  private bytes = 0;
  private count = 0;
  private last_at = 0;
  private closed = false;
  private loaded: Promise<void> | null = null;

  constructor(private readonly host: OutboxHost) {}

  /** Takes in what earlier pages left, and begins to send it. What can't be read is told and left alone. */
  load(): Promise<void> {
    this.loaded ??= this.read().catch((error) => this.host.failed(asChatError(error)));
    return this.loaded;
  }

  private async read(): Promise<void> {
    const entries: Entry[] = [];
    for (const [key, text] of await this.host.storage.entries(this.host.prefix)) {
      const entry = parseEntry(text);
      if (entry) entries.push(entry);
      else this.host.failed(new ChatError("usage", `the stored message '${key}' cannot be read and is left alone`));
    }
    entries.sort((a, b) => a.queued_at - b.queued_at);
    const cids = new Set<string>();
    for (const entry of entries) {
      const lane = this.lane(entry.cid);
      if (this.count >= OUTBOX_MAX || lane.held.some((held) => held.entry.message.id === entry.message.id)) continue;
      const held = this.hold(entry, JSON.stringify(entry).length);
      if (entry.failed) held.error = restored(entry.failed);
      // Older than what was queued since the page was opened.
      const at = lane.held.findIndex((other) => other.entry.queued_at > entry.queued_at && !other.sending);
      lane.held.splice(at < 0 ? lane.held.length : at, 0, held);
      this.last_at = Math.max(this.last_at, entry.queued_at);
      cids.add(entry.cid);
    }
    for (const cid of cids) {
      this.host.changed(cid, null);
      void this.run(cid);
    }
  }

  /** The channel's waiting messages, in their order. */
  waiting(cid: string): { entry: Entry; error: ChatError | null }[] {
    return (this.lanes.get(cid)?.held ?? []).map(({ entry, error }) => ({ entry, error }));
  }

  /** Queues a message. The promise is the stored message; it fails where the server refuses it. */
  add(cid: string, message: NewMessage & { id: string }): Promise<Message> {
    if (this.closed) return refused(new ChatError("closed", "the client is closed"));
    const lane = this.lane(cid);
    const same = lane.held.find((held) => held.entry.message.id === message.id);
    if (same) return same.done.promise;
    this.last_at = Math.max(this.host.env.now(), this.last_at + 1);
    const entry: Entry = { cid, message, queued_at: this.last_at, failed: null };
    const bytes = JSON.stringify(entry).length;
    if (this.count >= OUTBOX_MAX || this.bytes + bytes > OUTBOX_BYTES_MAX) {
      const why = `${this.count} messages (${this.bytes} bytes) wait to be sent, more are not kept: try again when the connection is back`;
      return refused(new ChatError("queue-full", why));
    }
    const held = this.hold(entry, bytes);
    lane.held.push(held);
    this.store(held);
    this.host.changed(cid, null);
    void this.run(cid);
    return held.done.promise;
  }

  /** Sends a refused message again, behind what waits. */
  retry(cid: string, id: string): boolean {
    const lane = this.lanes.get(cid);
    const at = lane?.held.findIndex((held) => held.entry.message.id === id && held.error !== null) ?? -1;
    if (!lane || at < 0) return false;
    const [held] = lane.held.splice(at, 1);
    held!.error = null;
    held!.done = deferred();
    this.last_at = Math.max(this.host.env.now(), this.last_at + 1);
    held!.entry = { ...held!.entry, queued_at: this.last_at, failed: null };
    lane.held.push(held!);
    this.store(held!);
    this.host.changed(cid, null);
    void this.run(cid);
    return true;
  }

  /** Gives up a message that is not being sent at this moment. One without an answer may be stored all the same. */
  discard(cid: string, id: string): boolean {
    const held = this.lanes.get(cid)?.held.find((one) => one.entry.message.id === id);
    if (!held || held.sending) return false;
    this.drop(held);
    if (held.error === null) held.done.reject(new ChatError("closed", `message '${id}' was given up before it was sent`));
    this.host.changed(cid, null);
    return true;
  }

  /** The server is known to have this message: an event or a page brought it. */
  settle(message: Message): void {
    const held = this.lanes.get(message.cid)?.held.find((one) => one.entry.message.id === message.id);
    if (!held) return;
    this.drop(held);
    held.done.resolve(message);
    this.host.changed(message.cid, null);
  }

  /** The connection is back: nothing waits any longer. */
  wake(): void {
    for (const [cid, lane] of this.lanes) {
      lane.attempt = 0;
      if (lane.timer === null) continue;
      this.host.env.clearTimeout(lane.timer);
      lane.timer = null;
      void this.run(cid);
    }
  }

  /** Stops sending. What waits stays in storage. */
  close(): void {
    this.closed = true;
    for (const lane of this.lanes.values()) {
      if (lane.timer !== null) this.host.env.clearTimeout(lane.timer);
      lane.timer = null;
    }
  }

  private async run(cid: string): Promise<void> {
    const lane = this.lane(cid);
    if (lane.running) return;
    lane.running = true;
    // What earlier pages left comes first.
    if (this.loaded) await this.loaded;
    while (!this.closed && lane.timer === null) {
      const held = lane.held.find((one) => one.error === null);
      if (!held) break;
      held.sending = true;
      let message: Message | null = null;
      let error: ChatError | null = null;
      try {
        message = await this.host.deliver(held.entry);
      } catch (thrown) {
        error = asChatError(thrown);
      }
      held.sending = false;
      if (!lane.held.includes(held)) continue; // An event settled it meanwhile.
      if (message) {
        lane.attempt = lane.faults = 0;
        this.drop(held);
        this.host.changed(cid, message);
        held.done.resolve(message);
      } else {
        this.failed(lane, held, error!);
      }
    }
    lane.running = false;
    if (lane.held.length === 0 && lane.timer === null) this.lanes.delete(cid);
  }

  private failed(lane: Lane, held: Held, error: ChatError): void {
    const { cid } = held.entry;
    if (error.kind === "api" && (error.status ?? 0) === 500) lane.faults += 1;
    if (error.isTransient && lane.faults < SERVER_FAULTS_MAX) {
      const wait_ms = error.retryAfterMs ?? 0;
      const delay_ms = wait_ms > 0 ? wait_ms + this.host.env.random() * 200 : backoffMs(this.host.env, lane.attempt);
      lane.attempt += 1;
      lane.timer = this.host.env.setTimeout(() => {
        lane.timer = null;
        void this.run(cid);
      }, delay_ms);
      return;
    }
    lane.attempt = lane.faults = 0;
    held.error = error;
    const body = error.code === null ? null : bodyOf(error);
    held.entry = { ...held.entry, failed: { message: error.message, body } };
    this.store(held);
    this.host.changed(cid, null);
    held.done.reject(error);
  }

  private lane(cid: string): Lane {
    let lane = this.lanes.get(cid);
    if (!lane) {
      lane = { held: [], running: false, attempt: 0, faults: 0, timer: null };
      this.lanes.set(cid, lane);
    }
    return lane;
  }

  private hold(entry: Entry, bytes: number): Held {
    this.count += 1;
    this.bytes += bytes;
    return { entry, bytes, error: null, stored: Promise.resolve(), sending: false, done: deferred() };
  }

  private drop(held: Held): void {
    const lane = this.lane(held.entry.cid);
    lane.held = lane.held.filter((one) => one !== held);
    this.count -= 1;
    this.bytes -= held.bytes;
    this.write(held, () => this.host.storage.delete(this.key(held.entry)));
  }

  private store(held: Held): void {
    const text = JSON.stringify(held.entry);
    this.write(held, () => this.host.storage.set(this.key(held.entry), text));
  }

  private write(held: Held, run: () => void | Promise<void>): void {
    held.stored = held.stored.then(run).catch((error: unknown) => {
      const why = error instanceof Error ? error.message : String(error);
      this.host.failed(new ChatError("usage", `what waits to be sent could not be kept for the next page: ${why}`, undefined, error));
    });
  }

  private key(entry: Entry): string {
    return `${this.host.prefix}${JSON.stringify([entry.cid, entry.message.id])}`;
  }
}

function deferred(): Held["done"] {
  let resolve!: (message: Message) => void;
  let reject!: (error: ChatError) => void;
  const promise = new Promise<Message>((one, other) => {
    resolve = one;
    reject = other;
  });
  // Whoever does not wait for it sees the failure in the channel's state.
  promise.catch(() => {});
  return { resolve, reject, promise };
}

function refused(error: ChatError): Promise<Message> {
  return Promise.reject(error);
}

function bodyOf(error: ChatError): ErrorBody {
  return { code: error.code!, detail: error.message, status_code: error.status ?? 0, exception: "", reason: error.reason };
}

function restored(failed: NonNullable<Entry["failed"]>): ChatError {
  return new ChatError(failed.body ? "api" : "usage", failed.message, failed.body ?? undefined);
}

function parseEntry(text: string): Entry | null {
  try {
    const entry = JSON.parse(text) as Entry;
    const good = typeof entry.cid === "string" && typeof entry.message?.id === "string" && typeof entry.queued_at === "number";
    return good ? { ...entry, failed: entry.failed ?? null } : null;
  } catch {
    return null;
  }
}
