// The socket's state machine, frame by frame.

import { describe, expect, it, vi } from "vitest";
import { defaultEnv } from "../src/env.js";
import { ChatClient, type ChatOptions, memoryStorage } from "../src/index.js";
import { errorBody, type FakeSocket, token, World } from "./world.js";

function setUp(options: Partial<ChatOptions> = {}) {
  const world = new World();
  const base = { url: "https://a.test", apiKey: "key", userId: "ann", token: token("ann"), storage: memoryStorage(), env: world.env };
  const client = new ChatClient({ ...base, ...options });
  const statuses: string[] = [];
  client.on("connection", ({ status, error }) => statuses.push(error ? `${status}: ${error.message}` : status));
  return { world, client, statuses };
}

function welcome(socket: FakeSocket, more: Record<string, unknown> = {}): void {
  const hello = socket.last("hello")!;
  socket.say({ type: "welcome", id: hello.id, connection_id: "c", user_id: "ann", heartbeat_ms: 25_000, time: 0, limits: {}, channels: [], resume: "r0", ...more });
}

async function connected(options: Partial<ChatOptions> = {}) {
  const all = setUp(options);
  const done = all.client.connect();
  await all.world.settle();
  all.world.socket.open();
  welcome(all.world.socket);
  await done;
  return all;
}

describe("the handshake", () => {
  it("says who is there in the first frame, and nothing secret in the address", async () => {
    const { world } = await connected();
    expect(world.socket.url).toBe("wss://a.test/chat/v1/connect");
    expect(world.socket.sent).toEqual([{ type: "hello", id: 1, api_key: "key", token: token("ann") }]);
  });

  it("gives up after 10 s without a welcome, and tries again", async () => {
    const { world, client, statuses } = setUp();
    void client.connect();
    await world.settle();
    world.socket.open();
    await world.pass(9_999);
    expect(world.sockets.length).toBe(1);
    await world.pass(1_002);
    expect(world.sockets.length).toBe(2);
    expect(world.sockets[0]!.closed).toBe(1000);
    expect(statuses).toEqual(["connecting", "waiting: https://a.test: no welcome within 10 s", "connecting"]);
  });

  it("is refused for good where the token is another user's", async () => {
    const { world, client } = setUp();
    const done = client.connect();
    await world.settle();
    world.socket.open();
    welcome(world.socket, { user_id: "bob" });
    await expect(done).rejects.toMatchObject({ kind: "usage", message: "the token is of user 'bob', the client of 'ann'" });
    await world.pass(120_000);
    expect(world.sockets.length).toBe(1);
  });
});

describe("heartbeats", () => {
  it("says something every 25 s, and takes silence of two heartbeats for a drop", async () => {
    const { world, statuses } = await connected();
    await world.pass(25_000);
    expect(world.socket.sent.map((frame) => frame.type)).toEqual(["hello", "ping"]);
    world.socket.say({ type: "heartbeat", time: 1 });
    await world.pass(50_000);
    expect(world.sockets.length).toBe(1);
    await world.pass(26_001);
    expect(world.sockets.length).toBe(2);
    expect(statuses.at(-2)).toBe("waiting: https://a.test: nothing was heard for 50000 ms");
  });

  it("leaves no timer behind after disconnect", async () => {
    const { world, client } = await connected();
    client.disconnect();
    expect(world.socket.closed).toBe(1000);
    expect(client.connection.get()).toBe("idle");
    expect(world.pending).toBe(0);
  });

  it("passes over what a socket says that was given up", async () => {
    const { world, client } = await connected();
    const first = world.socket;
    first.end(1006);
    first.say({ type: "user.missed" });
    first.end(4003);
    expect(client.connection.get()).toBe("waiting");
  });
});

