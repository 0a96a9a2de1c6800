// What events make of a channel's state: the tables of docs/CHAT.md, and what has to be asked for.

import { describe, expect, it } from "vitest";
import type { DurableEvent } from "../src/events.js";
import { confirmed, reduce } from "../src/reduce.js";
import { type ChannelState, emptyState, MESSAGES_MAX, shown, withCounts, withOlder, withUnread } from "../src/state.js";
import type { ChannelInfo, Message } from "../src/types.js";
import { World } from "./world.js";
import { ModelChannel } from "./model.js";

const ME = "ann";

/** A channel whose events are applied one by one. */
class Following {
  readonly held = new ModelChannel("team:a", new World());
  state: ChannelState = { ...emptyState("team:a"), channel: this.held.info() as ChannelInfo, unread: { ...this.held.unread(ME) } };
  asked: string[] = [];
  private at = 0;

  follow(): this {
    for (; this.at < this.held.log.length; this.at += 1) {
      const { state, ask } = reduce(this.state, this.held.log[this.at] as unknown as DurableEvent, ME);
      this.state = state;
      this.asked.push(...ask.map((one) => ("message" in one ? `${one.what} ${one.message}` : one.what)));
    }
    return this;
  }

  send(user: string, id: string, more: Record<string, unknown> = {}): this {
    this.held.send(user, { id, text: id, ...more });
    return this.follow();
  }

  message(id: string): Message {
    return this.state.messages.find((message) => message.id === id)!;
  }
}

describe("what counts as unread", () => {
  it.each([
    ["another's message", "bob", {}, 1],
    ["one's own", ME, {}, 0],
    ["a silent one", "bob", { silent: true }, 0],
  ])("%s", (_, user, more, unread) => {
    const { state, held } = new Following().send(user, "m1", more);
    expect(state.unread).toEqual(held.unread(ME));
    expect(state.unread!.unread).toBe(unread);
  });

  it.each(["system", "shadowed"] as const)("not a message that is %s", (flag) => {
    const following = new Following();
    following.held.send("bob", { id: "m1", text: "x" });
    (following.held.log[0] as any).message[flag] = true;
    expect(following.follow().state.unread).toMatchObject({ unread: 0, last_sequence: 1 });
  });

  it("not a reply, in the channel", () => {
    const { state } = new Following().send("bob", "m1").send("bob", "r1", { parent_id: "m1" });
    expect(state.unread).toMatchObject({ unread: 1, last_sequence: 1 });
  });

  it("mentions of the user and of the channel; groups are for the server to say", () => {
    const following = new Following()
      .send("bob", "m1", { mentions: { users: [ME] } })
      .send("bob", "m2", { mentions: { channel: true } })
      .send("bob", "m3", { mentions: { users: ["cem"] } });
    expect(following.state.unread).toMatchObject({ unread: 3, mentions: 2 });
    // An answer's mentions may be ahead of its position, so they are asked for too.
    expect(following.asked).toEqual(["unread", "unread"]);
    following.send("bob", "m4", { mentions: { groups: ["g"] } });
    expect(following.asked).toEqual(["unread", "unread", "unread"]);
  });

  it("is asked for where a message goes, comes back, or stops naming the user, and where the user read elsewhere", () => {
    const following = new Following().send("bob", "m1", { mentions: { users: [ME] } });
    const { held } = following;
    const asks = (run: () => void) => {
      following.asked = [];
      run();
      following.follow();
      return following.asked;
    };
    expect(asks(() => held.change("m1", { text: "edited" }))).toEqual([]);
    expect(asks(() => held.change("m1", { mentions: { users: [], groups: [], channel: false } }))).toEqual(["unread"]);
    expect(asks(() => held.change("m1", { deleted_at: 5 }))).toEqual(["unread"]);
    expect(asks(() => held.change("m1", { deleted_at: null }))).toEqual(["unread"]);
    expect(asks(() => held.read("bob", 1))).toEqual([]);
    expect(asks(() => held.read(ME, 1))).toEqual(["unread"]);
    expect(asks(() => held.truncate(1))).toEqual(["unread"]);
  });

  it("is asked for where an answer was ahead of the event, so that the event changes nothing any more", () => {
    const following = new Following().send("bob", "m1").send("bob", "r1", { parent_id: "m1" });
    following.state = { ...following.state, born: 1 };
    for (const [id, asks] of [["m1", ["unread"]], ["r1", ["counts m1"]]] as const) {
      following.held.change(id, { deleted_at: 5 });
      following.state = withCounts(following.state, following.held.full(following.held.find(id)!, ME));
      following.asked = [];
      expect(following.follow().asked).toEqual(asks);
    }
  });

  it("an answer of the server gets what came behind its position", () => {
    const following = new Following().send("bob", "m1").send("bob", "m2");
    const answer = following.held.unread(ME);
    following.send("bob", "m3").send(ME, "m4").send("bob", "m5", { mentions: { users: [ME] } });
    expect(withUnread(following.state, answer, ME).unread).toEqual(following.held.unread(ME));
    // One of the user's own that a call confirmed ahead of the events of others hides none of them.
    const ahead = following.held.send(ME, { id: "m7", text: "7" })!;
    const state = confirmed(following.state, { ...ahead, sequence: 7 });
    const later = reduce(withUnread(state, answer, ME), { type: "message.new", cid: "team:a", version: 99, index: 1, message: { ...ahead, id: "m6", user_id: "bob", sequence: 6 } }, ME);
    expect(later.state.unread).toMatchObject({ unread: 5, last_sequence: 6 });
    expect(later.state.messages.map((message) => message.sequence)).toEqual([1, 2, 3, 4, 5, 6, 7]);
  });
});

