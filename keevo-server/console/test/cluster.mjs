// Real nodes for the test of the console, on loopback, and what talks to them: `keevo-cli` and a classifier.
import { execFile, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createServer as listener } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
export const ADMIN_KEY = "the-administrators-key-of-the-console-test";

/** Free ports on loopback, all different. */
async function ports(count) {
  const held = await Promise.all(
    Array.from({ length: count }, () => new Promise((done) => { const one = listener().listen(0, "127.0.0.1", () => done(one)); })),
  );
  const free = held.map((one) => one.address().port);
  await Promise.all(held.map((one) => new Promise((done) => one.close(done))));
  return free;
}

/** A worker of moderation, as any server with `POST /v1/moderations` can be: rude words and threats score high. */
async function classifier() {
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const part of request) body += part;
    const texts = [JSON.parse(body).input].flat();
    const results = texts.map((text) => {
      const rude = /idiot|garbage|shut up/i.test(text);
      const threat = /or else/i.test(text) ? 0.96 : 0.003;
      return { category_scores: { toxic: rude ? 0.94 : 0.02, insult: rude ? 0.81 : 0.01, threat } };
    });
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ model: "words", results }));
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return { url: `http://127.0.0.1:${server.address().port}`, stop: () => server.close() };
}

/**
 * Starts a cluster that asks who callers are, and a node alone that does not. `bin` is the folder of the programs. What it
 * gives has `stop`, which leaves nothing behind.
 */
export async function start(bin, count) {
  const folder = await mkdtemp(join(tmpdir(), "keevo-console-"));
  const children = [];
  const words = await classifier();
  const keyFile = join(folder, "admin.key");
  await writeFile(keyFile, ADMIN_KEY);
  const grpc = await ports(count + 1);
  const http = await ports(count + 1);
  const peers = grpc.slice(0, count).map((port, at) => `${at + 1}=127.0.0.1:${port}`).join(",");
  const small = ["--block-cache-mib", "16", "--write-buffer-mib", "16", "--log-level", "error"];
  const node = (at, settings, more = []) => {
    const addresses = ["--grpc", `127.0.0.1:${grpc[at]}`, "--http", `127.0.0.1:${http[at]}`];
    const data = ["--data-dir", join(folder, `node-${at + 1}`)];
    const child = spawn(join(bin, "keevod"), [...more, ...settings, ...small, ...addresses, ...data], { stdio: ["ignore", "pipe", "inherit"] });
    children.push(child);
    return child;
  };
  const stop = async () => {
    await Promise.all(children.map((child) => child.exitCode ?? new Promise((done) => { child.once("exit", done); child.kill(); })));
    words.stop();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    const guarded = ["--insecure", "true", "--auth", "true", "--auth-admin-key-file", keyFile, "--peers", peers, "--shards", "6", "--moderation-workers", words.url];
    for (let at = 0; at < count; at += 1) node(at, [...guarded, "--node-id", String(at + 1)]);
    const dev = node(count, [], ["dev"]);
    const said = new Promise((done, failed) => {
      let text = "";
      dev.stdout.on("data", (data) => (text += data).includes("\n") && done(text));
      dev.once("exit", (code) => failed(new Error(`keevod dev ended with ${code}`)));
    });
    const open = /console is at (http:\S+)/.exec(await said)?.[1];
    if (!open) throw new Error("keevod dev does not say where its console is");
    const endpoints = grpc.slice(0, count).map((port) => `127.0.0.1:${port}`).join(",");
    const env = { ...process.env, KEEVO_ENDPOINTS: endpoints, KEEVO_API_KEY: ADMIN_KEY };
    const cli = async (...words) => (await run(join(bin, "keevo-cli"), words, { env })).stdout;
    const ready = async (port) => {
      const end = Date.now() + 60_000;
      while (!(await fetch(`http://127.0.0.1:${port}/ready`).then((answer) => answer.ok, () => false))) {
        if (Date.now() > end) throw new Error("the nodes are not ready within a minute");
        await new Promise((done) => setTimeout(done, 200));
      }
    };
    await Promise.all(http.map(ready));
    return { folder, cli, stop, console: `http://127.0.0.1:${http[0]}/console/`, open };
  } catch (error) {
    await stop();
    throw error;
  }
}

const HOUR = 3_600_000;