describe("close codes", () => {
  it.each([1001, 1006, 4000, 4004, 4008, 4010])("%i: connects again within a second", async (code) => {
    const { world } = await connected();
    await world.pass(6_000);
    world.socket.end(code);
    await world.pass(1_000);
    expect(world.sockets.length).toBe(2);
  });

  it.each([4009, 4011, 4029])("%i: waits a second at least", async (code) => {
    const { world } = await connected();
    world.socket.end(code);
    await world.pass(999);
    expect(world.sockets.length).toBe(1);
    await world.pass(1);
    expect(world.sockets.length).toBe(2);
  });

  it("4003: does not come back, and says why", async () => {
    const { world, client } = setUp();
    const done = client.connect();
    await world.settle();
    world.socket.open();
    world.socket.say({ type: "error", id: 1, error: errorBody(17, 403, { reason: "banned" }) });
    world.socket.end(4003);
    await expect(done).rejects.toMatchObject({ kind: "api", code: 17, reason: "banned" });
    await world.pass(120_000);
    expect(world.sockets.length).toBe(1);
    expect(client.connection.get()).toBe("refused");
  });

  it("4001: connects with a new token", async () => {
    let asked = 0;
    const { world } = await connected({ token: () => token("ann", undefined, String((asked += 1))) });
    world.socket.end(4001);
    await world.pass(1_000);
    world.socket.open();
    expect(asked).toBe(2);
    expect(world.socket.last("hello")!.token).toBe(token("ann", undefined, "2"));
  });

  it("4001: is final with a fixed token", async () => {
    const { world, client } = await connected();
    world.socket.end(4001);
    await world.pass(60_000);
    expect(client.connection.get()).toBe("refused");
    expect(world.sockets.length).toBe(1);
  });

  it("4005: connects without the resume token", async () => {
    const { world } = await connected();
    world.socket.end(1006);
    await world.pass(1_000);
    world.socket.open();
    expect(world.socket.last("hello")).toMatchObject({ resume: "r0", seen: {} });
    world.socket.end(4005);
    await world.pass(2_000);
    world.socket.open();
    expect(world.socket.last("hello")).not.toHaveProperty("resume");
  });
});

describe("attempts", () => {
  it("double their bound from 1 s to 30 s, below which the delay is drawn", async () => {
    const { world } = setUp();
    const { client } = setUp({ env: world.env });
    const opened: number[] = [];
    world.onSocket = (socket) => {
      opened.push(world.now);
      queueMicrotask(() => socket.end(1006));
    };
    void client.connect();
    await world.pass(20 * 60_000);
    const delays = opened.slice(1).map((at, index) => at - opened[index]!);
    const bounds = delays.map((_, index) => Math.min(30_000, 1_000 * 2 ** index));
    delays.forEach((delay, index) => expect(delay).toBeLessThanOrEqual(bounds[index]!));
    const late = delays.slice(5);
    expect(late.length).toBeGreaterThan(40);
    // Uniform below 30 s: the mean is near 15 s, and they spread.
    const mean = late.reduce((sum, delay) => sum + delay, 0) / late.length;
    expect(mean).toBeGreaterThan(11_000);
    expect(mean).toBeLessThan(19_000);
    expect(Math.max(...late) - Math.min(...late)).toBeGreaterThan(20_000);
  });

  it("go to the next node", async () => {
    const { world, client } = setUp({ url: ["http://a.test/", "http://b.test"] });
    void client.connect();
    await world.settle();
    world.socket.end(1006);
    await world.pass(1_000);
    world.socket.end(1006);
    await world.pass(2_000);
    expect(world.sockets.map((socket) => socket.url)).toEqual(["ws://a.test", "ws://b.test", "ws://a.test"].map((url) => `${url}/chat/v1/connect`));
  });

  it("do not wait when the network is back", async () => {
    const { world } = await connected();
    for (let drop = 0; drop < 6; drop += 1) {
      world.socket.end(1006);
      world.wake();
      await world.settle();
      expect(world.sockets.length).toBe(drop + 2);
    }
  });

  it("go on where the program's token function fails", async () => {
    let fails = 2;
    const { world, client, statuses } = setUp({
      token: () => {
        if (fails-- > 0) throw new Error("no session");
        return token("ann");
      },
    });
    void client.connect();
    await world.pass(10_000);
    expect(world.sockets.length).toBeGreaterThan(0);
    expect(statuses[1]).toBe("waiting: the program's own token function failed: no session");
  });
});

