// The tutorial, step by step, in a real browser: the files of each step are taken out of the page, built and served by the
// tutorial's own server, and what the step promises is checked with two users.
//
// KEEVO is the node's address, APP its `key:secret`, MODULES the folder with node_modules, CHROMIUM the browser's program,
// SCREENSHOT where the picture goes (left out = none).
import { spawn } from "node:child_process";
import { mkdtemp, rm, symlink } from "node:fs/promises";
import { createServer, connect } from "node:net";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { extract, steps } from "./extract.mjs";

const { KEEVO, APP, MODULES, CHROMIUM = "/usr/bin/chromium", SCREENSHOT } = process.env;
const { chromium } = createRequire(join(MODULES, "/"))("playwright-core");
const WITHIN = { timeout: 30_000 };
let passed = 0;

// The network between the page and the node: it can be cut.
const pairs = new Set();
let up = true;
const network = createServer((near) => {
  near.on("error", () => {});
  if (!up) return void near.destroy();
  const far = connect(Number(new URL(KEEVO).port), "127.0.0.1");
  const end = () => [near, far].forEach((side) => side.destroy());
  pairs.add(end);
  for (const side of [near, far]) side.on("error", end).on("close", () => (end(), pairs.delete(end)));
  near.pipe(far).pipe(near);
});
await new Promise((done) => network.listen(0, "127.0.0.1", done));
const address = `http://127.0.0.1:${network.address().port}`;

const folder = await mkdtemp(join(tmpdir(), "keevo-tutorial-"));
await symlink(join(MODULES, "node_modules"), join(folder, "node_modules"));

/** Starts the tutorial's server on the files as they are; gives its address and what ends it. */
async function serve() {
  const env = { ...process.env, KEEVO: address, APP, PORT: "0" };
  const child = spawn(process.execPath, ["server.mjs"], { cwd: folder, env, stdio: ["ignore", "pipe", "inherit"] });
  const url = await new Promise((resolve, reject) => {
    let said = "";
    child.stdout.on("data", (data) => (said += data).includes("\n") && resolve(said.trim()));
    child.once("exit", (code) => reject(new Error(`server.mjs ended with ${code}`)));
  });
  return { url, stop: () => new Promise((done) => child.once("exit", done) && child.kill()) };
}

// Chromium has no sandbox for root.
const browser = await chromium.launch({ executablePath: CHROMIUM, args: process.getuid() === 0 ? ["--no-sandbox"] : [] });
const contexts = {};
const faults = [];

async function open(url, user) {
  contexts[user] ??= await browser.newContext({ viewport: { width: 900, height: 600 } });
  const page = await contexts[user].newPage();
  page.on("pageerror", (error) => faults.push(`${user}: ${error.message}`));
  await page.goto(`${url}/?user=${user}`);
  await page.waitForFunction(() => document.querySelector("#status")?.textContent === "connected", null, WITHIN);
  return page;
}

const check = async (what, page, holds, arg) => {
  await page.waitForFunction(holds, arg, WITHIN).catch(async () => {
    throw new Error(`${what}: not within 30 s; the page says: ${await page.textContent("body")}`);
  });
  passed += 1;
  console.log(`ok: ${what}`);
};
const last = (page, section = "#room") => page.locator(`${section} li`).last();
const texts = (section) => [...document.querySelectorAll(`${section} li span`)].map((one) => one.textContent).join(" | ");

async function write(page, text, section = "#room") {
  await page.fill(`${section} input`, text);
  await page.press(`${section} input`, "Enter");
}
const shows = (page, text, what, section = "#room") =>
  check(what, page, ([section, text]) => [...document.querySelectorAll(`${section} li:not(.sending) span`)].some((one) => one.textContent === text), [section, text]);

