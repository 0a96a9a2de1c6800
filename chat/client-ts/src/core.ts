// What the parts of a client share.

import type { Api } from "./api.js";
import type { ChatEnv } from "./env.js";
import type { ChatError } from "./errors.js";
import type { ClientEvents } from "./events.js";
import type { Outbox } from "./outbox.js";
import type { Refresher } from "./refresher.js";
import type { Sync } from "./sync.js";
import type { Unread } from "./types.js";

/** The client, as its channels see it. */
export interface Core {
  readonly env: ChatEnv;
  readonly userId: string;
  readonly api: Api;
  readonly outbox: Outbox;
  readonly sync: Sync;
  readonly refresher: Refresher;
  /** Sends a frame that has no reply; without a connection it is lost. */
  send(frame: Record<string, unknown>): void;
  emit<Type extends keyof ClientEvents>(type: Type, event: ClientEvents[Type]): void;
  unreadChanged(cid: string, unread: Unread | null): void;
  /** Something failed that nobody waits for. */
  readonly failed: (error: ChatError) => void;
}
