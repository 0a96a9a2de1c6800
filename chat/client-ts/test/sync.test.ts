// Subscriptions: from where, what is passed over, and what is read anew.

import { describe, expect, it } from "vitest";
import { ChatClient, memoryStorage } from "../src/index.js";
import { Model } from "./model.js";
import { errorBody, type FakeSocket, token, World } from "./world.js";

const CID = "team:a";

/** A client whose socket is in the test's hands, and whose calls a model answers. */
async function setUp() {
  const world = new World();
  const model = new Model(world, "ann");
  world.onSocket = () => {};
  for (let index = 1; index <= 3; index += 1) model.channel(CID).send("bob", { id: `m${index}`, text: `${index}` });
  const client = new ChatClient({ url: "http://a.test", apiKey: "key", userId: "ann", token: token("ann"), storage: memoryStorage(), env: world.env });
  void client.connect();
  await world.settle();
  await welcome(world);
  return { world, model, client, channel: client.channel(CID), held: model.channel(CID) };
}

async function welcome(world: World, channels: unknown[] = [], resume = "r0"): Promise<FakeSocket> {
  const { socket } = world;
  socket.open();
  socket.say({ type: "welcome", id: socket.last("hello")!.id, connection_id: "c", user_id: "ann", heartbeat_ms: 25_000, time: 0, limits: { channels: 3 }, channels, resume });
  await world.settle();
  return socket;
}

const ok = (cid: string) => ({ cid, status: "ok", error: null });

/** `setUp`, and the channel is followed. */
async function withLive() {
  const all = await setUp();
  const watched = all.channel.watch();
  await all.world.pass(10);
  await watched;
  const frame = all.world.socket.last("subscribe")!;
  all.world.socket.say({ type: "subscribed", id: frame.id, channels: [ok(CID)], resume: "r1" });
  await all.world.settle();
  expect(all.channel.state.sync).toBe("live");
  return all;
}

const texts = (channel: { state: { messages: readonly { text: string }[] } }) => channel.state.messages.map((message) => message.text);

function event(held: { log: any[] }) {
  return held.log.at(-1)!;
}

