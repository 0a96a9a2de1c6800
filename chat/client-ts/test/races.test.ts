// Races that the seeded model found, each as a story of its own: an answer is held back while events come.

import { describe, expect, it } from "vitest";
import { type Channel, ChatClient, memoryStorage } from "../src/index.js";
import { Model, type ModelChannel } from "./model.js";
import { type Answer, token, World } from "./world.js";

const CID = "team:a";

/** A channel with 40 messages of Bob's that Ann follows, and whose calls can be held back. */
class Race {
  readonly world = new World();
  readonly model = new Model(this.world, "ann");
  readonly held: ModelChannel = this.model.channel(CID);
  readonly client = new ChatClient({
    url: "http://a.test",
    apiKey: "key",
    userId: "ann",
    token: token("ann"),
    storage: memoryStorage(),
    env: this.world.env,
  });
  readonly channel: Channel = this.client.channel(CID);
  private released: (() => void)[] = [];

  static async start(): Promise<Race> {
    const race = new Race();
    for (let index = 1; index <= 40; index += 1) race.held.send("bob", { id: `m${index}`, text: `${index}` });
    void race.client.connect();
    void race.channel.watch();
    await race.world.pass(2_000);
    expect(race.channel.state.sync).toBe("live");
    return race;
  }

  /** The next call of this kind is carried out at once, and its answer held back until `release`. */
  hold(method: string, path: string): void {
    const answer = this.world.onCall;
    this.world.onCall = async (call) => {
      const real: Answer = await answer(call);
      if (call.method === method && call.path === `/channels/team/a${path}`) {
        this.world.onCall = answer;
        await new Promise<void>((done) => this.released.push(done));
      }
      return real;
    };
  }

  async release(): Promise<void> {
    for (const done of this.released.splice(0)) done();
    await this.settle();
  }

  /** Events and what follows them. */
  async settle(): Promise<void> {
    this.model.pump();
    await this.world.pass(2_000);
  }

  /** The state is the server's. */
  agrees(): void {
    const { state } = this.channel;
    const from = state.messages[0]!.sequence!;
    expect(state.messages).toEqual(this.held.messages.filter((one) => one.sequence! >= from).map((one) => this.held.full(one, "ann")));
    expect(state.unread).toEqual(this.held.unread("ann"));
  }
}

