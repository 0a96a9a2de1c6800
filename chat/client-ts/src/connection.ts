// The socket: handshake, heartbeats, drops and attempts. It knows frames, and nothing of what they say.
//
//   idle ──start──▶ connecting ──welcome──▶ connected
//                     ▲    │                    │
//                     │    ╰──────drop──────────┤
//                 timer/wake                    ▼
//                     ╰──────────────────── waiting        refused: 4003, a fixed token that is refused
//
// Invariant: at most one socket at a time is listened to; one that was given up says nothing any more.

import type { Nodes } from "./api.js";
import { backoffMs, type ChatEnv, type Socket } from "./env.js";
import { asChatError, ChatError, type ErrorBody, fromBody } from "./errors.js";
import type { ConnectionStatus, Welcome } from "./events.js";
import type { Tokens } from "./tokens.js";

const HANDSHAKE_MS = 10_000;
const REPLY_MS = 10_000;
/** A client says something at least every 60 s. */
const PING_MS_MAX = 25_000;
/** A connection that lived for so long was a good one: the next attempt is the first again. */
const GOOD_MS = 5_000;
const DAY_MS = 86_400_000;

/** The close codes of the protocol, as far as they decide what follows. */
const Close = { TOKEN: 4001, FORBIDDEN: 4003, RESUME: 4005, BUSY: [4009, 4011, 4029] };

export type Frame = { type: string; id?: number | string } & Record<string, unknown>;

export interface ConnectionHost {
  env: ChatEnv;
  nodes: Nodes;
  apiKey: string;
  tokens: Tokens;
  invisible: boolean;
  /** Where the connection goes on: the newest token, and the last place of each channel that was handled. */
  hello(): { resume: string | null; seen: Record<string, [number, number]> };
  /** The server can't use the token. */
  resumeRefused(): void;
  /** Throws to refuse the connection for good. */
  welcome(frame: Welcome): void;
  dropped(): void;
  event(frame: Frame): void;
  status(status: ConnectionStatus, error: ChatError | null): void;
  failed(error: ChatError): void;
}

interface Waiter {
  resolve: (frame: Frame) => void;
  reject: (error: ChatError) => void;
  timer: unknown;
}

/** The connection to some node. */
export class Connection {
  status: ConnectionStatus = "idle";
  private socket: Socket | null = null;
  private url = "";
  private token = "";
  /** The token that the server did not take. */
  private refused_token: string | null = null;
  /** Counts the attempts ever made: what belongs to an earlier one is passed over. */
  private round = 0;
  private attempt = 0;
  private welcome_at = 0;
  private heard_at = 0;
  private said_at = 0;
  private hello_error: ChatError | null = null;
  private next_id = 1;
  private readonly waiters = new Map<number | string, Waiter>();
  /** The wait for a welcome, or for the next attempt. */
  private timer: unknown = null;
  private ticker: unknown = null;
  private renewal: unknown = null;
  private unwake: (() => void) | null = null;

  constructor(private readonly host: ConnectionHost) {}

  /** Begins to connect, and stays connected until `stop`. */
  start(): void {
    if (this.status !== "idle" && this.status !== "refused") return;
    this.attempt = 0;
    this.unwake ??= this.host.env.onWake(() => this.wake());
    void this.open();
  }

  stop(): void {
    this.unwake?.();
    this.unwake = null;
    const was = this.status;
    this.abandon(1000);
    if (was === "connected") this.host.dropped();
    this.turn("idle", null);
  }

  /** The network is back: does not wait any longer. */
  wake(): void {
    if (this.status !== "waiting") return;
    this.host.env.clearTimeout(this.timer);
    void this.open();
  }

  /** Sends a frame that has no reply; without a connection it is lost. */
  send(frame: Record<string, unknown>): void {
    if (this.status === "connected") this.write(frame);
  }

