// Which channels are subscribed, from where, and what is done when that breaks.
//
//   load ──GET answered──▶ read ──subscribe──▶ asked ──subscribed──▶ live ──drop──▶ resuming
//    ▲                                                                │               │ welcome: ok ──▶ live
//    ╰────────────────── channel.reload, status reload ───────────────┴───────────────╯
//
// Invariant: a channel's events are applied only on top of the page that its subscription began behind, each once.

import type { Connection, Frame } from "./connection.js";
import { backoffMs, type ChatEnv } from "./env.js";
import { asChatError, ChatError, Code, fromBody } from "./errors.js";
import { type ChannelEvent, isDurable, type Subscribed, type Welcome } from "./events.js";
import type { SyncStatus } from "./state.js";

const LOADS_AT_ONCE = 4;
/** A subscribe frame stays well below the limit of 128 KiB. */
const FRAME_CHARS_MAX = 60_000;
const FRAME_CHANNELS_MAX = 100;
/** The same of a hello, whose resume token may take 96 KiB. */
const HELLO_CHARS_MAX = 120_000;
/** All who watch a channel are told to reload it in one moment. */
const RELOAD_SPREAD_MS = 1_000;

/** What of a channel the synchronization deals with. */
export interface Synced {
  readonly cid: string;
  /** Reads the channel and shows it; gives where to subscribe from. */
  load(): Promise<string>;
  event(event: ChannelEvent): void;
  sync(status: SyncStatus, error: ChatError | null): void;
}

interface Sub {
  channel: Synced;
  phase: "load" | "read" | "asked" | "live" | "resuming" | "gone";
  /** In the phases `read` and `asked`: where the page that is shown ends. */
  from: string | null;
  seen: [number, number] | null;
  attempt: number;
  timer: unknown;
  /** Counts the loads: the answer of an earlier one is passed over. */
  round: number;
  first: { resolve: () => void; reject: (error: ChatError) => void; promise: Promise<void> };
}

/** Keeps the channels that are wanted subscribed. */
export class Sync {
  resume: string | null = null;
  private readonly subs = new Map<string, Sub>();
  private readonly queue: Sub[] = [];
  /** Channels whose `unsubscribed` is awaited: until then the server may send from an older place. */
  private readonly leaving = new Map<string, number>();
  private loading = 0;
  private connected = false;
  private channels_max = 200;
  private flush_timer: unknown = null;

  constructor(
    private readonly env: ChatEnv,
    private readonly connection: Pick<Connection, "request">,
    private readonly failed: (error: ChatError) => void,
  ) {}

  /** Follows a channel from now on. The promise is kept once it was read, and broken where it can't be. */
  want(channel: Synced): Promise<void> {
    const held = this.subs.get(channel.cid);
    if (held && held.phase !== "gone") return held.first.promise;
    if (!held && this.subs.size >= this.channels_max) {
      const why = `${this.channels_max} channels are watched, and a connection follows no more: end some by unwatch()`;
      return Promise.reject(new ChatError("usage", why));
    }
    const sub: Sub = {
      channel,
      phase: "load",
      from: null,
      seen: null,
      attempt: 0,
      timer: null,
      round: 0,
      first: deferred(),
    };
    this.subs.set(channel.cid, sub);
    channel.sync("loading", null);
    this.load(sub, 0);
    return sub.first.promise;
  }

  /** Stops following a channel. */
  unwant(cid: string): void {
    const sub = this.subs.get(cid);
    if (!sub) return;
    this.subs.delete(cid);
    sub.round += 1;
    this.env.clearTimeout(sub.timer);
    sub.first.reject(new ChatError("closed", `channel ${cid} is not watched any more`));
    sub.channel.sync("none", null);
    if (sub.phase === "live" || sub.phase === "asked") void this.unsubscribe([cid]);
  }

  /** Reads a channel anew, as after a `channel.reload`. */
  reload(cid: string): void {
    const sub = this.subs.get(cid);
    if (!sub || sub.phase === "load") return;
    if (sub.phase === "live" || sub.phase === "asked") void this.unsubscribe([cid]);
    this.load(sub, 0);
  }

