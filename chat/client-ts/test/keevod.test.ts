// The client against a real `keevod`, whose program KEEVOD names: `make client-test` builds it and runs these.

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type Channel, type ChatClient, type ChatOptions, type Message, memoryStorage } from "../src/index.js";
import * as more from "../src/more.js";
import { seeded } from "./world.js";
import { clientOf, Keevod, Network, sign, until } from "./keevod.js";

const program = process.env.KEEVOD;
const USERS = ["ann", "bob", "cem"];

describe.skipIf(!program)("with keevod", { timeout: 120_000 }, () => {
  const node = new Keevod(program ?? "");
  const network = new Network(node);
  let number = 0;
  let cid: string;
  const made: { client: ChatClient; failures: unknown[] }[] = [];

  beforeAll(async () => {
    await node.start();
    await network.start();
    await node.call("POST", "/users", { users: [...USERS, "dia"].map((id) => ({ id })) });
  }, 90_000);

  afterAll(async () => {
    network.stop();
    await node.remove();
  });

  beforeEach(async () => {
    network.up = true;
    cid = `team:room${(number += 1)}`;
    const members = USERS.map((user_id) => ({ user_id }));
    await node.call("POST", "/channels", { type: "team", id: `room${number}`, members }, "ann");
  });

  afterEach(() => {
    for (const { client } of made.splice(0)) client.disconnect();
  });

  const path = () => `/channels/${cid.replace(":", "/")}`;

  function make(user: string, options: Partial<ChatOptions> = {}) {
    const one = clientOf(user, network.url, options);
    made.push(one);
    return one;
  }

  async function join(user: string, options: Partial<ChatOptions> = {}): Promise<{ client: ChatClient; channel: Channel; failures: unknown[] }> {
    const one = make(user, options);
    await one.client.connect();
    const channel = one.client.channel(cid);
    await channel.watch();
    await until(`${user} is live`, () => channel.state.sync === "live");
    return { ...one, channel };
  }

  /** All messages of the channel, as the server has them for a user, oldest first. */
  async function history(user: string): Promise<Message[]> {
    const all: Message[] = [];
    let before: number | null = null;
    do {
      const more: string = before === null ? "" : `&before=${before}`;
      const page: { messages: Message[]; next: number | null } = await node.call("GET", `${path()}/messages?limit=100${more}`, undefined, user);
      all.unshift(...page.messages.reverse());
      before = page.next;
    } while (before !== null);
    return all;
  }

  /** The client shows what the server holds: messages, counts, unread. */
  async function agree(user: string, channel: Channel): Promise<void> {
    const server = await history(user);
    const { unread } = await node.call("GET", `${path()}/unread`, undefined, user);
    const plain = (one: Message) => ({ ...one, own_reactions: [...(one.own_reactions ?? [])].sort() });
    const held = channel.state.messages;
    const from = held[0]?.sequence ?? 1;
    expect(held.map(plain)).toEqual(server.filter((one) => one.sequence! >= from).map(plain));
    expect(channel.state.unread).toEqual(unread);
    expect(channel.state.waiting).toEqual([]);
  }

  it("two users talk: messages, edits, deletions, reactions, threads, pins", async () => {
    const ann = await join("ann");
    const bob = await join("bob");
    const first = await ann.channel.send({ text: "hello, bob", mentions: { users: ["bob"] } });
    await until("bob has it", () => bob.channel.state.messages.length === 1);
    expect(bob.channel.state.messages[0]).toMatchObject({ id: first.id, text: "hello, bob", user_id: "ann", sequence: 1 });
    expect(bob.channel.state.unread).toMatchObject({ unread: 1, mentions: 1 });

    const second = await bob.channel.send({ text: "hi", quoted_id: first.id, custom: { mood: "fine" } });
    await bob.channel.react(first.id, "like", { score: 3 });
    await bob.channel.openThread(first.id);
    await ann.channel.send({ text: "a reply", parent_id: first.id });
    await ann.channel.edit(first.id, { text: "hello, Bob" });
    await ann.channel.pin(first.id);
    await bob.channel.delete(second.id);
    await until("all of it is there", () => {
      const [one, two] = ann.channel.state.messages;
      return one?.reactions?.like === 1 && one.reply_count === 1 && one.text === "hello, Bob" && one.pinned && two?.deleted_at;
    });
    await until("bob has the reply", () => bob.channel.state.threads[first.id]?.replies.length === 1);
    expect(bob.channel.state.messages[0]!.own_reactions).toEqual(["like"]);
    expect(bob.channel.state.messages[0]!.scores).toEqual({ like: 3 });
    expect(bob.channel.state.threads[first.id]!.replies[0]).toMatchObject({ text: "a reply", thread_sequence: 1 });
    expect(bob.channel.state.pinned.map((one) => one.id)).toEqual([first.id]);
    await until("they agree", () => agree("ann", ann.channel).then(() => true));
    await until("they agree", () => agree("bob", bob.channel).then(() => true));
    expect([...ann.failures, ...bob.failures]).toEqual([]);
  });

  it("nothing is lost, doubled or out of order where connections are cut in the middle of sends", async () => {
    const ann = await join("ann");
    const bob = await join("bob");
    let cuts = 0;
    const cutting = setInterval(() => {
      network.cut();
      cuts += 1;
    }, 700);
    const stored: Promise<Message>[] = [];
    for (let index = 0; index < 60; index += 1) {
      const who = index % 2 === 0 ? ann : bob;
      stored.push(who.channel.send({ id: `${cid} ${index}`, text: `${index}` }));
      await new Promise((done) => setTimeout(done, 100));
    }
    clearInterval(cutting);
    expect(cuts).toBeGreaterThan(5);
    await Promise.all(stored);
    for (const { client, channel } of [ann, bob]) {
      await until("it is live again", () => client.connection.get() === "connected" && channel.state.sync === "live");
      await until("all are there", () => agree(client.userId, channel).then(() => channel.state.messages.length === 60));
    }
    const texts = ann.channel.state.messages.map((one) => Number(one.text));
    expect([...texts].sort((a, b) => a - b)).toEqual(Array.from({ length: 60 }, (_, index) => index));
    for (const rest of [0, 1]) {
      const of_one = texts.filter((text) => text % 2 === rest);
      expect(of_one).toEqual([...of_one].sort((a, b) => a - b));
    }
    expect(ann.channel.state.messages.map((one) => one.sequence)).toEqual(texts.map((_, index) => index + 1));
  });

  it("everybody sees the same after all kinds of changes at once, over cut connections", async () => {
    const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
    console.log(`seed ${seed}`);
    const random = seeded(seed);
    const clients = [await join("ann"), await join("bob"), await join("bob")];
    const root = await clients[0]!.channel.send({ text: "root", id: `${cid} root` });
    for (const { channel } of clients) await channel.openThread(root.id);
    for (let step = 0; step < 250; step += 1) {
      const { channel } = clients[Math.floor(random() * clients.length)]!;
      const some = channel.state.messages[Math.floor(random() * channel.state.messages.length)] ?? root;
      const dice = random();
      const mentions = random() < 0.3 ? { mentions: { users: ["bob"] } } : {};
      let done: Promise<unknown> = Promise.resolve();
      if (dice < 0.35) done = channel.send({ text: `${step}`, ...mentions });
      else if (dice < 0.5) done = channel.send({ text: `${step}`, parent_id: random() < 0.5 ? root.id : some.id, ...mentions });
      else if (dice < 0.6) done = channel.react(some.id, random() < 0.5 ? "like" : "love", { score: 1 + Math.floor(random() * 3) });
      else if (dice < 0.65) done = channel.unreact(some.id, "like");
      else if (dice < 0.72) done = channel.edit(some.id, { text: `edit ${step}` });
      else if (dice < 0.78) done = channel.delete(some.id);
      else if (dice < 0.8) done = channel.undelete(some.id);
      else if (dice < 0.86) done = channel.markRead();
      else if (dice < 0.9) done = channel.markUnread(1 + Math.floor(random() * channel.state.messages.length));
      else if (dice < 0.93) done = channel.markThreadRead(root.id);
      else if (dice < 0.95) network.cut();
      else done = node.call("POST", `${path()}/messages`, { text: `${step}`, ...(random() < 0.3 ? { parent_id: root.id } : {}) }, "cem");
      // Some are refused, as an edit of another's message is.
      done.catch(() => {});
      await new Promise((next) => setTimeout(next, random() * 60));
    }
    for (const { client, channel, failures } of clients) {
      await until(`${client.userId} agrees (seed ${seed})`, async () => {
        await agree(client.userId, channel);
        const { thread } = await node.call("GET", `${path()}/messages/${encodeURIComponent(root.id)}/thread`, undefined, client.userId);
        const replies = await node.call("GET", `${path()}/messages/${encodeURIComponent(root.id)}/replies?limit=100`, undefined, client.userId);
        const held = channel.state.threads[root.id]!;
        const first = held.replies[0]?.thread_sequence ?? 1;
        expect(held.replies).toEqual(replies.messages.reverse().filter((one: Message) => one.thread_sequence! >= first));
        // Reading a thread on another device is told by no event.
        if (client.userId === "ann") expect(held.unread).toEqual(thread);
        return channel.state.sync === "live";
      });
      expect(failures).toEqual([]);
    }
  });

  it("goes on where it was after keevod was killed and started again", async () => {
    const ann = await join("ann");
    const bob = await join("bob");
    await ann.channel.send({ text: "before" });
    const stored = [ann.channel.send({ text: "during 1" })];
    await node.kill();
    stored.push(ann.channel.send({ text: "during 2" }), ann.channel.send({ text: "during 3" }));
    await until("bob notices", () => bob.channel.state.sync === "behind");
    await node.start();
    await Promise.all(stored);
    await ann.channel.send({ text: "after" });
    for (const { client, channel } of [ann, bob]) {
      await until("it is live again", () => channel.state.sync === "live", 60_000);
      await until("all are there", () => agree(client.userId, channel).then(() => channel.state.messages.length === 5));
    }
    expect(bob.channel.state.messages.map((one) => one.text)).toEqual(["before", "during 1", "during 2", "during 3", "after"]);
    expect(bob.channel.state.unread).toMatchObject({ unread: 5 });
  });

  it("sends what was written offline, also by the next page", async () => {
    const storage = memoryStorage();
    network.up = false;
    network.cut();
    const first = make("ann", { storage });
    void first.client.connect().catch(() => {});
    const channel = first.client.channel(cid);
    for (let index = 1; index <= 10; index += 1) void channel.send({ text: `${index}` }).catch(() => {});
    await new Promise((done) => setTimeout(done, 300));
    expect(channel.state.waiting.map((one) => one.text)).toEqual(Array.from({ length: 10 }, (_, index) => `${index + 1}`));
    first.client.disconnect();

    network.up = true;
    const bob = await join("bob");
    const second = await join("ann", { storage });
    await until("bob has them", () => bob.channel.state.messages.length === 10);
    expect(bob.channel.state.messages.map((one) => one.text)).toEqual(Array.from({ length: 10 }, (_, index) => `${index + 1}`));
    await until("nothing waits", () => second.channel.state.waiting.length === 0);
    expect(await storage.entries("")).toEqual([]);
    await until("they agree", () => agree("ann", second.channel).then(() => true));
  });

  it("counts exactly what is unread, whatever happens to it", async () => {
    const ann = await join("ann");
    const phone = await join("bob");
    const desk = await join("bob");
    void desk.client.loadUnread();
    const sent: Message[] = [];
    for (let index = 1; index <= 8; index += 1) sent.push(await ann.channel.send({ text: `${index}`, ...(index % 4 === 0 ? { mentions: { channel: true } } : {}) }));
    await ann.channel.send({ text: "quietly", silent: true });
    await desk.channel.send({ text: "one's own" });
    const unread = (count: number, mentions: number) =>
      until(`${count} are unread`, async () => {
        for (const { channel, client } of [phone, desk]) {
          const held = channel.state.unread;
          if (held?.unread !== count || held.mentions !== mentions) return false;
          await agree("bob", channel);
          if (client === desk.client && client.unread.get().channels[cid]?.unread !== count) return false;
        }
        return true;
      });
    await unread(8, 2);
    await ann.channel.delete(sent[7]!.id);
    await unread(7, 1);
    await ann.channel.undelete(sent[7]!.id);
    await unread(8, 2);
    await phone.channel.markRead({ message_id: sent[4]!.id });
    await unread(3, 1);
    await desk.channel.markUnread(3);
    await unread(6, 2);
    await desk.channel.markRead();
    await unread(0, 0);
    await until("ann sees it", () => ann.channel.state.reads.bob?.sequence === 10);
  });

  it("shows who is there and who types", async () => {
    const ann = await join("ann");
    const bob = await join("bob");
    await until("they see each other", () => ["ann", "bob"].every((user) => ann.channel.state.watchers.includes(user) && bob.channel.state.watchers.includes(user)));
    bob.channel.keystroke();
    await until("ann sees bob type", () => ann.channel.state.typing.some((one) => one.user_id === "bob"));
    expect(bob.channel.state.typing).toEqual([]);
    await bob.channel.send({ text: "done" });
    await until("bob has stopped", () => ann.channel.state.typing.length === 0);
    bob.client.disconnect();
    await until("bob has left", () => !ann.channel.state.watchers.includes("bob"));
  });

  it("reads pages of history, without gaps", async () => {
    for (let index = 1; index <= 70; index += 1) await node.call("POST", `${path()}/messages`, { text: `${index}` }, "bob");
    const { channel } = await join("ann");
    expect(channel.state.messages.map((one) => one.sequence)).toEqual(Array.from({ length: 25 }, (_, index) => index + 46));
    expect(await channel.loadOlder(30)).toBe(true);
    expect(await channel.loadOlder(30)).toBe(false);
    expect(channel.state.messages.map((one) => one.text)).toEqual(Array.from({ length: 70 }, (_, index) => `${index + 1}`));
    const found = await channel.queryMessages({ user_id: "bob" }, { limit: 5, sort: "-sequence" });
    expect(found.items.map((one) => one.text)).toEqual(["70", "69", "68", "67", "66"]);
    expect(found.next).not.toBeNull();
  });

  it("reads the channel anew where the resume token is of no use", async () => {
    const { client, channel, failures } = await join("ann");
    await node.call("POST", `${path()}/messages`, { text: "one" }, "bob");
    await until("it came", () => channel.state.messages.length === 1);
    (client as any).core.sync.resume = "forged";
    network.up = false;
    network.cut();
    await node.call("POST", `${path()}/messages`, { text: "two" }, "bob");
    network.up = true;
    await until("it is live again", () => channel.state.sync === "live" && channel.state.messages.length === 2);
    await agree("ann", channel);
    expect(failures).toEqual([]);
  });

  it("loses a channel with the membership, and gets it back", async () => {
    const { channel } = await join("cem");
    await node.call("DELETE", `${path()}/members/cem`, undefined, "ann");
    await until("it is gone", () => channel.state.sync === "gone");
    expect(channel.state.error?.code).toBe(17);
    await expect(channel.send({ text: "let me in" })).rejects.toMatchObject({ kind: "api", code: 17 });
    expect(channel.state.waiting).toMatchObject([{ status: "failed" }]);
    await node.call("POST", `${path()}/members`, { members: ["cem"] }, "ann");
    await until("it is back", () => channel.state.sync === "live");
    const id = channel.state.waiting[0]!.id;
    expect(channel.retry(id)).toBe(true);
    await until("it is sent", () => channel.state.messages.some((one) => one.id === id));
  });

  it("is refused with a token of another, and with one that is forged", async () => {
    const { client } = make("ann", { token: sign({ user_id: "bob" }) });
    await expect(client.connect()).rejects.toMatchObject({ kind: "usage" });
    const forged = make("ann", { token: `${sign({ user_id: "ann" }).slice(0, -4)}AAAA` });
    await expect(forged.client.connect()).rejects.toMatchObject({ kind: "api", code: 43 });
    await expect(forged.client.user("ann")).rejects.toMatchObject({ kind: "api", code: 43, status: 401 });
  });

  it("renews its token on the connection", async () => {
    let asked = 0;
    const token = () => {
      asked += 1;
      return sign({ user_id: "ann", exp: Math.floor(Date.now() / 1_000) + 5 });
    };
    const { client, failures } = await join("ann", { token });
    const statuses: string[] = [];
    client.on("connection", ({ status }) => statuses.push(status));
    await until("it was renewed", () => asked >= 3);
    expect(statuses).toEqual([]);
    expect(failures).toEqual([]);
  });

  it("keeps drafts and reminders, and counts votes", async () => {
    const { client, channel } = await join("ann");
    const bob = await join("bob");
    const due: string[] = [];
    client.on("user.reminder_due", ({ reminder }) => due.push(reminder.message_id));
    await more.putDraft(channel, { text: "half a sen" });
    await more.putDraft(channel, { text: "half a sentence" });
    expect((await more.drafts(client)).items.map((one) => one.text)).toEqual(["half a sentence"]);
    const sent = await more.sendDraft(channel, `draft-${cid}`);
    expect(sent.text).toBe("half a sentence");
    expect(await more.draftOf(channel)).toBeNull();
    await more.remind(channel, sent.id, Date.now());
    await until("the reminder is due", () => due.includes(sent.id));
    expect((await more.reminders(client)).items.map((one) => one.message_id)).toContain(sent.id);
    expect(await more.forgetReminder(channel, sent.id)).toBe(true);

    const voted: string[][] = [];
    channel.on("poll.voted", ({ ballot }) => voted.push(ballot.options));
    const made = await more.createPoll(channel, { name: "Tea?", options: [{ id: "y", text: "yes" }, { id: "n", text: "no" }], answers: true });
    await bob.channel.send({ text: "vote!", poll_id: made.id });
    await until("the message is there", () => channel.state.messages.some((one) => one.poll_id === made.id));
    await more.vote(bob.channel, made.id, "y");
    const { poll, ballot } = await more.vote(channel, made.id, "n");
    expect([poll.votes, poll.voter_count, ballot?.options]).toEqual([{ y: 1, n: 1 }, 2, ["n"]]);
    await until("the votes are told", () => voted.length === 2);
    expect((await more.unvote(channel, made.id, "n")).poll.votes).toEqual({ y: 1 });
    expect((await more.answerPoll(channel, made.id, "neither")).ballot?.answer).toBe("neither");
    expect((await more.closePoll(channel, made.id)).closed_at).not.toBeNull();
    await expect(more.vote(channel, made.id, "y")).rejects.toMatchObject({ code: 22 });
  });

  it("finds messages by what they say, and says where", async () => {
    const { client, channel } = await join("ann");
    await channel.send({ text: `😀 the zeppelin lands at noon in ${cid}` });
    await channel.send({ text: "nothing of note" });
    let found: more.SearchPage | undefined;
    await until("the message is found", async () => {
      found = await more.search(client, { query: '"zeppelin lands" noo*', cids: [cid] });
      return found.items.length === 1;
    });
    const { text, ranges } = found!.items[0]!.highlights[0]!;
    expect(ranges.map(([from, to]) => text.slice(from, to))).toEqual(["zeppelin lands", "noon"]);
    expect([found!.next, found!.partial]).toEqual([null, false]);
    expect(Object.keys(found!.index.applied).length).toBeGreaterThan(0);
    const dia = make("dia");
    expect((await more.search(dia.client, { query: "zeppelin" })).items).toEqual([]);
    await expect(more.search(client, { query: "" })).rejects.toMatchObject({ code: 4 });
  });

  it("makes, finds and joins channels; invites; keeps users' data; stores files", async () => {
    const { client } = await join("ann");
    const together = await client.createChannel({ type: "messaging", distinct: true, members: ["bob"] });
    const again = await clientOf("bob", network.url).client.createChannel({ type: "messaging", distinct: true, members: ["ann"] });
    expect(again.cid).toBe(together.cid);
    const made = await client.createChannel({ type: "team", custom: { name: "Plants" } });
    const found = await client.queryChannels({ cid: made.cid });
    expect(found.items.map((one) => one.channel.custom)).toEqual([{ name: "Plants" }]);
    await made.invite(["dia"]);
    const dia = make("dia");
    expect((await dia.client.invites()).items.map((one) => one.cid)).toEqual([made.cid]);
    await dia.client.channel(made.cid).acceptInvite();
    expect((await made.members()).items.map((one) => one.user_id).sort()).toEqual(["ann", "dia"]);
    await client.updateMe({ set: { "profile.city": "Bonn" } });
    expect((await dia.client.user("ann")).custom).toMatchObject({ profile: { city: "Bonn" } });
    const url = await client.upload(new Blob(["some text"], { type: "text/plain" }), { name: "note.txt" });
    const file = await fetch(new URL(url, network.url));
    expect(await file.text()).toBe("some text");
    expect((await client.inbox()).items.map((one) => one.cid)).toContain(made.cid);
    await client.mute("bob");
    expect((await client.mutes()).items.map((one) => one.user_id)).toEqual(["bob"]);
    await client.unmute("bob");
  });
});
