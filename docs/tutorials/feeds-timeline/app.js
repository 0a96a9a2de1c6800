// The page: a user posts, follows others, and sees their posts as they come. Open it with ?user=alice.
"use strict";

const $ = (id) => document.getElementById(id);
const say = (text) => {
  $("status").textContent = text;
};

// The actor of an activity is the reference SU:alice; where it came enriched, it is the user itself.
const nameOf = (actor) => (typeof actor === "string" ? actor.replace(/^SU:/, "") : actor.data?.name || actor.id);

function row(activity) {
  const item = document.createElement("li");
  const who = document.createElement("b");
  const text = document.createElement("span");
  const when = document.createElement("time");
  who.textContent = nameOf(activity.actor);
  text.textContent = activity.text;
  when.textContent = new Date(`${activity.time}Z`).toLocaleString();
  item.append(who, text, document.createElement("br"), when);
  return item;
}

async function main() {
  const user = new URLSearchParams(location.search).get("user") || "alice";
  const answer = await fetch(`/session?user=${encodeURIComponent(user)}`);
  if (!answer.ok) throw new Error(await answer.text());
  const { api, appId, key, token } = await answer.json();
  const client = stream.connect(key, token, appId, { urlOverride: { api: `${api}/api/` }, fayeUrl: `${api}/faye` });
  $("me").textContent = user;

  const own = client.feed("user", user);
  const timeline = client.feed("timeline", user);
  const show = async () => {
    const page = await timeline.get({ limit: 25, enrich: false });
    $("timeline").replaceChildren(...page.results.map(row));
  };

  $("post").addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = event.target.elements.text.value.trim();
    event.target.reset();
    // The foreign id and the time name the activity: sent twice, it is there once.
    const foreign_id = `post:${crypto.randomUUID()}`;
    await own.addActivity({ verb: "post", object: foreign_id, foreign_id, time: new Date().toISOString(), text });
    say("Posted.");
  });
  $("follow").addEventListener("submit", async (event) => {
    event.preventDefault();
    const who = event.target.elements.who.value;
    event.target.reset();
    await timeline.follow("user", who);
    say(`You follow ${who}.`);
    await show();
  });

  // The own posts are in the own timeline too.
  if (!(await timeline.following({ filter: [`user:${user}`] })).results.length) await timeline.follow("user", user);
  await timeline.subscribe(show);
  await show();
  say("Connected.");
}

addEventListener("unhandledrejection", (event) => say(`Failed: ${event.reason.message ?? event.reason}`));
main().catch((error) => say(`Failed: ${error.message}`));