  /** Sends a frame and waits for its reply. */
  request(frame: Record<string, unknown>): Promise<Frame> {
    if (this.status !== "connected") return Promise.reject(new ChatError("disconnected", "there is no connection"));
    const id = this.next_id++;
    return new Promise((resolve, reject) => {
      const timer = this.host.env.setTimeout(() => {
        this.drop(0, new ChatError("network", `${this.url}: no reply to '${String(frame.type)}' within ${REPLY_MS / 1_000} s`));
      }, REPLY_MS);
      this.waiters.set(id, { resolve, reject, timer });
      this.write({ ...frame, id });
    });
  }

  private async open(): Promise<void> {
    const round = ++this.round;
    this.hello_error = null;
    this.turn("connecting", null);
    try {
      const refused = this.refused_token;
      this.token = await (refused === null ? this.host.tokens.get() : this.host.tokens.renew(refused));
      this.refused_token = null;
    } catch (error) {
      if (round === this.round) this.drop(0, asChatError(error));
      return;
    }
    if (round !== this.round) return;
    this.url = this.host.nodes.url;
    let socket: Socket;
    try {
      socket = this.host.env.socket(`${this.url.replace(/^http/, "ws")}/chat/v1/connect`);
    } catch (error) {
      this.drop(0, asChatError(error));
      return;
    }
    this.socket = socket;
    const current = () => this.socket === socket;
    socket.onopen = () => {
      if (!current()) return;
      const { resume, seen } = this.host.hello();
      const invisible = this.host.invisible ? { invisible: true } : {};
      const from = resume === null ? {} : { resume, seen };
      this.write({ type: "hello", id: this.next_id++, api_key: this.host.apiKey, token: this.token, ...from, ...invisible });
    };
    socket.onmessage = (event: { data: unknown }) => {
      if (current()) this.read(event.data);
    };
    socket.onclose = (event: { code?: number; reason?: string } | undefined) => {
      if (current()) this.drop(event?.code ?? 1006, this.hello_error ?? this.closed(event?.code ?? 1006, event?.reason ?? ""));
    };
    // A close follows.
    socket.onerror = () => {};
    this.timer = this.host.env.setTimeout(() => {
      this.drop(0, new ChatError("network", `${this.url}: no welcome within ${HANDSHAKE_MS / 1_000} s`));
    }, HANDSHAKE_MS);
  }

  private read(data: unknown): void {
    let frame: Frame;
    try {
      frame = JSON.parse(String(data)) as Frame;
      if (typeof frame !== "object" || frame === null || typeof frame.type !== "string") throw new Error("no type");
    } catch (error) {
      this.drop(0, new ChatError("network", `${this.url} sent what is no frame of chat`, undefined, error));
      return;
    }
    this.heard_at = this.host.env.now();
    if (this.status === "connecting") {
      if (frame.type === "welcome") this.welcomed(frame as unknown as Welcome);
      else if (frame.type === "error") this.hello_error = errorOf(frame);
      return;
    }
    const waiter = frame.id === undefined || frame.id === null ? undefined : this.waiters.get(frame.id);
    if (waiter) {
      this.waiters.delete(frame.id!);
      this.host.env.clearTimeout(waiter.timer);
      if (frame.type === "error") waiter.reject(errorOf(frame));
      else waiter.resolve(frame);
    } else if (frame.type === "error") {
      this.host.failed(errorOf(frame));
    } else if (frame.type !== "heartbeat" && frame.type !== "pong") {
      this.host.event(frame);
    }
  }

  private welcomed(frame: Welcome): void {
    this.host.env.clearTimeout(this.timer);
    this.timer = null;
    this.welcome_at = this.heard_at;
    const heartbeat_ms = Math.max(1_000, Number(frame.heartbeat_ms) || PING_MS_MAX);
    this.tick(Math.min(heartbeat_ms, PING_MS_MAX), 2 * heartbeat_ms);
    this.planRenewal();
    // The status first: what the host does with the welcome may send frames.
    this.status = "connected";
    try {
      this.host.welcome(frame);
    } catch (error) {
      this.refuse(asChatError(error));
      return;
    }
    this.host.status("connected", null);
  }

