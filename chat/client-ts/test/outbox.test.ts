// What the user sends: kept, in order, once.

import { describe, expect, it } from "vitest";
import { ChatClient, type ChatStorage, memoryStorage } from "../src/index.js";
import { OUTBOX_MAX } from "../src/outbox.js";
import { Model } from "./model.js";
import { errorBody, token, World } from "./world.js";

const CID = "team:a";

function setUp(storage: ChatStorage = memoryStorage(), world = new World(), model = new Model(world, "ann")) {
  model.channel(CID);
  const client = new ChatClient({ url: "http://a.test", apiKey: "key", userId: "ann", token: token("ann"), storage, env: world.env });
  const errors: string[] = [];
  client.on("error", ({ error }) => errors.push(error.message));
  return { world, model, client, channel: client.channel(CID), storage, errors };
}

const texts = (model: Model) => model.channel(CID).messages.map((message) => message.text);

describe("the queue", () => {
  it("shows a message at once, and the stored one in its place", async () => {
    const { world, channel } = setUp();
    const stored = channel.send({ text: "hello", mentions: { users: ["bob"] } });
    expect(channel.state.waiting).toMatchObject([{ text: "hello", user_id: "ann", status: "sending", version: 0, mentions: { users: ["bob"] } }]);
    await world.pass(10);
    const message = await stored;
    expect(message).toMatchObject({ text: "hello", sequence: 1, id: channel.state.messages[0]!.id });
    expect(channel.state.waiting).toEqual([]);
  });

  it("sends what was written without a network, in its order and once", async () => {
    const { world, model, channel } = setUp();
    model.faults = { ...model.faults, lost: 1 };
    const all = Array.from({ length: 20 }, (_, index) => channel.send({ text: `${index}` }));
    await world.pass(600_000);
    expect(channel.state.waiting.length).toBe(20);
    model.calm();
    await world.pass(31_000);
    expect((await Promise.all(all)).map((message) => message.sequence)).toEqual(Array.from({ length: 20 }, (_, index) => index + 1));
    expect(texts(model)).toEqual(Array.from({ length: 20 }, (_, index) => `${index}`));
  });

  it("repeats a message whose answer was lost, by the same id: it is stored once", async () => {
    const { world, model, channel } = setUp();
    const answer = world.onCall;
    let calls = 0;
    world.onCall = async (call) => {
      const real = await answer(call);
      return (calls += 1) <= 3 ? "lost" : real;
    };
    const stored = channel.send({ text: "once" });
    await world.pass(60_000);
    await stored;
    expect(calls).toBe(4);
    expect(texts(model)).toEqual(["once"]);
  });

  it("keeps what waits over a reload of the page", async () => {
    const first = setUp();
    first.model.faults = { ...first.model.faults, lost: 1 };
    for (const text of ["one", "two", "three"]) void first.channel.send({ text });
    await first.world.pass(5_000);
    first.client.disconnect();
    first.model.calm();

    const second = setUp(first.storage, first.world, first.model);
    void second.channel.send({ text: "four" });
    await second.world.pass(1_000);
    expect(texts(first.model)).toEqual(["one", "two", "three", "four"]);
    expect(await first.storage.entries("")).toEqual([]);
  });

  it("keeps the queues of users and keys apart", async () => {
    const storage = memoryStorage();
    const { world, model, channel } = setUp(storage);
    model.faults = { ...model.faults, lost: 1 };
    void channel.send({ text: "ann's" });
    await world.settle();
    const bob = new ChatClient({ url: "http://a.test", apiKey: "key", userId: "bob", token: token("bob"), storage, env: world.env });
    await world.settle();
    expect(bob.channel(CID).state.waiting).toEqual([]);
  });

  it("does not stop at a message that is refused: it waits for a decision, over reloads too", async () => {
    const { world, model, channel, storage } = setUp();
    const answer = world.onCall;
    world.onCall = (call) => (call.body?.text === "bad" ? { status: 403, body: errorBody(17, 403, { reason: "refused" }) } : answer(call));
    const bad = channel.send({ id: "bad", text: "bad" });
    const good = channel.send({ text: "good" });
    await world.pass(100);
    await expect(bad).rejects.toMatchObject({ kind: "api", code: 17, reason: "refused" });
    expect((await good).sequence).toBe(1);
    expect(channel.state.waiting).toMatchObject([{ id: "bad", status: "failed", error: { code: 17, reason: "refused" } }]);

    const again = setUp(storage, world, model);
    await world.pass(100);
    expect(again.channel.state.waiting).toMatchObject([{ id: "bad", status: "failed", error: { code: 17, reason: "refused" } }]);
    world.onCall = answer;
    expect(again.channel.retry("bad")).toBe(true);
    await world.pass(100);
    expect(texts(model)).toEqual(["good", "bad"]);
    expect(again.channel.state.waiting).toEqual([]);
    expect(again.channel.retry("bad")).toBe(false);
  });

  it("gives up a message that is discarded", async () => {
    const { world, model, channel, storage } = setUp();
    model.faults = { ...model.faults, lost: 1 };
    const stored = channel.send({ id: "x", text: "never mind" });
    await world.pass(1);
    expect(channel.discard("x")).toBe(true);
    await expect(stored).rejects.toMatchObject({ kind: "closed" });
    model.calm();
    await world.pass(60_000);
    expect(texts(model)).toEqual([]);
    expect(await storage.entries("")).toEqual([]);
    expect(channel.discard("x")).toBe(false);
  });

  it("waits as long as slow mode says", async () => {
    const { world, model, channel } = setUp();
    const answer = world.onCall;
    const start = world.now;
    const at: number[] = [];
    world.onCall = (call) => {
      at.push(world.now - start);
      return world.now - start < 7_000 ? { status: 429, body: errorBody(60, 429, { retry_after_ms: 7_000 }) } : answer(call);
    };
    void channel.send({ text: "slowly" });
    await world.pass(10_000);
    expect(texts(model)).toEqual(["slowly"]);
    expect(at.length).toBe(2);
    expect(at[1]).toBeGreaterThanOrEqual(7_000);
    expect(at[1]).toBeLessThanOrEqual(7_200);
  });

  it("gives up on a message that the server fails on each time", async () => {
    const { world, channel } = setUp();
    let calls = 0;
    world.onCall = () => {
      calls += 1;
      return { status: 500, body: errorBody(-1, 500) };
    };
    const stored = channel.send({ text: "poison" });
    await world.pass(600_000);
    await expect(stored).rejects.toMatchObject({ status: 500 });
    expect(calls).toBe(8);
  });

  it("is bounded by number and by size", async () => {
    const { model, channel } = setUp();
    model.faults = { ...model.faults, lost: 1 };
    for (let index = 0; index < OUTBOX_MAX; index += 1) void channel.send({ text: "x" });
    await expect(channel.send({ text: "one more" })).rejects.toMatchObject({ kind: "queue-full" });
    expect(channel.state.waiting.length).toBe(OUTBOX_MAX);
    const other = setUp();
    other.model.faults = { ...other.model.faults, lost: 1 };
    for (let index = 0; index < 3; index += 1) void other.channel.send({ text: "x".repeat(300_000) });
    await expect(other.channel.send({ text: "x".repeat(300_000) })).rejects.toMatchObject({ kind: "queue-full" });
  });

  it("sends all the same where the storage is full or holds what it did not write, and says so", async () => {
    const storage = memoryStorage();
    const full: ChatStorage = {
      ...storage,
      set: () => {
        throw new Error("quota exceeded");
      },
    };
    const prefix = `keevo-chat ${JSON.stringify(["key", "ann"])} `;
    await storage.set(`${prefix}junk`, "{");
    const { world, model, channel, errors } = setUp(full);
    void channel.send({ text: "still" });
    await world.pass(100);
    expect(texts(model)).toEqual(["still"]);
    expect(errors.sort()).toEqual([
      `the stored message '${prefix}junk' cannot be read and is left alone`,
      "what waits to be sent could not be kept for the next page: quota exceeded",
    ]);
  });

  it("does not send again what an event brought before the answer", async () => {
    const { world, model, client, channel } = setUp();
    void client.connect();
    void channel.watch();
    await world.pass(1_000);
    const answer = world.onCall;
    let sends = 0;
    world.onCall = async (call) => {
      const real = await answer(call);
      if (call.method !== "POST") return real;
      sends += 1;
      return "lost";
    };
    const seen = new Set<number>();
    channel.store.subscribe(() => seen.add(channel.state.messages.length + channel.state.waiting.length));
    const stored = channel.send({ text: "by event" });
    await world.pass(60_000);
    expect((await stored).sequence).toBe(1);
    expect(sends).toBe(1);
    expect(texts(model)).toEqual(["by event"]);
    // Never shown twice, never missing.
    expect([...seen]).toEqual([1]);
  });
});