describe("a channel that is watched", () => {
  it("is read, then subscribed from where the page ends", async () => {
    const { world, channel, held } = await withLive();
    expect(world.socket.last("subscribe")).toEqual({ type: "subscribe", id: 2, channels: [{ cid: CID, resume: String(held.version) }] });
    expect(texts(channel)).toEqual(["1", "2", "3"]);
    expect(channel.state.unread).toMatchObject({ unread: 3 });
  });

  it("takes each event once, however often it comes", async () => {
    const { world, channel, held } = await withLive();
    let heard = 0;
    channel.on("message.new", () => (heard += 1));
    held.send("bob", { id: "m4", text: "4" });
    const fourth = event(held);
    held.send("bob", { id: "m5", text: "5" });
    for (const one of [fourth, fourth, event(held), fourth, event(held)]) world.socket.say(one);
    expect(texts(channel)).toEqual(["1", "2", "3", "4", "5"]);
    expect(heard).toBe(2);
    expect(channel.state.unread).toMatchObject({ unread: 5, last_sequence: 5 });
  });

  it("goes on behind the last event after a drop, and shows that it is behind", async () => {
    const { world, channel, held } = await withLive();
    held.send("bob", { id: "m4", text: "4" });
    world.socket.say(event(held));
    world.socket.say({ type: "resume", resume: "r2" });
    world.socket.end(1006);
    expect(channel.state.sync).toBe("behind");
    await world.pass(1_000);
    world.socket.open();
    expect(world.socket.last("hello")).toMatchObject({ resume: "r2", seen: { [CID]: [held.version, 1] } });
    held.send("bob", { id: "m5", text: "5" });
    await welcome(world, [ok(CID)], "r3");
    expect(channel.state.sync).toBe("live");
    world.socket.say(event(held));
    expect(texts(channel)).toEqual(["1", "2", "3", "4", "5"]);
    expect(world.sockets[1]!.last("subscribe")).toBeUndefined();
  });

  it.each([
    ["the welcome says so", "welcome"],
    ["the server says so later", "event"],
    ["the welcome does not name it", "missing"],
  ])("is read anew where what was missed is gone: %s", async (_, how) => {
    const { world, channel, held } = await withLive();
    for (let index = 4; index <= 60; index += 1) held.send("bob", { id: `m${index}`, text: `${index}` });
    if (how === "event") {
      world.socket.say({ type: "channel.reload", cid: CID, reason: "purged" });
    } else {
      world.socket.end(1006);
      await world.pass(1_000);
      await welcome(world, how === "welcome" ? [{ cid: CID, status: "reload", error: null }] : []);
    }
    expect(channel.state.sync).toBe("behind");
    await world.pass(1_100);
    // No gap: the older ones are behind `before`.
    expect(texts(channel)).toEqual(Array.from({ length: 25 }, (_, index) => `${36 + index}`));
    expect(channel.state.before).toBe(36);
    expect(channel.state.unread).toMatchObject({ unread: 60 });
    expect(world.socket.last("subscribe")!.channels).toEqual([{ cid: CID, resume: String(held.version) }]);
    const more = channel.loadOlder(40);
    await world.pass(10);
    expect(await more).toBe(false);
    expect(texts(channel)).toEqual(Array.from({ length: 60 }, (_, index) => `${1 + index}`));
  });

  it("is subscribed again after a drop between the question and the answer", async () => {
    const { world, channel, held } = await setUp();
    void channel.watch();
    await world.pass(10);
    expect(world.socket.last("subscribe")).toBeDefined();
    world.socket.end(1006);
    await world.pass(1_000);
    await welcome(world);
    await world.pass(10);
    expect(world.socket.last("subscribe")!.channels).toEqual([{ cid: CID, resume: String(held.version) }]);
  });

  it("hears nothing from an older place, where it was read anew since the token was made", async () => {
    const { world, channel, held } = await withLive();
    held.react("bob", "m1", "like", 1);
    const reaction = event(held);
    world.socket.say({ type: "channel.reload", cid: CID, reason: "purged" });
    await world.pass(1_010);
    // The answer to `subscribe` is lost with the connection: the token is the old one, and so is the place.
    world.socket.end(1006);
    await world.pass(1_000);
    await welcome(world, [ok(CID)]);
    await world.pass(10);
    expect(world.socket.last("subscribe")).toBeUndefined();
    const leave = world.socket.last("unsubscribe")!;
    expect(leave.channels).toEqual([CID]);
    world.socket.say(reaction);
    expect(channel.state.messages[0]!.reactions).toEqual({ like: 1 });
    world.socket.say({ type: "unsubscribed", id: leave.id, resume: "r5" });
    await world.pass(10);
    expect(world.socket.last("subscribe")!.channels).toEqual([{ cid: CID, resume: String(held.version) }]);
  });

  it("is gone where the user may not read it, and comes back when it may", async () => {
    const { world, channel } = await setUp();
    const answer = world.onCall;
    world.onCall = () => ({ status: 403, body: errorBody(17, 403, { reason: "not-a-member" }) });
    const watched = channel.watch();
    watched.catch(() => {});
    await world.pass(10);
    await expect(watched).rejects.toMatchObject({ code: 17, reason: "not-a-member" });
    expect(channel.state).toMatchObject({ sync: "gone", error: { reason: "not-a-member" } });
    world.onCall = answer;
    world.socket.say({ type: "user.channel_added", cid: CID, role: "member" });
    await world.pass(10);
    expect(texts(channel)).toEqual(["1", "2", "3"]);
  });

  it("is gone when the server removes it, and says nothing more", async () => {
    const { world, channel, held } = await withLive();
    world.socket.say({ type: "channel.removed", cid: CID, reason: "not-a-member" });
    expect(channel.state).toMatchObject({ sync: "gone", error: { code: 17, reason: "not-a-member" } });
    held.send("bob", { id: "m4", text: "secret" });
    world.socket.say(event(held));
    expect(texts(channel)).toEqual(["1", "2", "3"]);
  });

  it("is read again until there is a network, at once when the connection is back", async () => {
    const { world, model, channel } = await setUp();
    model.faults = { ...model.faults, lost: 1 };
    void channel.watch();
    for (let beat = 0; beat < 20; beat += 1) {
      await world.pass(15_000);
      world.socket.say({ type: "heartbeat", time: 1 });
    }
    expect(channel.state.sync).toBe("loading");
    world.socket.end(1006);
    model.calm();
    await world.pass(1_000);
    await welcome(world);
    await world.pass(1_100);
    expect(texts(channel)).toEqual(["1", "2", "3"]);
  });
});