  /**
   * What the next `hello` says. Places that do not fit into the frame are left out: of those channels some events come twice,
   * and are passed over.
   */
  hello(): { resume: string | null; seen: Record<string, [number, number]> } {
    const seen: Record<string, [number, number]> = {};
    let room = HELLO_CHARS_MAX - (this.resume?.length ?? 0);
    for (const [cid, sub] of this.subs) {
      room -= 3 * cid.length + 40;
      if (room > 0 && sub.phase === "resuming" && sub.seen) seen[cid] = sub.seen;
    }
    return { resume: this.resume, seen };
  }

  /** The token is of no use: all is read anew. */
  forget(): void {
    this.resume = null;
    for (const sub of this.subs.values()) {
      if (sub.phase === "resuming") this.load(sub, RELOAD_SPREAD_MS);
    }
  }

  welcome(frame: Welcome): void {
    this.connected = true;
    this.resume = frame.resume;
    this.channels_max = frame.limits?.channels ?? this.channels_max;
    const resumed = new Set<string>();
    const unwanted: string[] = [];
    for (const answer of frame.channels) {
      const sub = this.subs.get(answer.cid);
      if (sub?.phase === "resuming") {
        resumed.add(answer.cid);
        if (answer.status === "ok") this.live(sub);
        else this.refused(sub, answer);
      } else if (answer.status === "ok") {
        // Not wanted any more, or read anew since the token was made.
        unwanted.push(answer.cid);
      }
    }
    for (const [cid, sub] of this.subs) {
      const isLost = sub.phase === "resuming" && !resumed.has(cid);
      const isWaiting = sub.phase === "load" && sub.attempt > 0 && sub.timer !== null;
      if (isLost || isWaiting) this.load(sub, RELOAD_SPREAD_MS);
    }
    void this.unsubscribe(unwanted);
    this.flushSoon();
  }

  dropped(): void {
    this.connected = false;
    this.leaving.clear();
    for (const sub of this.subs.values()) {
      if (sub.phase === "asked") sub.phase = "read";
      if (sub.phase === "live") sub.phase = "resuming";
      if (sub.phase === "resuming" || sub.phase === "read") sub.channel.sync("behind", null);
    }
  }

  /** Takes in a frame that belongs to a channel, if it does. */
  event(frame: Frame): void {
    const event = frame as unknown as ChannelEvent;
    const sub = this.subs.get(event.cid);
    // In the phase `asked` too: what is missed may come before the reply. None is asked for while it is left (`flush`).
    if (!sub || (sub.phase !== "live" && sub.phase !== "asked")) return;
    if (isDurable(event)) {
      const { version, index } = event;
      if (sub.seen && (version < sub.seen[0] || (version === sub.seen[0] && index <= sub.seen[1]))) return;
      sub.seen = [version, index];
    }
    sub.channel.event(event);
    if (event.type === "channel.reload") this.load(sub, RELOAD_SPREAD_MS);
    if (event.type === "channel.removed") this.gone(sub, removed(event.cid, event.reason));
  }

  /** The user got into a channel: one that was refused is tried again. */
  added(cid: string): void {
    const sub = this.subs.get(cid);
    if (sub?.phase === "gone") this.load(sub, 0);
  }

  close(): void {
    for (const cid of [...this.subs.keys()]) this.unwant(cid);
    this.env.clearTimeout(this.flush_timer);
  }

  private load(sub: Sub, spread_ms: number): void {
    sub.phase = "load";
    sub.from = null;
    sub.round += 1;
    if (sub.round > 1) sub.channel.sync("behind", null);
    this.env.clearTimeout(sub.timer);
    sub.timer = this.env.setTimeout(() => {
      sub.timer = null;
      if (!this.queue.includes(sub)) this.queue.push(sub);
      this.nextLoad();
    }, spread_ms * this.env.random());
  }

  private nextLoad(): void {
    while (this.loading < LOADS_AT_ONCE && this.queue.length > 0) void this.runLoad(this.queue.shift()!);
  }

  private async runLoad(sub: Sub): Promise<void> {
    const round = sub.round;
    const isCurrent = () => sub.round === round && this.subs.get(sub.channel.cid) === sub;
    if (!isCurrent()) return;
    this.loading += 1;
    try {
      const from = await sub.channel.load();
      if (isCurrent()) {
        sub.attempt = 0;
        sub.from = from;
        sub.seen = null;
        sub.phase = "read";
        sub.channel.sync("behind", null);
        sub.first.resolve();
        this.flushSoon();
      }
    } catch (thrown) {
      const error = asChatError(thrown);
      if (isCurrent() && error.isTransient) {
        sub.timer = this.env.setTimeout(() => {
          sub.timer = null;
          this.queue.push(sub);
          this.nextLoad();
        }, backoffMs(this.env, sub.attempt++));
      } else if (isCurrent()) {
        this.gone(sub, error);
      }
    }
    this.loading -= 1;
    this.nextLoad();
  }

