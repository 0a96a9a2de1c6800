// Whatever breaks, once it is whole again the client shows what the server holds: same messages, counts and read states,
// and each message that it sent is stored once and in order. The model of the server breaks by a seed: replay one with
// `SEED=7 npx vitest run test/converge.test.ts`.

import { describe, expect, it } from "vitest";
import { ChatClient, memoryStorage } from "../src/index.js";
import { Model, type ModelChannel } from "./model.js";
import { seeded, token, World } from "./world.js";

const SEEDS = process.env.SEED ? [Number(process.env.SEED)] : Array.from({ length: Number(process.env.SEEDS ?? 200) }, (_, index) => index + 1);
const STEPS = 150;
const CIDS = ["team:a", "team:b"];

function someone(random: () => number): string {
  return ["ann", "bob", "cem", "dia"][Math.floor(random() * 4)]!;
}

/** Something that happens on the server, by another user or on another device of the user. */
function happens(channel: ModelChannel, random: () => number, number: number): void {
  const all = [...channel.messages, ...[...channel.replies.values()].flat()];
  const some = all[Math.floor(random() * all.length)];
  const parent = channel.messages[Math.floor(random() * channel.messages.length)];
  const user = someone(random);
  const dice = random();
  const mentions = random() < 0.2 ? { users: ["ann"] } : {};
  if (dice < 0.35 || !some || !parent) channel.send(user, { id: `m${number}`, text: `text ${number}`, mentions, silent: random() < 0.1 });
  else if (dice < 0.5) channel.send(user, { id: `m${number}`, text: `reply ${number}`, parent_id: parent.id, mentions });
  else if (dice < 0.6 && some.deleted_at === null) channel.change(some.id, { text: `edit ${number}` });
  else if (dice < 0.67) channel.change(some.id, { deleted_at: some.deleted_at === null ? number : null });
  else if (dice < 0.85) channel.react(user, some.id, random() < 0.5 ? "like" : "love", Math.floor(random() * 3));
  else if (dice < 0.92) channel.react(user, some.id, "like", null);
  else if (dice < 0.97) channel.read(user, Math.floor(random() * (channel.messages.length + 1)));
  else if (dice < 0.98) channel.truncate(Math.floor(channel.messages.length / 2));
  else channel.join(someone(random));
}

/** The message as it is compared: own reactions in any order. */
function plain(message: { own_reactions: string[] | null }) {
  return { ...message, own_reactions: [...(message.own_reactions ?? [])].sort() };
}

async function run(seed: number): Promise<void> {
  const world = new World(seed);
  const random = seeded(seed * 7919);
  const model = new Model(world, "ann");
  for (const cid of CIDS) {
    for (let index = 0; index < 40; index += 1) model.channel(cid).send(someone(random), { id: `old${index}`, text: `old ${index}` });
    model.channel(cid).join("ann");
  }
  const options = { url: "http://a.test", apiKey: "key", userId: "ann", storage: memoryStorage(), env: world.env };
  const client = new ChatClient({ ...options, token: () => token("ann", world.now + 600_000) });
  void client.connect();
  const channels = CIDS.map((cid) => client.channel(cid));
  const failures: unknown[] = [];
  client.on("error", ({ error }) => failures.push(error));
  for (const channel of channels) void channel.watch();
  await world.pass(5_000);
  for (const channel of channels) void channel.openThread("old39").catch(() => {});
  // Fast and slow networks; on slow ones much happens while an answer is on its way.
  model.faults = { lost: 0.08, busy: 0.04, drop: 0.01 + 0.02 * random(), twice: 0.1, late_ms: [100, 700, 3_000][seed % 3]! };

  const sent = new Map<string, string[]>(CIDS.map((cid) => [cid, []]));
  const stored: Promise<unknown>[] = [];
  for (let step = 0; step < STEPS; step += 1) {
    const at = Math.floor(random() * CIDS.length);
    const [cid, channel] = [CIDS[at]!, channels[at]!];
    const held = model.channel(cid);
    const dice = random();
    if (dice < 0.6) {
      happens(held, random, step);
      model.pump();
    } else if (dice < 0.8) {
      const id = `own${step}`;
      sent.get(cid)!.push(id);
      stored.push(channel.send({ id, text: `own ${step}` }));
    } else if (dice < 0.85) {
      void (random() < 0.7 ? channel.markRead() : channel.markUnread(1 + Math.floor(random() * 40))).catch(() => {});
    } else if (dice < 0.9) {
      const message = channel.state.messages[Math.floor(random() * channel.state.messages.length)];
      if (message) void channel.react(message.id, "own", {}).catch(() => {});
    } else if (dice < 0.94) {
      void channel.loadOlder(10).catch(() => {});
    } else if (dice < 0.95) {
      held.purged = held.version;
      held.log = [];
    } else if (dice < 0.96) {
      model.cut();
    } else if (dice < 0.97) {
      channel.closeThread("old39");
      void channel.openThread("old39").catch(() => {});
    } else {
      channel.send({ id: `reply${step}`, text: "a reply", parent_id: "old39" }).catch(() => {});
    }
    await world.pass(Math.floor(random() * (random() < 0.6 ? 80 : 1_500)));
  }
  model.calm();
  await world.pass(180_000);

  await Promise.all(stored);
  expect(failures).toEqual([]);
  for (const [index, channel] of channels.entries()) {
    const held = model.channel(CIDS[index]!);
    const { state } = channel;
    expect(state.sync).toBe("live");
    expect(state.waiting).toEqual([]);
    const from = state.messages[0]?.sequence ?? Infinity;
    const there = held.messages.filter((message) => message.sequence! > held.truncated);
    const expected = there.filter((message) => message.sequence! >= from).map((message) => plain(held.full(message, "ann")));
    expect(state.messages.map(plain)).toEqual(expected);
    expect(state.messages.length).toBeGreaterThanOrEqual(Math.min(10, there.length));
    expect(state.before !== null).toBe(there.length > expected.length);
    expect(state.unread).toEqual(held.unread("ann"));
    expect(client.unread.get().channels[channel.cid]).toEqual(held.unread("ann"));
    expect(state.reads).toEqual(Object.fromEntries(held.reads));
    expect(new Set(state.members.map((member) => member.user_id))).toEqual(held.members);
    const thread = state.threads.old39!;
    const replies = held.replies.get("old39") ?? [];
    const first = thread.replies[0]?.thread_sequence ?? Infinity;
    expect(thread.status).toBe("ready");
    expect(thread.replies.map(plain)).toEqual(replies.filter((one) => one.thread_sequence! >= first).map((one) => plain(held.full(one, "ann"))));
    expect(thread.unread).toEqual(held.threadUnread("old39", "ann"));
    const own = held.messages.filter((message) => message.id.startsWith("own")).map((message) => message.id);
    expect(own).toEqual(sent.get(channel.cid));
  }
  client.disconnect();
  await world.settle();
  expect(world.reported).toEqual([]);
}

describe("a client in a world that breaks", () => {
  it.each(SEEDS)("shows what the server holds, seed %i", async (seed) => {
    await run(seed);
  });
});
