// Hooks for React. What they give changes as a whole, so memoized components can compare it.

import { createContext, createElement, type ReactNode, useCallback, useContext, useEffect, useMemo, useState, useSyncExternalStore } from "react";
import type { Channel, ChannelState, ChatClient, ChatError, ConnectionStatus, Message, NewMessage } from "./index.js";
import type { ShownMessage, ThreadState, Totals, Unread } from "./index.js";

const ChatContext = createContext<ChatClient | null>(null);

/** Gives the client to the hooks below it. It neither connects nor disconnects it. */
export function ChatProvider(props: { client: ChatClient; children?: ReactNode }) {
  return createElement(ChatContext.Provider, { value: props.client }, props.children);
}

/** The client, and how its connection is. */
export function useChat(): { client: ChatClient; status: ConnectionStatus; userId: string } {
  const client = useContext(ChatContext);
  if (!client) throw new Error("useChat is used outside of <ChatProvider client={…}>");
  const status = useSyncExternalStore(client.connection.subscribe, client.connection.get, client.connection.get);
  return { client, status, userId: client.userId };
}

/** A channel, watched as long as the component is there. `error` says why it can't be. */
export function useChannel(cid: string): { channel: Channel; state: ChannelState; error: ChatError | null } {
  const { client } = useChat();
  const channel = useMemo(() => client.channel(cid), [client, cid]);
  const [failure, setFailure] = useState<{ channel: Channel; error: ChatError } | null>(null);
  useEffect(() => {
    let here = true;
    let watching = true;
    channel.watch().catch((error: ChatError) => {
      watching = false;
      if (here) setFailure({ channel, error });
    });
    return () => {
      here = false;
      if (watching) channel.unwatch();
    };
  }, [channel]);
  const state = useChannelState(channel);
  return { channel, state, error: state.error ?? (failure?.channel === channel ? failure.error : null) };
}

/** The state of a channel that is watched elsewhere. */
export function useChannelState(channel: Channel): ChannelState {
  return useSyncExternalStore(channel.store.subscribe, channel.store.get, channel.store.get);
}

/** The messages to show, oldest first: stored ones, then those of the user's own that wait. */
export function useMessages(channel: Channel): {
  messages: ShownMessage[];
  hasOlder: boolean;
  loadOlder: (limit?: number) => Promise<boolean>;
  send: (message: NewMessage) => Promise<Message>;
} {
  const { messages, waiting, before } = useChannelState(channel);
  const all = useMemo(() => [...messages, ...waiting.filter((message) => message.parent_id === null)], [messages, waiting]);
  const loadOlder = useCallback((limit?: number) => channel.loadOlder(limit), [channel]);
  const send = useCallback((message: NewMessage) => channel.send(message), [channel]);
  return { messages: all, hasOlder: before !== null, loadOlder, send };
}

/** A thread of a channel, open as long as the component is there; `null` = none. */
export function useThread(channel: Channel, parent: string | null): {
  thread: ThreadState | null;
  parent: Message | null;
  replies: ShownMessage[];
  hasOlder: boolean;
  loadOlder: (limit?: number) => Promise<boolean>;
  send: (message: Omit<NewMessage, "parent_id">) => Promise<Message>;
} {
  const state = useChannelState(channel);
  const isKnown = state.channel !== null;
  useEffect(() => {
    if (parent === null || !isKnown) return;
    // A failure is shown by the thread's status.
    channel.openThread(parent).catch(() => {});
    return () => channel.closeThread(parent);
  }, [channel, parent, isKnown]);
  const thread = parent === null ? null : (state.threads[parent] ?? null);
  const { messages, waiting } = state;
  const replies = useMemo(
    () => [...(thread?.replies ?? []), ...waiting.filter((message) => parent !== null && message.parent_id === parent)],
    [thread?.replies, waiting, parent],
  );
  const original = useMemo(() => messages.find((message) => message.id === parent) ?? null, [messages, parent]);
  const loadOlder = useCallback(
    async (limit?: number) => parent !== null && (await channel.loadOlderReplies(parent, limit)),
    [channel, parent],
  );
  const send = useCallback(
    (message: Omit<NewMessage, "parent_id">) => channel.send(parent === null ? message : { ...message, parent_id: parent }),
    [channel, parent],
  );
  return { thread, parent: original, replies, hasOlder: (thread?.before ?? null) !== null, loadOlder, send };
}

/** Who else types in the channel, or in one of its threads; `keystroke` is to be called with each key. */
export function useTyping(channel: Channel, parent: string | null = null): { users: string[]; keystroke: () => void; stop: () => void } {
  const { typing } = useChannelState(channel);
  const users = useMemo(
    () => typing.filter((one) => (one.parent_id ?? null) === parent).map((one) => one.user_id),
    [typing, parent],
  );
  const keystroke = useCallback(() => channel.keystroke(parent), [channel, parent]);
  const stop = useCallback(() => channel.stopTyping(parent), [channel, parent]);
  return { users, keystroke, stop };
}

/** What is unread in all of the user's channels. */
export function useUnread(): Totals;
/** What is unread in a channel; `null` until it is known, and for who is no member. */
export function useUnread(channel: Channel): Unread | null;
export function useUnread(channel?: Channel): Totals | Unread | null {
  const { client } = useChat();
  const totals = useSyncExternalStore(client.unread.subscribe, client.unread.get, client.unread.get);
  const all = channel === undefined;
  useEffect(() => {
    // A failure is told by the client's `error` event.
    if (all) client.loadUnread().catch(() => {});
  }, [client, all]);
  const subscribe = channel?.store.subscribe ?? noSubscription;
  const read = useCallback(() => channel?.state.unread ?? null, [channel]);
  const unread = useSyncExternalStore(subscribe, read, read);
  return all ? totals : unread;
}

const noSubscription = () => () => {};
