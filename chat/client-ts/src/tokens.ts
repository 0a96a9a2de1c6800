// The user's token: asked for when it is needed, renewed before it expires.

import type { ChatEnv } from "./env.js";
import { ChatError } from "./errors.js";

/** A token, or what fetches one from the program's own server. */
export type TokenSource = string | (() => string | Promise<string>);

/** How long before its end a token is renewed. */
const AHEAD_MS = 60_000;
/** A clock that is wrong must not have a token asked for with each call. */
const RENEWED_AHEAD_MIN_MS = 30_000;

/** Holds the newest token. Whoever asks while one is being fetched gets that one. */
export class Tokens {
  private current: string | null = null;
  private fetched_at = 0;
  private asked: Promise<string> | null = null;

  constructor(
    private readonly source: TokenSource,
    private readonly env: ChatEnv,
  ) {}

  /** Whether another token can be had. */
  get canRenew(): boolean {
    return typeof this.source === "function";
  }

  /** A token that is not known to be expired. */
  async get(): Promise<string> {
    if (typeof this.source === "string") return this.source;
    if (this.current === null) return this.fetch();
    const now = this.env.now();
    const renew_at = this.renewAt();
    if (renew_at !== null && now >= renew_at && now - this.fetched_at >= RENEWED_AHEAD_MIN_MS) return this.fetch();
    return this.current;
  }

  /** A token other than `refused`. Fails where the token is a fixed one. */
  async renew(refused: string): Promise<string> {
    if (typeof this.source === "string") {
      throw new ChatError("usage", "the token is a fixed one and was refused: give a function that fetches a new one");
    }
    return this.current !== null && this.current !== refused ? this.current : this.fetch();
  }

  /** When the newest token is to be renewed; `null` = it does not say when it expires. */
  renewAt(): number | null {
    const expires_at = this.current === null ? null : expiry(this.current);
    if (expires_at === null) return null;
    const life_ms = expires_at - this.fetched_at;
    return expires_at - Math.min(AHEAD_MS, Math.max(0, life_ms / 2));
  }

  private fetch(): Promise<string> {
    this.asked ??= this.ask().finally(() => {
      this.asked = null;
    });
    return this.asked;
  }

  private async ask(): Promise<string> {
    let token: unknown;
    try {
      token = await (this.source as () => string | Promise<string>)();
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new ChatError("network", `the program's own token function failed: ${why}`, undefined, error);
    }
    if (typeof token !== "string" || token === "") {
      throw new ChatError("usage", "the program's own token function gave no token: it has to give a text");
    }
    this.current = token;
    this.fetched_at = this.env.now();
    return token;
  }
}

/** When a JSON Web Token expires; `null` where it does not say. Only the server can tell whether it is good. */
export function expiry(token: string): number | null {
  try {
    const part = (token.split(".")[1] ?? "").replace(/-/g, "+").replace(/_/g, "/");
    const claims: unknown = JSON.parse(atob(part));
    const exp = (claims as { exp?: unknown } | null)?.exp;
    return typeof exp === "number" && Number.isFinite(exp) ? exp * 1_000 : null;
  } catch {
    return null;
  }
}
