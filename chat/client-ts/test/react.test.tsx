// @vitest-environment jsdom
// The hooks, in a page.

import { act, createElement as h, StrictMode } from "react";
import { createRoot, type Root } from "react-dom/client";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ChatClient, memoryStorage } from "../src/index.js";
import { ChatProvider, useChannel, useChat, useMessages, useThread, useTyping, useUnread } from "../src/react.js";
import { Model } from "./model.js";
import { token, World } from "./world.js";

const CID = "team:a";
(globalThis as any).IS_REACT_ACT_ENVIRONMENT = true;

let world: World;
let model: Model;
let client: ChatClient;
let root: Root;
let page: HTMLElement;

beforeEach(() => {
  world = new World();
  model = new Model(world, "ann");
  for (let index = 1; index <= 30; index += 1) model.channel(CID).send("bob", { id: `m${index}`, text: `${index}` });
  client = new ChatClient({ url: "http://a.test", apiKey: "key", userId: "ann", token: token("ann"), storage: memoryStorage(), env: world.env });
  page = document.body.appendChild(document.createElement("div"));
  root = createRoot(page);
});

afterEach(async () => {
  await act(async () => root.unmount());
  client.disconnect();
  expect(world.reported).toEqual([]);
});

const pass = (ms: number) => act(async () => world.pass(ms));
const text = (selector: string) => page.querySelector(selector)?.textContent;

let rendered = 0;

function View({ parent }: { parent: string | null }) {
  rendered += 1;
  const { status, userId } = useChat();
  const { channel, state, error } = useChannel(CID);
  const { messages, hasOlder } = useMessages(channel);
  const { replies, parent: original } = useThread(channel, parent);
  const { users } = useTyping(channel);
  const unread = useUnread(channel);
  return h(
    "div",
    null,
    h("p", { id: "status" }, `${userId} ${status} ${state.sync} ${error?.reason ?? "fine"}`),
    h("p", { id: "messages" }, messages.map((one) => `${one.text}${one.status ?? ""}`).join(" ")),
    h("p", { id: "older" }, String(hasOlder)),
    h("p", { id: "thread" }, `${original?.text ?? "-"}: ${replies.map((one) => one.text).join(" ")}`),
    h("p", { id: "typing" }, users.join(" ")),
    h("p", { id: "unread" }, String(unread?.unread)),
  );
}

function show(parent: string | null = null) {
  return act(async () => root.render(h(StrictMode, null, h(ChatProvider, { client }, h(View, { parent })))));
}

describe("the hooks", () => {
  it("show a channel, what comes, and what waits", async () => {
    void client.connect();
    await show();
    await pass(2_000);
    expect(text("#status")).toBe("ann connected live fine");
    expect(text("#messages")).toBe(Array.from({ length: 25 }, (_, index) => index + 6).join(" "));
    expect(text("#older")).toBe("true");
    expect(text("#unread")).toBe("30");
    model.channel(CID).send("bob", { id: "new", text: "hi" });
    model.pump();
    await pass(10);
    expect(text("#messages")).toMatch(/30 hi$/);
    expect(text("#unread")).toBe("31");
    model.faults = { ...model.faults, lost: 1 };
    await act(async () => void client.channel(CID).send({ text: "mine" }));
    expect(text("#messages")).toMatch(/30 hi minesending$/);
    model.calm();
    await pass(31_000);
    expect(text("#messages")).toMatch(/30 hi mine$/);
  });

  it("open a thread and close it", async () => {
    void client.connect();
    model.channel(CID).send("bob", { id: "r1", text: "reply", parent_id: "m30" });
    await show("m30");
    await pass(2_000);
    expect(text("#thread")).toBe("30: reply");
    model.channel(CID).send("bob", { id: "r2", text: "again", parent_id: "m30" });
    model.pump();
    await pass(10);
    expect(text("#thread")).toBe("30: reply again");
    await show(null);
    expect(text("#thread")).toBe("-: ");
    expect(client.channel(CID).state.threads).toEqual({});
  });

  it("show who types", async () => {
    void client.connect();
    await show();
    await pass(2_000);
    await act(async () => world.socket.say({ type: "channel.presence", cid: CID, joined: [], left: [], watchers: 2, typing: [{ user_id: "bob", parent_id: null }, { user_id: "cem", parent_id: "m1" }] }));
    expect(text("#typing")).toBe("bob");
  });

  it("end watching a moment after the page has left, and not at all where it comes back", async () => {
    void client.connect();
    await show();
    await pass(2_000);
    await act(async () => root.render(null));
    await show();
    await pass(5_000);
    expect(client.channel(CID).state.sync).toBe("live");
    await act(async () => root.render(null));
    await pass(1_001);
    expect(client.channel(CID).state.sync).toBe("none");
  });

  it("say why a channel can't be shown", async () => {
    world.onCall = () => ({ status: 403, body: { code: 17, detail: "no", status_code: 403, exception: "X", reason: "not-a-member" } });
    await show();
    await pass(100);
    expect(text("#status")).toBe("ann idle gone not-a-member");
  });

  it("render nothing anew for what they do not show", async () => {
    void client.connect();
    await show();
    await pass(2_000);
    const before = rendered;
    await act(async () => world.socket.say({ type: "user.preference", cid: CID }));
    expect(rendered).toBe(before);
  });

  it("sum what is unread in all channels", async () => {
    model.channel("team:b").send("bob", { id: "x", text: "x" });
    function Sum() {
      const { unread, complete } = useUnread();
      return h("p", { id: "sum" }, `${unread} ${complete}`);
    }
    void client.connect();
    await act(async () => root.render(h(ChatProvider, { client }, h(Sum))));
    await pass(2_000);
    expect(text("#sum")).toBe("31 true");
  });

  it("are not used outside of a provider", async () => {
    const { error } = console;
    console.error = () => {};
    const alone = async () => {
      await act(async () => root.render(h(View, { parent: null })));
    };
    await expect(alone()).rejects.toThrow("ChatProvider");
    console.error = error;
  });
});