  /** Subscribes all that was read, in few frames. */
  private flushSoon(): void {
    if (this.flush_timer !== null) return;
    this.flush_timer = this.env.setTimeout(() => {
      this.flush_timer = null;
      this.flush();
    }, 5);
  }

  private flush(): void {
    if (!this.connected) return;
    let batch: Sub[] = [];
    let chars = 0;
    for (const sub of this.subs.values()) {
      if (sub.phase !== "read" || this.leaving.has(sub.channel.cid)) continue;
      const size = sub.channel.cid.length + (sub.from?.length ?? 0) + 64;
      if (batch.length > 0 && (chars + size > FRAME_CHARS_MAX || batch.length >= FRAME_CHANNELS_MAX)) {
        void this.subscribe(batch);
        batch = [];
        chars = 0;
      }
      batch.push(sub);
      chars += size;
    }
    if (batch.length > 0) void this.subscribe(batch);
  }

  private async subscribe(batch: Sub[]): Promise<void> {
    for (const sub of batch) sub.phase = "asked";
    const rounds = batch.map((sub) => sub.round);
    const channels = batch.map((sub) => ({ cid: sub.channel.cid, resume: sub.from }));
    let reply: Frame;
    try {
      reply = await this.connection.request({ type: "subscribe", channels });
    } catch (thrown) {
      const error = asChatError(thrown);
      // After a drop the welcome goes on with them.
      if (error.kind === "api") {
        this.failed(error);
        batch.forEach((sub, index) => {
          if (sub.round === rounds[index] && sub.phase === "asked") this.load(sub, 10 * RELOAD_SPREAD_MS);
        });
      }
      return;
    }
    this.resume = String(reply.resume);
    const answers = new Map((reply.channels as Subscribed[]).map((answer) => [answer.cid, answer]));
    batch.forEach((sub, index) => {
      if (sub.round !== rounds[index] || sub.phase !== "asked") return;
      const answer = answers.get(sub.channel.cid);
      if (answer?.status === "ok") this.live(sub);
      else this.refused(sub, answer ?? { cid: sub.channel.cid, status: "reload", error: null });
    });
  }

  private live(sub: Sub): void {
    sub.phase = "live";
    sub.from = null;
    sub.channel.sync("live", null);
  }

  private refused(sub: Sub, answer: Subscribed): void {
    const error = answer.status === "error" ? fromBody(answer.error, 0) : null;
    if (error && !error.isTransient) this.gone(sub, error);
    else this.load(sub, RELOAD_SPREAD_MS);
  }

  private gone(sub: Sub, error: ChatError): void {
    sub.phase = "gone";
    sub.round += 1;
    sub.first.reject(error);
    sub.channel.sync("gone", error);
  }

  private async unsubscribe(cids: string[]): Promise<void> {
    if (!this.connected || cids.length === 0) return;
    for (const cid of cids) this.leaving.set(cid, (this.leaving.get(cid) ?? 0) + 1);
    try {
      const reply = await this.connection.request({ type: "unsubscribe", channels: cids });
      this.resume = String(reply.resume);
    } catch (thrown) {
      const error = asChatError(thrown);
      // After a drop nothing is left to be awaited.
      if (error.kind !== "api") return;
      this.failed(error);
    }
    for (const cid of cids) {
      const left = (this.leaving.get(cid) ?? 1) - 1;
      if (left > 0) this.leaving.set(cid, left);
      else this.leaving.delete(cid);
    }
    this.flushSoon();
  }
}

function removed(cid: string, reason: string): ChatError {
  const detail = `channel ${cid} cannot be read any more: ${reason}`;
  return new ChatError("api", detail, { code: Code.NOT_ALLOWED, detail, status_code: 403, exception: "NotAllowedException", reason });
}

function deferred(): Sub["first"] {
  let resolve!: () => void;
  let reject!: (error: ChatError) => void;
  const promise = new Promise<void>((one, other) => {
    resolve = one;
    reject = other;
  });
  promise.catch(() => {});
  return { resolve, reject, promise };
}