const CHECKS = {
  4: async () => {},
  5: async (ann, bob) => {
    await write(ann, "Hello, Bob");
    await shows(bob, "Hello, Bob", "what ann writes arrives at bob's");
    await write(bob, "Tea or <b>coffee</b>?");
    await shows(ann, "Tea or <b>coffee</b>?", "and back, as it was written");
  },
  6: async (ann, bob) => {
    await last(bob).locator('[title="love"]').click();
    await check("ann sees bob's reaction", ann, () => /❤️ 1/.test([...document.querySelectorAll("#room li")].at(-1).textContent));
    await last(ann).locator('[title="love"]').click();
    await check("two are counted", bob, () => /❤️ 2/.test([...document.querySelectorAll("#room li")].at(-1).textContent));
    await last(ann).locator('[title="love"]').click();
    await check("and one again", bob, () => /❤️ 1/.test([...document.querySelectorAll("#room li")].at(-1).textContent));
  },
  7: async (ann, bob) => {
    await last(bob).locator('[title="thread"]').click();
    await write(bob, "I have both", "#thread");
    await check("ann sees that there is a reply", ann, () => /💬 1/.test([...document.querySelectorAll("#room li")].at(-1).textContent));
    await last(ann).locator('[title="thread"]').click();
    await shows(ann, "I have both", "and reads it in the thread", "#thread");
    await write(ann, "Tea, please", "#thread");
    await shows(bob, "Tea, please", "the open thread follows", "#thread");
  },
  8: async (ann, bob) => {
    await bob.type("#room input", "I am writ");
    await check("ann sees that bob types", ann, () => document.querySelector("#room .typing").textContent === "bob …");
    await check("and that he has stopped", ann, () => document.querySelector("#room .typing").textContent.trim() === "");
  },
  9: async (ann, bob) => {
    await check("what is shown is read", ann, () => !document.querySelector('[data-cid="team:general"] mark'));
    await ann.click('[data-cid="team:plants"]');
    await write(bob, "The kettle is on");
    await write(bob, "Milk?");
    await check("what is not shown is counted", ann, () => document.querySelector('[data-cid="team:general"] mark')?.textContent === "2");
    await check("in the title too", ann, () => document.title === "(2) Chat");
    await ann.click('[data-cid="team:general"]');
    await check("until it is shown", ann, () => !document.querySelector('[data-cid="team:general"] mark') && document.title === "Chat");
  },
  10: async (ann, bob, url) => {
    up = false;
    for (const end of [...pairs]) end();
    await check("ann notices that the connection is gone", ann, () => document.querySelector("#status").textContent !== "connected");
    for (const text of ["Back in a minute", "Yes, with milk", "Thank you"]) await write(ann, text);
    await check("what she writes is shown as not sent", ann, () => document.querySelectorAll("#room li.sending").length === 3);
    await ann.close();
    up = true;
    await check("bob is back by himself", bob, () => document.querySelector("#status").textContent === "connected");
    const again = await open(url, "ann");
    await shows(bob, "Thank you", "the next page sends what waited");
    const seen = await bob.evaluate(texts, "#room");
    if (!seen.endsWith("Back in a minute | Yes, with milk | Thank you")) throw new Error(`not in order, or twice: ${seen}`);
    await check("nothing waits any more", again, () => document.querySelectorAll("#room li.sending").length === 0);
    if (SCREENSHOT) await picture(again, bob);
  },
};

async function picture(ann, bob) {
  await ann.locator('#room [title="thread"]', { hasText: "2" }).first().click();
  await shows(ann, "I have both", "the thread is there after all of it", "#thread");
  await bob.type("#room input", "You are wel");
  await check("bob types", ann, () => document.querySelector("#room .typing").textContent === "bob …");
  await ann.screenshot({ path: SCREENSHOT });
}

try {
  const all = await steps();
  if (all.map((step) => step.number).join() !== "1,2,3,4,5,6,7,8,9,10") throw new Error("the page has other steps than 1 to 10");
  for (const { number, title } of all) {
    await extract(number, folder);
    if (!CHECKS[number]) continue;
    console.log(`step ${number}: ${title}`);
    const { url, stop } = await serve();
    const [ann, bob] = [await open(url, "ann"), await open(url, "bob")];
    passed += 1;
    await CHECKS[number](ann, bob, url);
    for (const context of Object.values(contexts)) for (const page of context.pages()) await page.close();
    await stop();
    if (faults.length > 0) throw new Error(faults.join("\n"));
  }
} finally {
  await browser.close();
  network.close();
  for (const end of pairs) end();
  await rm(folder, { recursive: true, force: true });
}
console.log(`web-test: ${passed} checks passed`);