  /** Looks at each tick whether the server is still heard, and says something where nothing else was said. */
  private tick(every_ms: number, silence_ms_max: number): void {
    this.ticker = this.host.env.setTimeout(() => {
      const now = this.host.env.now();
      if (now - this.heard_at > silence_ms_max) {
        this.drop(0, new ChatError("network", `${this.url}: nothing was heard for ${silence_ms_max} ms`));
        return;
      }
      if (now - this.said_at >= every_ms) this.write({ type: "ping" });
      this.tick(every_ms, silence_ms_max);
    }, every_ms);
  }

  /** Gets the next token before this one ends, so that the connection need not. */
  private planRenewal(wait_ms_min = 1_000): void {
    const at = this.host.tokens.canRenew ? this.host.tokens.renewAt() : null;
    if (at === null) return;
    const round = this.round;
    const delay_ms = Math.max(wait_ms_min, at - this.host.env.now());
    this.renewal = this.host.env.setTimeout(async () => {
      if (delay_ms > DAY_MS) return this.planRenewal();
      try {
        const token = await this.host.tokens.renew(this.token);
        if (round !== this.round) return;
        this.token = token;
        await this.request({ type: "token", token });
        this.planRenewal();
      } catch (error) {
        if (round !== this.round) return;
        this.host.failed(asChatError(error));
        this.planRenewal(10_000);
      }
    }, Math.min(delay_ms, DAY_MS + 1));
  }

  private write(frame: Record<string, unknown>): void {
    this.said_at = this.host.env.now();
    try {
      this.socket?.send(JSON.stringify(frame));
    } catch {
      // The socket is closing: its close follows.
    }
  }

  /** Gives up the connection, and plans the next one where `code` allows it. */
  private drop(code: number, error: ChatError): void {
    const was_connected = this.status === "connected";
    const now = this.host.env.now();
    if (was_connected && now - this.welcome_at >= GOOD_MS) this.attempt = 0;
    this.abandon(1000);
    if (was_connected) this.host.dropped();
    if (code === Close.FORBIDDEN) return this.refuse(error);
    if (code === Close.TOKEN) {
      if (!this.host.tokens.canRenew) return this.refuse(error);
      this.refused_token = this.token;
    }
    if (code === Close.RESUME) this.host.resumeRefused();
    if (code !== Close.TOKEN && code !== Close.RESUME) this.host.nodes.skip(this.url);
    const delay_ms = backoffMs(this.host.env, this.attempt, Close.BUSY.includes(code) ? 1_000 : 0);
    this.attempt += 1;
    this.turn("waiting", error);
    this.timer = this.host.env.setTimeout(() => void this.open(), delay_ms);
  }

  private refuse(error: ChatError): void {
    if (this.status === "connected") this.host.dropped();
    this.abandon(1000);
    this.turn("refused", error);
  }

  /** Lets go of the socket and all that waits for it. */
  private abandon(code: number): void {
    this.round += 1;
    const socket = this.socket;
    this.socket = null;
    for (const timer of [this.timer, this.ticker, this.renewal]) this.host.env.clearTimeout(timer);
    this.timer = this.ticker = this.renewal = null;
    const waiters = [...this.waiters.values()];
    this.waiters.clear();
    for (const waiter of waiters) {
      this.host.env.clearTimeout(waiter.timer);
      waiter.reject(new ChatError("disconnected", "the connection ended before the reply"));
    }
    try {
      socket?.close(code);
    } catch {
      // It was not open yet.
    }
  }

  private turn(status: ConnectionStatus, error: ChatError | null): void {
    if (this.status === status && error === null) return;
    this.status = status;
    this.host.status(status, error);
  }

  private closed(code: number, reason: string): ChatError {
    return new ChatError("network", `${this.url}: the connection ended (${code}${reason ? `, ${reason}` : ""})`);
  }
}

function errorOf(frame: Frame): ChatError {
  const body = frame.error as ErrorBody | undefined;
  return fromBody(body, body?.status_code ?? 0);
}