describe("an answer that is late", () => {
  it("a page of older messages: what was edited and reacted to meanwhile is read again", async () => {
    const race = await Race.start();
    race.hold("GET", "/messages");
    const older = race.channel.loadOlder();
    await race.world.pass(10);
    race.held.change("m3", { text: "edited" });
    race.held.react("bob", "m5", "like", 1);
    race.held.send("bob", { id: "r1", text: "reply", parent_id: "m7" });
    await race.settle();
    await race.release();
    expect(await older).toBe(false);
    expect(race.channel.state.messages[2]!.text).toBe("edited");
    race.agrees();
  });

  it("a page of older messages: what was truncated meanwhile stays away", async () => {
    const race = await Race.start();
    race.hold("GET", "/messages");
    const older = race.channel.loadOlder();
    await race.world.pass(10);
    race.held.truncate(20);
    await race.settle();
    await race.release();
    await older;
    expect(race.channel.state.messages[0]!.sequence).toBe(21);
    expect(race.channel.state.before).toBe(null);
    race.agrees();
  });

  it("a page of older messages: where the channel was read anew meanwhile, it leaves no gap", async () => {
    const race = await Race.start();
    race.hold("GET", "/messages");
    const older = race.channel.loadOlder(5);
    await race.world.pass(10);
    for (let index = 41; index <= 90; index += 1) race.held.send("bob", { id: `m${index}`, text: `${index}` });
    race.held.purged = race.held.version;
    race.held.log = [];
    await race.settle();
    await race.release();
    expect(await older).toBe(true);
    expect(race.channel.state.messages.map((one) => one.sequence)).toEqual(Array.from({ length: 25 }, (_, index) => index + 66));
    race.agrees();
  });

  it("counts: a reaction that comes meanwhile is not lost", async () => {
    const race = await Race.start();
    race.held.react("cem", "m40", "like", 1);
    await race.settle();
    race.hold("GET", "/messages/m40");
    race.held.send("bob", { id: "r1", text: "reply", parent_id: "m40" });
    await race.settle();
    race.held.react("bob", "m40", "like", 1);
    await race.settle();
    await race.release();
    expect(race.channel.state.messages.at(-1)).toMatchObject({ reactions: { like: 2 }, reply_count: 1 });
    race.agrees();
  });

  it("unread: what was marked meanwhile is newer", async () => {
    const race = await Race.start();
    race.hold("GET", "/unread");
    race.held.change("m1", { deleted_at: 5 });
    await race.settle();
    void race.channel.markRead({ sequence: 30 });
    await race.world.pass(10);
    const seen = new Set<number>();
    race.channel.store.subscribe(() => seen.add(race.channel.state.unread!.unread));
    expect(race.channel.state.unread).toMatchObject({ unread: 10, read_sequence: 30 });
    await race.release();
    // Not even for a moment.
    expect([...seen]).toEqual([10]);
    expect(race.channel.state.unread).toMatchObject({ unread: 10, read_sequence: 30 });
    race.agrees();
  });

  it("a mark: what another device marked after it is newer", async () => {
    const race = await Race.start();
    race.hold("POST", "/read");
    void race.channel.markRead();
    await race.world.pass(10);
    race.held.read("ann", 0);
    await race.settle();
    await race.release();
    expect(race.channel.state.unread).toMatchObject({ unread: 40, read_sequence: 0 });
    race.agrees();
  });

  it("unread: a deletion below the position that is held counts, where the position is moving down", async () => {
    const race = await Race.start();
    void race.channel.markRead();
    await race.settle();
    race.hold("GET", "/unread");
    race.held.read("ann", 10);
    await race.settle();
    race.held.change("m20", { deleted_at: 5 });
    await race.settle();
    await race.release();
    expect(race.channel.state.unread).toMatchObject({ unread: 29, read_sequence: 10 });
    race.agrees();
  });

  it("a thread: one's own reply that comes meanwhile moves its end", async () => {
    const race = await Race.start();
    race.hold("GET", "/messages/m40/thread");
    void race.channel.openThread("m40");
    await race.world.pass(10);
    race.held.send("ann", { id: "r1", text: "from another device", parent_id: "m40" });
    await race.settle();
    await race.release();
    expect(race.channel.state.threads.m40!.unread).toEqual(race.held.threadUnread("m40", "ann"));
    expect(race.channel.state.threads.m40!.replies.map((one) => one.id)).toEqual(["r1"]);
  });

  it("a thread that was open when the channel was read anew is read until it answers", async () => {
    const race = await Race.start();
    race.held.send("bob", { id: "r1", text: "reply", parent_id: "m40" });
    await race.settle();
    void race.channel.openThread("m40");
    await race.world.pass(10);
    const answer = race.world.onCall;
    race.world.onCall = (call) => (call.path.endsWith("/replies") ? "lost" : answer(call));
    race.held.send("bob", { id: "r2", text: "reply", parent_id: "m40" });
    race.held.purged = race.held.version;
    race.held.log = [];
    await race.settle();
    await race.world.pass(60_000);
    expect(race.channel.state.threads.m40!.status).toBe("loading");
    race.world.onCall = answer;
    await race.world.pass(31_000);
    expect(race.channel.state.threads.m40).toMatchObject({ status: "ready", unread: race.held.threadUnread("m40", "ann") });
    expect(race.channel.state.threads.m40!.replies.map((one) => one.id)).toEqual(["r1", "r2"]);
  });

  it("a page that holds what waits to be sent: it is not sent again", async () => {
    const race = await Race.start();
    const answer = race.world.onCall;
    let sends = 0;
    race.world.onCall = async (call) => {
      const real = await answer(call);
      if (call.method !== "POST" || !call.path.endsWith("/messages")) return real;
      sends += 1;
      return "lost";
    };
    race.model.cut();
    const stored = race.channel.send({ id: "own", text: "once" });
    await race.world.pass(1);
    expect(race.held.find("own")).toBeDefined();
    race.held.purged = race.held.version;
    race.held.log = [];
    await race.settle();
    expect(race.channel.state.messages.at(-1)!.id).toBe("own");
    const before = sends;
    await race.world.pass(60_000);
    expect(sends).toBe(before);
    expect((await stored).id).toBe("own");
    expect(race.channel.state.waiting).toEqual([]);
  });
});
