// The outside world of the unit tests: a clock that stands still until it is told, seeded randomness, scripted sockets.

import type { ChatEnv, Socket } from "../src/env.js";

/** Seeded random numbers of [0, 1): mulberry32. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

interface Timer {
  at: number;
  number: number;
  run: () => void;
}

/** A socket whose other end is the test. */
export class FakeSocket implements Socket {
  onopen: ((event: unknown) => void) | null = null;
  onmessage: ((event: unknown) => void) | null = null;
  onclose: ((event: unknown) => void) | null = null;
  onerror: ((event: unknown) => void) | null = null;
  /** The frames that the client sent. */
  readonly sent: Record<string, any>[] = [];
  /** With what code the client closed it. */
  closed: number | null = null;
  onSent: (frame: Record<string, any>) => void = () => {};

  constructor(readonly url: string) {}

  send(text: string): void {
    const frame = JSON.parse(text) as Record<string, any>;
    this.sent.push(frame);
    this.onSent(frame);
  }

  close(code = 1000): void {
    this.closed ??= code;
  }

  open(): void {
    this.onopen?.({});
  }

  say(frame: unknown): void {
    this.onmessage?.({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
  }

  end(code: number, reason = ""): void {
    this.onclose?.({ code, reason });
  }

  /** The newest frame of a type that the client sent. */
  last(type: string): Record<string, any> | undefined {
    return this.sent.filter((frame) => frame.type === type).at(-1);
  }
}

export type Answer = { status: number; body: unknown } | "lost";
type Handler = (call: { method: string; path: string; query: URLSearchParams; body: any; url: string; token: string }) => Answer | Promise<Answer>;

/** Clock, randomness and network in the test's hands. */
export class World {
  now = 1_700_000_000_000;
  readonly sockets: FakeSocket[] = [];
  /** What listeners threw. */
  readonly reported: unknown[] = [];
  onSocket: (socket: FakeSocket) => void = () => {};
  onCall: Handler = () => ({ status: 404, body: {} });
  wake: () => void = () => {};
  readonly env: ChatEnv;
  readonly random: () => number;
  private readonly timers = new Map<number, Timer>();
  private next = 1;

  constructor(seed = 1) {
    this.random = seeded(seed);
    let ids = 0;
    this.env = {
      now: () => this.now,
      setTimeout: (run, delay_ms) => {
        const number = this.next++;
        this.timers.set(number, { at: this.now + Math.max(0, delay_ms), number, run });
        return number;
      },
      clearTimeout: (handle) => void this.timers.delete(handle as number),
      random: this.random,
      uuid: () => `id-${seed}-${++ids}`,
      socket: (url) => {
        const socket = new FakeSocket(url);
        this.sockets.push(socket);
        this.onSocket(socket);
        return socket;
      },
      fetch: async (url, init) => {
        const address = new URL(url);
        const body = typeof init.body === "string" ? JSON.parse(init.body) : init.body;
        const path = decodeURIComponent(address.pathname.replace(/^\/chat\/v1/, ""));
        const token = (init.headers as Record<string, string>).Authorization ?? "";
        const answer = await this.onCall({ method: init.method!, path, query: address.searchParams, body, url, token });
        if (answer === "lost") throw new TypeError("fetch failed");
        const text = JSON.stringify(answer.body);
        return { ok: answer.status < 400, status: answer.status, json: async () => JSON.parse(text) as unknown } as Response;
      },
      onWake: (wake) => {
        this.wake = wake;
        return () => {
          this.wake = () => {};
        };
      },
      report: (error) => void this.reported.push(error),
    };
  }

  get socket(): FakeSocket {
    return this.sockets.at(-1)!;
  }

  /** How many timers are set. */
  get pending(): number {
    return this.timers.size;
  }

  /** Lets all that is ready run, without time passing. */
  async settle(): Promise<void> {
    for (let turn = 0; turn < 2; turn += 1) await new Promise((done) => setImmediate(done));
  }

  /** Lets time pass, timer by timer. */
  async pass(ms: number): Promise<void> {
    const end = this.now + ms;
    await this.settle();
    for (;;) {
      let first: Timer | undefined;
      for (const timer of this.timers.values()) {
        if (timer.at <= end && (!first || timer.at < first.at || (timer.at === first.at && timer.number < first.number))) first = timer;
      }
      if (!first) break;
      this.timers.delete(first.number);
      this.now = Math.max(this.now, first.at);
      first.run();
      await this.settle();
    }
    this.now = end;
  }
}

/** A token that names a user and when it expires; nobody here checks its signature. */
export function token(user: string, expires_at?: number, mark = ""): string {
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = expires_at === undefined ? {} : { exp: Math.floor(expires_at / 1_000) };
  return `${encode({ alg: "HS256", typ: "JWT" })}.${encode({ user_id: user, ...exp })}.signature${mark}`;
}

/** The body of an error. */
export function errorBody(code: number, status: number, more: Record<string, unknown> = {}) {
  return { detail: `error ${code}`, status_code: status, code, exception: "X", more_info: "", reason: null, retry_after_ms: null, ...more };
}
