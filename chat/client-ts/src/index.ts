// @keevo/chat: the client of Keevo's chat. docs/CHAT-API.md is the protocol, README.md how it is used.

export type { Api } from "./api.js";
export { Channel } from "./channel.js";
export type { MessagesOptions, ReadTo } from "./channel-calls.js";
export { ChatClient, type ChatOptions, type FoundChannel, type NewChannel, type Totals } from "./client.js";
export type { Store } from "./emitter.js";
export type { ChatEnv, Socket } from "./env.js";
export { ChatError, type ChatErrorKind, Code } from "./errors.js";
export type { ChannelEvents, ClientEvents, ConnectionStatus, Typing } from "./events.js";
export { type ChannelState, shown, type ShownMessage, type SyncStatus, type ThreadState, type WaitingMessage } from "./state.js";
export { type ChatStorage, memoryStorage, webStorage } from "./storage.js";
export type { TokenSource } from "./tokens.js";
export type * from "./types.js";
