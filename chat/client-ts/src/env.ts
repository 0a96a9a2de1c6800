// The outside world: time, randomness, the network. Tests bring their own.

/** The part of a WebSocket that the client uses; browsers' and `ws` have it. */
export interface Socket {
  send(text: string): void;
  close(code?: number, reason?: string): void;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
}

/** What the client takes from its surroundings. */
export interface ChatEnv {
  /** Milliseconds since the epoch. */
  now(): number;
  setTimeout(run: () => void, delay_ms: number): unknown;
  clearTimeout(handle: unknown): void;
  /** A number of [0, 1), for delays: need not be secure. */
  random(): number;
  /** An id that nobody else draws. */
  uuid(): string;
  fetch(url: string, init: RequestInit): Promise<Response>;
  socket(url: string): Socket;
  /** Calls `wake` when the network is back; gives what ends that. */
  onWake(wake: () => void): () => void;
  /** An error of the program's own listener. */
  report(error: unknown): void;
}

/** The surroundings of a browser, or of Node from version 22. Older Nodes bring `socket`, such as by the package `ws`. */
export function defaultEnv(): ChatEnv {
  const g = globalThis;
  return {
    now: () => Date.now(),
    setTimeout: (run, delay_ms) => g.setTimeout(run, delay_ms),
    clearTimeout: (handle) => g.clearTimeout(handle as number),
    random: () => Math.random(),
    uuid,
    fetch: (url, init) => g.fetch(url, init),
    socket: (url) => new g.WebSocket(url),
    onWake: (wake) => {
      if (typeof g.addEventListener !== "function") return () => {};
      g.addEventListener("online", wake);
      return () => g.removeEventListener("online", wake);
    },
    report: (error) => (typeof g.reportError === "function" ? g.reportError(error) : console.error(error)),
  };
}

/** A random UUID. `randomUUID` is there in secure contexts only, and Node 18 has no `crypto` of its own. */
function uuid(): string {
  const source: Partial<Crypto> = globalThis.crypto ?? {};
  if (source.randomUUID) return source.randomUUID();
  const bytes = source.getRandomValues?.(new Uint8Array(16)) ?? Uint8Array.from({ length: 16 }, () => Math.random() * 256);
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** A promise for the time after `delay_ms`. */
export function sleep(env: ChatEnv, delay_ms: number): Promise<void> {
  return new Promise((done) => void env.setTimeout(done, delay_ms));
}

/**
 * How long to wait before attempt `attempt` (0, 1, 2…): a random time below a bound that doubles from 1 s to 30 s, so that
 * clients of a node that died do not meet in one moment.
 */
export function backoffMs(env: ChatEnv, attempt: number, least_ms = 0): number {
  const bound_ms = Math.min(30_000, 1_000 * 2 ** Math.min(attempt, 10));
  return Math.round(least_ms + env.random() * Math.max(0, bound_ms - least_ms));
}
