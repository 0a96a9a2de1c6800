// Calls over HTTP: token, errors, repeats.

import { backoffMs, type ChatEnv, sleep } from "./env.js";
import { ChatError, Code, fromBody } from "./errors.js";
import type { Tokens } from "./tokens.js";
import type { Json } from "./types.js";

const TIMEOUT_MS = 15_000;
const UPLOAD_TIMEOUT_MS = 120_000;
/** A longer wait than this is for the program to decide. */
const RETRY_AFTER_MAX_MS = 5_000;

type Query = Record<string, string | number | boolean | null | undefined>;

export interface CallOptions {
  query?: Query;
  body?: unknown;
  form?: FormData;
  /** How often it is tried where nothing answers, or 503. */
  attempts?: number;
}

/** A path with each part percent-encoded: path`/users/${id}`. */
export function path(texts: TemplateStringsArray, ...parts: string[]): string {
  return texts.reduce((all, text, index) => all + text + (index < parts.length ? encodeURIComponent(parts[index]!) : ""), "");
}

/** The addresses of the cluster's nodes; the next one is taken when one does not answer. */
export class Nodes {
  private at = 0;
  private readonly urls: string[];

  constructor(urls: string | string[]) {
    this.urls = (typeof urls === "string" ? [urls] : urls).map((url) => url.replace(/\/+$/, ""));
    if (this.urls.length === 0) throw new ChatError("usage", "`url` names no node");
    for (const url of this.urls) {
      if (!/^https?:\/\//.test(url)) throw new ChatError("usage", `'${url}' is no address: it has to begin with http:// or https://`);
    }
  }

  get url(): string {
    return this.urls[this.at]!;
  }

  /** Goes on to the next one, unless somebody has gone on from `failed` already. */
  skip(failed: string): void {
    if (this.url === failed) this.at = (this.at + 1) % this.urls.length;
  }
}

/** The HTTP side of the client. */
export class Api {
  constructor(
    private readonly env: ChatEnv,
    readonly nodes: Nodes,
    readonly apiKey: string,
    readonly tokens: Tokens,
  ) {}

  /**
   * Calls an endpoint. What gets no answer, or 503, is tried up to `attempts` times (3): all calls may be repeated, since
   * messages and channels carry ids. An expired token is renewed once; a short `retry_after_ms` is waited for once.
   *
   * Throws a `ChatError`.
   */
  async call<T = Json>(method: string, path: string, options: CallOptions = {}): Promise<T> {
    const attempts = options.attempts ?? 3;
    let renewed = false;
    let waited = false;
    for (let attempt = 0; ; ) {
      const token = await this.tokens.get();
      const url = this.nodes.url;
      try {
        return await this.once<T>(url, method, path, token, options);
      } catch (thrown) {
        const error = thrown as ChatError;
        if (error.isToken && !renewed && this.tokens.canRenew) {
          renewed = true;
          await this.tokens.renew(token);
          continue;
        }
        const wait_ms = error.retryAfterMs;
        if (error.code === Code.RATE_LIMIT && attempts > 1 && !waited && wait_ms !== null && wait_ms <= RETRY_AFTER_MAX_MS) {
          waited = true;
          await sleep(this.env, wait_ms + this.env.random() * 200);
          continue;
        }
        const repeatable = error.kind === "network" || error.status === 503;
        if (repeatable) this.nodes.skip(url);
        attempt += 1;
        if (!repeatable || attempt >= attempts) throw error;
        await sleep(this.env, backoffMs(this.env, attempt - 1));
      }
    }
  }

  private async once<T>(base: string, method: string, path: string, token: string, options: CallOptions): Promise<T> {
    const query = new URLSearchParams({ api_key: this.apiKey });
    for (const [name, value] of Object.entries(options.query ?? {})) {
      if (value !== null && value !== undefined) query.set(name, String(value));
    }
    const headers: Record<string, string> = { Authorization: token };
    const init: RequestInit = { method, headers };
    if (options.form) {
      init.body = options.form;
    } else if (options.body !== undefined) {
      headers["Content-Type"] = "application/json";
      init.body = JSON.stringify(options.body);
    }
    const abort = new AbortController();
    init.signal = abort.signal;
    const timer = this.env.setTimeout(() => abort.abort(), options.form ? UPLOAD_TIMEOUT_MS : TIMEOUT_MS);
    let response: Response;
    let body: unknown;
    try {
      response = await this.env.fetch(`${base}/chat/v1${path}?${query}`, init);
      body = await response.json().catch((error: unknown) => {
        if (abort.signal.aborted || response.ok) throw error;
        return null;
      });
    } catch (error) {
      const why = abort.signal.aborted ? "it did not answer in time" : error instanceof Error ? error.message : String(error);
      throw new ChatError("network", `${method} ${path} at ${base}: ${why}`, undefined, error);
    } finally {
      this.env.clearTimeout(timer);
    }
    if (!response.ok) throw fromBody(body, response.status);
    return body as T;
  }
}
