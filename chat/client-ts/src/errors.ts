// Errors of the client: those that the server answered with, and those on the way to it.

/** The body of a server's error; docs/CHAT-API.md, section 3, lists the codes. */
export interface ErrorBody {
  code: number;
  detail: string;
  status_code: number;
  exception: string;
  reason?: string | null;
  retry_after_ms?: number | null;
  exception_fields?: Record<string, string[]> | null;
}

/**
 * What failed.
 *
 * `api`: the server said no, `code` says why. `network`: no answer; a write may or may not be stored. `disconnected`: the
 * socket ended before the reply. `queue-full`: more waits to be sent than is kept. `closed`: the client was disconnected
 * by its own program. `usage`: a fault of the caller.
 */
export type ChatErrorKind = "api" | "network" | "disconnected" | "queue-full" | "closed" | "usage";

/** The codes that programs ask about. */
export const Code = {
  INPUT: 4,
  RATE_LIMIT: 9,
  NOT_FOUND: 16,
  NOT_ALLOWED: 17,
  TOO_LARGE: 18,
  CONFLICT: 22,
  TOKEN_EXPIRED: 40,
  TOKEN_NOT_YET: 41,
  TOKEN_BEFORE_ISSUED: 42,
  TOKEN_INVALID: 43,
  COOL_DOWN: 60,
  INTERNAL: -1,
} as const;

/** An error of the client. */
export class ChatError extends Error {
  override readonly name = "ChatError";
  readonly kind: ChatErrorKind;
  /** The server's code; `null` where no server answered. */
  readonly code: number | null;
  readonly status: number | null;
  /** Why it was denied, with code 17: `not-a-member`, `banned`, … */
  readonly reason: string | null;
  /** When to try again, counted from the answer. */
  readonly retryAfterMs: number | null;
  /** The fields at fault, with code 4. */
  readonly fields: Record<string, string[]>;

  constructor(kind: ChatErrorKind, message: string, body?: ErrorBody, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.kind = kind;
    this.code = body?.code ?? null;
    this.status = body?.status_code ?? null;
    this.reason = body?.reason ?? null;
    this.retryAfterMs = body?.retry_after_ms ?? null;
    this.fields = body?.exception_fields ?? {};
  }

  /** Whether the token is at fault, so that a new one may help. */
  get isToken(): boolean {
    return this.code !== null && this.code >= Code.TOKEN_EXPIRED && this.code <= Code.TOKEN_INVALID;
  }

  /** Whether the same call may succeed later. */
  get isTransient(): boolean {
    return (
      this.kind === "network" ||
      this.kind === "disconnected" ||
      this.code === Code.RATE_LIMIT ||
      this.code === Code.COOL_DOWN ||
      this.isToken ||
      (this.kind === "api" && (this.status ?? 0) >= 500)
    );
  }
}

/** The error for a body that a server sent, whatever it looks like. */
export function fromBody(body: unknown, status: number): ChatError {
  const known = typeof body === "object" && body !== null && typeof (body as ErrorBody).code === "number";
  if (!known) {
    const code = status === 429 ? Code.RATE_LIMIT : status >= 500 ? Code.INTERNAL : 0;
    const detail = `the server answered with status ${status} and no error of chat`;
    return new ChatError("api", detail, { code, detail, status_code: status, exception: "" });
  }
  const error = body as ErrorBody;
  return new ChatError("api", String(error.detail), { ...error, status_code: error.status_code ?? status });
}

/** Whatever was thrown, as an error of the client. */
export function asChatError(thrown: unknown): ChatError {
  if (thrown instanceof ChatError) return thrown;
  return new ChatError("usage", thrown instanceof Error ? thrown.message : String(thrown), undefined, thrown);
}
