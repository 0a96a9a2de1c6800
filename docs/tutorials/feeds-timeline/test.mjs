// The tutorial's page in a real browser: two users, a follow, a post that arrives by itself, and a reload.
//
// APP is the page's address, CHROMIUM the browser's program, SCREENSHOT where the picture goes (left out = none).
import { createRequire } from "node:module";
import { join } from "node:path";

const { APP, CHROMIUM = "/usr/bin/chromium", SCREENSHOT, MODULES } = process.env;
const require = createRequire(join(MODULES ?? process.cwd(), "/"));
const { chromium } = require("playwright-core");

const WITHIN = { timeout: 20_000 };
// Chromium has no sandbox for root.
const root = process.getuid() === 0;
const browser = await chromium.launch({ executablePath: CHROMIUM, args: root ? ["--no-sandbox"] : [] });
let passed = 0;
const check = (what, holds, seen) => {
  if (!holds) throw new Error(`${what}: ${JSON.stringify(seen)}`);
  passed += 1;
  console.log(`ok: ${what}`);
};

async function open(user) {
  const page = await (await browser.newContext({ viewport: { width: 720, height: 640 } })).newPage();
  page.on("pageerror", (error) => console.error(`${user}: ${error.message}`));
  await page.goto(`${APP}/?user=${user}`);
  await page.waitForFunction(() => /Connected|Failed/.test(document.querySelector("#status").textContent), null, WITHIN);
  const status = await page.textContent("#status");
  check(`${user} is connected`, status === "Connected.", status);
  return page;
}

async function post(page, text) {
  await page.fill("#post input", text);
  await page.click("#post button");
  await page.waitForFunction((text) => document.querySelector("#timeline").textContent.includes(text), text, WITHIN);
}

const texts = (page) => page.$$eval("#timeline li span", (all) => all.map((one) => one.textContent));

try {
  const [alice, bob] = [await open("alice"), await open("bob")];
  await post(alice, "Hello from Alice");
  check("what alice posts is in her own timeline", (await texts(alice)).length === 1, await texts(alice));
  check("bob does not follow her yet", (await texts(bob)).length === 0, await texts(bob));

  await bob.fill("#follow input", "alice");
  await bob.click("#follow button");
  await bob.waitForFunction(() => document.querySelectorAll("#timeline li").length === 1, null, WITHIN);
  check("a follow brings what was posted before", (await texts(bob))[0] === "Hello from Alice", await texts(bob));

  await alice.fill("#post input", "<b>This</b> arrives by itself");
  await alice.click("#post button");
  await bob.waitForFunction(() => document.querySelectorAll("#timeline li").length === 2, null, WITHIN);
  const seen = await texts(bob);
  check("a post arrives without a reload, newest first", seen[0] === "<b>This</b> arrives by itself", seen);
  await post(bob, "Nice to see you here");
  if (SCREENSHOT) await bob.screenshot({ path: SCREENSHOT });

  await bob.reload();
  await bob.waitForFunction(() => document.querySelectorAll("#timeline li").length === 3, null, WITHIN);
  check("it is all there after a reload", (await texts(bob))[0] === "Nice to see you here", await texts(bob));
  check("alice does not see bob's", !(await texts(alice)).includes("Nice to see you here"), await texts(alice));
} finally {
  await browser.close();
}
console.log(`web-test: ${passed} checks passed`);