describe("the token", () => {
  it("is renewed a minute before it ends, on the same connection", async () => {
    let asked = 0;
    const all = setUp();
    const { world } = all;
    const { client } = setUp({ env: world.env, token: () => token("ann", world.now + 3_600_000, String((asked += 1))) });
    void client.connect();
    await world.settle();
    world.socket.open();
    welcome(world.socket, { heartbeat_ms: 100_000_000 });
    await world.pass(3_539_000);
    expect(world.socket.last("token")).toBeUndefined();
    await world.pass(1_000);
    const frame = world.socket.last("token")!;
    expect(frame.token).toBe(token("ann", world.now + 3_600_000, "2"));
    world.socket.say({ type: "ok", id: frame.id });
    await world.pass(3_541_000);
    expect(world.socket.last("token")!.token).toContain("signature3");
    expect(world.sockets.length).toBe(1);
  });

  it("is fetched once for all who ask at the same time", async () => {
    let asked = 0;
    const { world, client } = setUp({ token: async () => token("ann", undefined, String((asked += 1))) });
    world.onCall = () => ({ status: 200, body: { user: { id: "bob" } } });
    await Promise.all([client.user("bob"), client.user("cem"), client.user("dia")]);
    expect(asked).toBe(1);
  });

  it("is renewed once where a call finds it expired", async () => {
    let asked = 0;
    const { world, client } = setUp({ token: () => token("ann", undefined, String((asked += 1))) });
    const seen: string[] = [];
    world.onCall = (call) => {
      seen.push(call.token.slice(-1));
      return call.token.endsWith("2") ? { status: 200, body: { user: { id: "bob" } } } : { status: 401, body: errorBody(40, 401) };
    };
    expect((await client.user("bob")).id).toBe("bob");
    expect(seen).toEqual(["1", "2"]);
    world.onCall = () => ({ status: 401, body: errorBody(43, 401) });
    await expect(client.user("bob")).rejects.toMatchObject({ code: 43, status: 401 });
  });
});

describe("frames that are none", () => {
  it.each(["no json", "[]", "null", "{}", '{"type": 4}'])("%s ends the connection, which comes back", async (text) => {
    const { world } = await connected();
    world.socket.say(text);
    expect(world.socket.closed).toBe(1000);
    await world.pass(1_000);
    expect(world.sockets.length).toBe(2);
  });

  it("of unknown types are passed over", async () => {
    const { world, client } = await connected();
    world.socket.say({ type: "from.tomorrow", cid: "team:a", version: 3, index: 1 });
    expect(client.connection.get()).toBe("connected");
  });

  it("a listener that throws is reported, and disturbs nobody", async () => {
    const { world, client } = await connected();
    let heard = 0;
    client.on("user.missed", () => {
      throw new Error("mine");
    });
    client.on("user.missed", () => (heard += 1));
    world.socket.say({ type: "user.missed" });
    expect(heard).toBe(1);
    expect(world.reported).toMatchObject([{ message: "mine" }]);
    expect(client.connection.get()).toBe("connected");
  });
});

describe("ids", () => {
  it.each(["crypto", "an insecure context", "no crypto"])("are UUIDs, and differ, with %s", (how) => {
    const all = globalThis.crypto;
    const some = { getRandomValues: (bytes: Uint8Array) => all.getRandomValues(bytes) };
    if (how !== "crypto") vi.stubGlobal("crypto", how === "no crypto" ? undefined : some);
    const { uuid } = defaultEnv();
    const ids = Array.from({ length: 1_000 }, uuid);
    vi.unstubAllGlobals();
    for (const id of ids) expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(new Set(ids).size).toBe(1_000);
  });
});