describe("messages", () => {
  it("keep the higher version, whichever comes first", () => {
    const following = new Following().send("bob", "m1");
    following.held.change("m1", { text: "second" });
    const late = structuredClone(following.held.log.at(-1)) as any;
    following.held.change("m1", { text: "third" });
    following.follow();
    const { state } = reduce(following.state, late as DurableEvent, ME);
    expect(state.messages[0]).toMatchObject({ text: "third", version: 3 });
  });

  it("keep their counts where an event does not know them", () => {
    const following = new Following().send("bob", "m1").send("bob", "r1", { parent_id: "m1" });
    following.held.react(ME, "m1", "like", 2);
    following.held.change("m1", { text: "edited" });
    expect(following.follow().message("m1")).toMatchObject({ text: "edited", reply_count: 1, reactions: { like: 1 }, scores: { like: 2 }, own_reactions: ["like"] });
  });

  it("come in the order of their sequence, and only the newest are held", () => {
    const following = new Following();
    for (let index = 1; index <= MESSAGES_MAX + 1; index += 1) following.held.send("bob", { id: `m${index}`, text: "x" });
    const { state } = following.follow();
    expect(state.messages.length).toBe(MESSAGES_MAX * 0.75);
    expect(state.before).toBe(state.messages[0]!.sequence);
    expect(state.messages.at(-1)!.sequence).toBe(MESSAGES_MAX + 1);
    const older = following.held.messages.slice(0, 501).map((message) => following.held.full(message, ME));
    expect(withOlder(state, older, null).messages.map((message) => message.sequence)).toEqual(following.held.messages.map((one) => one.sequence));
  });

  it("are shown no longer where the channel was truncated", () => {
    const following = new Following().send("bob", "m1").send("bob", "m2").send("bob", "m3");
    following.held.truncate(2);
    expect(following.follow().state.messages.map((message) => message.id)).toEqual(["m3"]);
    // A page from before does not bring them back.
    const page = following.held.messages.slice(0, 2).map((message) => following.held.full(message, ME));
    const after = withOlder(following.state, page, 1);
    expect(after.messages.map((message) => message.id)).toEqual(["m3"]);
    expect(after.before).toBe(null);
  });

  it("that are pinned stand apart, newest first", () => {
    const following = new Following().send("bob", "m1").send("bob", "m2");
    following.held.change("m1", { pinned: { at: 1, by: "bob", until: null } });
    following.held.change("m2", { pinned: { at: 2, by: "bob", until: null } });
    expect(following.follow().state.pinned.map((message) => message.id)).toEqual(["m2", "m1"]);
    following.held.change("m2", { pinned: null });
    following.held.change("m1", { deleted_at: 9 });
    expect(following.follow().state.pinned).toEqual([]);
  });

  it("are shown with those that wait, in the channel and in a thread", () => {
    const { state } = new Following().send("bob", "m1");
    const waiting = [{ ...state.messages[0]!, id: "w1", status: "sending" as const, error: null }];
    const reply = { ...waiting[0]!, id: "w2", parent_id: "m1" };
    const both = { ...state, waiting: [...waiting, reply] };
    expect(shown(both).map((message) => message.id)).toEqual(["m1", "w1"]);
    expect(shown(both, "m1").map((message) => message.id)).toEqual(["w2"]);
  });
});

describe("reactions", () => {
  it("are counted by events where they are known from none on: a changed score is no second one", () => {
    const following = new Following().send("bob", "m1");
    following.held.react("bob", "m1", "clap", 1);
    following.held.react("bob", "m1", "clap", 5);
    following.held.react("cem", "m1", "clap", 2);
    following.held.react(ME, "m1", "like", 1);
    following.held.react("cem", "m1", "clap", null);
    expect(following.follow().message("m1")).toMatchObject({ reactions: { clap: 1, like: 1 }, scores: { clap: 5, like: 1 }, own_reactions: ["like"] });
    expect(following.asked).toEqual([]);
  });

  it("are asked for where some were there before", () => {
    const following = new Following().send("bob", "m1");
    following.state = { ...following.state, born: 1, messages: [{ ...following.message("m1"), reactions: { like: 3 }, scores: { like: 3 } }] };
    following.held.react("bob", "m1", "like", 2);
    following.follow();
    expect(following.message("m1").reactions).toEqual({ like: 3 });
    expect(following.asked).toEqual(["counts m1"]);
  });

  it("on a message that is not held are passed over", () => {
    const following = new Following().send("bob", "m1");
    following.state = { ...following.state, messages: [] };
    following.held.react("bob", "m1", "like", 2);
    expect(following.follow().asked).toEqual([]);
  });
});

describe("members and read states", () => {
  it("follow", () => {
    const following = new Following();
    following.held.join("bob");
    following.held.join("cem");
    following.held.read("bob", 0);
    following.follow();
    expect(following.state.members.map((member) => member.user_id)).toEqual(["bob", "cem"]);
    expect(following.state.reads).toMatchObject({ bob: { sequence: 0 } });
    const { state } = reduce(following.state, { type: "member.removed", cid: "team:a", version: 9, index: 1, user_id: "bob" }, ME);
    expect(state.members.map((member) => member.user_id)).toEqual(["cem"]);
    expect(state.reads).toEqual({});
  });

  it("have the channel read anew where the user itself is meant: its rights changed", () => {
    const following = new Following();
    following.held.join(ME);
    expect(following.follow().asked).toEqual(["channel"]);
  });
});