describe("watching", () => {
  it("ends a moment after the last who watched has left", async () => {
    const { world, channel } = await withLive();
    const again = channel.watch();
    await again;
    channel.unwatch();
    await world.pass(5_000);
    expect(channel.state.sync).toBe("live");
    channel.unwatch();
    void channel.watch();
    await world.pass(5_000);
    expect(channel.state.sync).toBe("live");
    channel.unwatch();
    await world.pass(1_000);
    expect(channel.state.sync).toBe("none");
    expect(world.socket.last("unsubscribe")!.channels).toEqual([CID]);
  });

  it("takes few frames for many channels, and no more channels than a connection follows", async () => {
    const { world, model, client } = await setUp();
    const cids = ["team:a", "team:b", "team:c"];
    for (const cid of cids) model.channel(cid);
    for (const cid of cids) void client.channel(cid).watch();
    await expect(client.channel("team:d").watch()).rejects.toMatchObject({ kind: "usage" });
    await world.pass(20);
    const frames = world.socket.sent.filter((frame) => frame.type === "subscribe");
    expect(frames.length).toBe(1);
    expect(frames[0]!.channels.map((one: { cid: string }) => one.cid)).toEqual(cids);
  });
});

describe("presence and typing", () => {
  it("follow from the first word after a subscription, and are forgotten with the connection", async () => {
    const { world, channel } = await withLive();
    const say = (joined: string[], left: string[], typing: unknown[] = []) =>
      world.socket.say({ type: "channel.presence", cid: CID, joined, left, watchers: joined.length, typing });
    say(["ann", "bob", "cem"], []);
    say(["dia"], ["bob"], [{ user_id: "ann", parent_id: null }, { user_id: "cem", parent_id: "m1" }]);
    expect(channel.state.watchers).toEqual(["ann", "cem", "dia"]);
    expect(channel.state.typing).toEqual([{ user_id: "cem", parent_id: "m1" }]);
    world.socket.end(1006);
    expect(channel.state.typing).toEqual([]);
    await world.pass(1_000);
    await welcome(world, [ok(CID)]);
    say(["ann"], []);
    expect(channel.state.watchers).toEqual(["ann"]);
  });

  it("are told at most every 3 s, and ended by a send", async () => {
    const { world, channel } = await withLive();
    const typed = () => world.socket.sent.filter((frame) => frame.type === "typing");
    for (let key = 0; key < 31; key += 1) {
      channel.keystroke();
      await world.pass(100);
    }
    expect(typed()).toEqual([{ type: "typing", cid: CID, typing: true }, { type: "typing", cid: CID, typing: true }]);
    channel.keystroke("m1");
    expect(typed().at(-1)).toEqual({ type: "typing", cid: CID, parent_id: "m1", typing: true });
    void channel.send({ text: "done" });
    expect(typed().at(-1)).toEqual({ type: "typing", cid: CID, typing: false });
    channel.stopTyping();
    expect(typed().length).toBe(4);
  });
});

describe("a hello", () => {
  it("stays below the largest frame, however long the token is", async () => {
    const { world, channel, held } = await withLive();
    held.send("bob", { id: "m4", text: "4" });
    world.socket.say(event(held));
    world.socket.say({ type: "resume", resume: "r".repeat(119_990) });
    world.socket.end(1006);
    await world.pass(1_000);
    world.socket.open();
    expect(world.socket.last("hello")).toMatchObject({ seen: {} });
    expect(JSON.stringify(world.socket.last("hello")).length).toBeLessThan(131_072);
    await welcome(world, [ok(CID)]);
    // It comes again, and is passed over.
    world.socket.say(event(held));
    expect(texts(channel)).toEqual(["1", "2", "3", "4"]);
    expect(channel.state.unread).toMatchObject({ unread: 4 });
  });
});