/** Fills the cluster with a little of everything. Gives the key of somebody who may only read orders. */
export async function fill({ cli, folder }) {
  const now = Date.now();
  const orders = [
    ["eu-berlin/2026-0117", { customer: "alice", total: 42.5, items: ["kettle", "green tea"], paid: true }],
    ["eu-berlin/2026-0118", { customer: "bob", total: 7, items: ["mug"], paid: false }],
    ["eu-lisbon/2026-0119", { customer: "carla", total: 129.9, items: ["grinder"], paid: true }],
    ["us-austin/2026-0120", { customer: "dan", total: 18.25, items: ["filters", "beans"], paid: true }],
  ];
  for (const [key, value] of orders) await cli("kv", "put", key, JSON.stringify(value), "--keyspace", "orders");
  await cli("kv", "put", "sessions/4711", "\u00fcber-secret", "--keyspace", "web", "--ttl", "2h");
  for (const user of ["alice", "bob", "carla", "dan", "eve"]) await cli("kv", "put", `user:${user}/profile`, JSON.stringify({ name: user }), "--keyspace", "web");

  const line = (kind, value) => JSON.stringify({ [kind]: value });
  const at = (hours) => new Date(now - hours * HOUR).toISOString();
  const posts = [
    ["alice", "roast", "bean:huila", "Washed Huila, light. Tastes like peach and black tea.", 50],
    ["alice", "brew", "cup:v60", "Switched to 15 g on 250 g, and the bitterness is gone.", 26],
    ["bob", "review", "grinder:c40", "Two years in: still the best hand grinder that I know.", 9],
    ["carla", "photo", "image:1207", "The new bar is open!", 3],
    ["alice", "ask", "question:88", "Does anybody rest their beans longer than three weeks?", 1],
  ];
  const feeds = [
    ...posts.map(([actor, verb, object, text, hours], number) => line("activity", { feed: `user:${actor}`, actor, verb, object, time: at(hours), foreign_id: `post:${number}`, text })),
    ...["alice", "bob", "carla"].flatMap((user) => ["dan", "eve"].map((reader) => line("follow", { feed: `timeline:${reader}`, target: `user:${user}` }))),
  ];
  await writeFile(join(folder, "feeds.jsonl"), `${feeds.join("\n")}\n`);
  await cli("feed", "import", join(folder, "feeds.jsonl"));

  const said = [
    ["alice", "Morning! The roaster is fixed, first batch at ten."],
    ["bob", "Finally. I will bring the cups."],
    ["carla", "Shall we try the new Huila?"],
    ["alice", "Yes, I put 2 kg aside."],
    ["dan", "Can somebody look at the invoice of the filters? The total looks wrong to me."],
    ["eve", "On it."],
  ];
  const chat = [
    line("channel", { channel: "team:roastery", created_by: "alice", created_at_ms: now - 90 * HOUR }),
    line("channel", { channel: "team:orders", created_by: "dan", created_at_ms: now - 80 * HOUR }),
    line("channel", { channel: "livestream:cupping", created_by: "carla", created_at_ms: now - 5 * HOUR }),
    ...["alice", "bob", "carla", "dan", "eve"].map((user) => line("member", { channel: "team:roastery", user, role: user === "alice" ? "owner" : "member", joined_at_ms: now - 90 * HOUR })),
    ...said.map(([user, text], number) => line("message", { channel: "team:roastery", id: `m${number}`, user, text, created_at_ms: now - (60 - 9 * number) * 60_000 })),
    line("message", { channel: "team:roastery", id: "t1", user: "eve", text: "Found it: the discount was taken twice.", parent: "m4", created_at_ms: now - 9 * 60_000 }),
    line("message", { channel: "team:roastery", id: "t2", user: "dan", text: "Thank you!", parent: "m4", created_at_ms: now - 8 * 60_000 }),
    line("reaction", { channel: "team:roastery", message: "m0", user: "bob", type: "love" }),
    line("reaction", { channel: "team:roastery", message: "m0", user: "carla", type: "love" }),
    line("message", { channel: "team:orders", id: "o1", user: "dan", text: "Order 2026-0120 is on its way.", created_at_ms: now - 2 * HOUR }),
    line("message", { channel: "livestream:cupping", id: "l1", user: "carla", text: "We start in five minutes.", created_at_ms: now - 4 * HOUR }),
  ];
  await writeFile(join(folder, "chat.jsonl"), `${chat.join("\n")}\n`);
  await cli("chat", "import", join(folder, "chat.jsonl"));
  const rules = [{ label: "toxic", threshold: 0.8, action: "flag" }, { label: "threat", threshold: 0.9, action: "hold" }];
  await writeFile(join(folder, "policy.json"), JSON.stringify({ default: { rules, blocklists: [], when_late: "hold", budget_ms: 2_000 } }));
  await cli("moderation", "policy", "set", "1", join(folder, "policy.json"));
  // Every node sees a policy within a second or so.
  await new Promise((done) => setTimeout(done, 2_500));
  await cli("chat", "send", "livestream:cupping", "--user", "sybil", "Stop the stream, or else.");
  await cli("chat", "send", "livestream:cupping", "--user", "mallory", "You are an idiot, and so is your coffee.");
  await cli("chat", "send", "livestream:cupping", "--user", "trent", "Shut up already, this stream is garbage");

  await cli("auth", "role", "set", "sales", "--allow", "read kv:orders");
  const made = JSON.parse(await cli("auth", "key", "create", "--role", "sales", "--note", "of the shop", "--output", "json"));
  return made.secret;
}

/** Reads and writes until the function that it gives is called. */
export function load({ cli }) {
  let ended = false;
  const one = async (worker) => {
    for (let number = 0; !ended; number += 1) {
      // Over many partitions, so that every node serves some.
      const partition = `load-${worker}-${number % 50}`;
      await (number % 3 === 0 ? cli("kv", "put", `${partition}/a`, `${number}`, "--keyspace", "web") : cli("kv", "scan", partition, "--keyspace", "web"));
    }
  };
  const all = Promise.all(["a", "b", "c"].map(one));
  return async () => {
    ended = true;
    await all;
  };
}

