// The console in a real browser, on three nodes that ask who callers are and one that does not: every page, light and dark,
// on a screen and on a phone, and what it refuses.
//
// BIN is the folder with keevod and keevo-cli, CHROMIUM the browser's program, SCREENSHOTS the folder for pictures (left out
// = none).
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { ADMIN_KEY, fill, load, start } from "./cluster.mjs";

const { BIN, CHROMIUM = "/usr/bin/chromium", SCREENSHOTS } = process.env;
const WITHIN = { timeout: 20_000 };
const SCREEN = { width: 1_280, height: 860 };
const PHONE = { width: 390, height: 844 };
let passed = 0;
const faults = [];

const ok = (what, holds, seen) => {
  if (!holds) throw new Error(`${what}: ${JSON.stringify(seen)}`);
  passed += 1;
  console.log(`ok: ${what}`);
};

async function sees(page, what, text) {
  await page.getByText(text).first().waitFor(WITHIN).catch(async () => {
    throw new Error(`${what}: there is no '${text}'; the page says: ${(await page.locator("body").innerText()).slice(0, 2_000)}`);
  });
  ok(what, true);
}

async function picture(page, name) {
  if (!SCREENSHOTS) return;
  await mkdir(SCREENSHOTS, { recursive: true });
  await page.mouse.move(0, 0);
  await page.waitForTimeout(350);
  await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`) });
}

/** A browser of its own, whose complaints are faults. */
async function open(browser, url, viewport = SCREEN, colorScheme = "light") {
  const context = await browser.newContext({ viewport, colorScheme, deviceScaleFactor: 1 });
  const page = await context.newPage();
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("console", (message) => {
    // A refused log-in is told by the browser itself.
    if (message.type() === "error" && !/status of 401/.test(message.text())) faults.push(message.text());
  });
  await page.goto(url);
  return page;
}

const go = (page, hash) => page.evaluate((hash) => void (window.location.hash = hash), hash);

async function enter(page, key) {
  await page.getByLabel("API key", { exact: true }).fill(key);
  await page.getByRole("button", { name: "Log in" }).click();
}

/** Nothing is wider than the screen, the heading has the focus, and every control has a name. */
async function usable(page, what) {
  const found = await page.evaluate(() => {
    const named = (element) => element.getAttribute("aria-label") || element.textContent.trim() || element.getAttribute("title") || element.labels?.length;
    const shown = (element) => element.checkVisibility();
    return {
      wide: document.scrollingElement.scrollWidth - window.innerWidth,
      headings: document.querySelectorAll("h1").length,
      nameless: [...document.querySelectorAll("button, a[href], input:not([type=hidden])")].filter((one) => shown(one) && !named(one) && !one.getAttribute("aria-labelledby") && !one.getAttribute("placeholder")).map((one) => one.outerHTML.slice(0, 200)),
    };
  });
  ok(`${what}: fits, and every control has a name`, found.wide <= 0 && found.headings === 1 && found.nameless.length === 0, found);
}

async function headers(url) {
  const document = await fetch(url);
  const policy = document.headers.get("content-security-policy") ?? "";
  const html = await document.text();
  const nonce = /nonce-([0-9a-f]+)/.exec(policy)?.[1];
  const script = /script-src ([^;]*)/.exec(policy)?.[1];
  ok("scripts come from the node alone", script === "'self'" && !/<script(?![^>]*\bsrc=)/.test(html), policy);
  ok("the nonce is the document's own", nonce && html.includes(nonce) && !(await (await fetch(url)).text()).includes(nonce), policy);
  ok("the document is kept by nobody, and framed by nobody", document.headers.get("cache-control") === "no-store" && /frame-ancestors 'none'/.test(policy) && document.headers.get("x-content-type-options") === "nosniff");
  const path = /src="([^"]+app\.js\?v=[^"]+)"/.exec(html)?.[1];
  const file = await fetch(new URL(path, url));
  ok("its files are kept for a year", /immutable/.test(file.headers.get("cache-control")) && file.headers.get("content-encoding") === "gzip", [...file.headers]);
  const other = await fetch(new URL("/console/api/session", url), { headers: { "sec-fetch-site": "cross-site" } });
  ok("other sites' pages are refused", other.status === 403, other.status);
  const bare = await fetch(new URL("/console/api/login", url), { method: "POST", body: "{}", headers: { "content-type": "application/json" } });
  ok("a form of another site is refused", bare.status === 403, bare.status);
}

async function pages(page) {
  await sees(page, "the cluster is shown after the log-in", "3 of 3");
  await sees(page, "with its leaders", "in step");
  ok("each shard has a cell for each node", (await page.locator(".keevo-cell[data-role=leader]").count()) >= 7);
  await usable(page, "cluster");
  await picture(page, "cluster");

  await go(page, "#/metrics");
  await page.locator(".keevo-plot canvas").first().waitFor(WITHIN);
  await sees(page, "metrics are plotted", "Throughput");
  await page.waitForFunction(() => [...document.querySelectorAll("[data-value]")].some((one) => /^[1-9]/.test(one.textContent)), null, WITHIN);
  await usable(page, "metrics");

  await go(page, "#/keys");
  await sees(page, "keyspaces are listed", "orders");
  await page.getByText("orders", { exact: true }).first().click();
  await sees(page, "and their partitions", "eu-berlin");
  await usable(page, "partitions");
  await page.getByLabel("Partitions that begin with").fill("eu-");
  await page.getByRole("button", { name: "Show" }).click();
  await page.getByText("us-austin").waitFor({ ...WITHIN, state: "detached" });
  ok("a prefix narrows them down", (await page.locator(".keevo-rowlink").count()) === 2);
  await page.getByText("eu-berlin").click();
  await sees(page, "rows are listed", "2026-0117");
  await page.getByRole("button", { name: "2026-0117" }).click();
  await sees(page, "a value is shown as JSON", '"customer": "alice"');
  await picture(page, "keys");
  await page.getByText("Bytes", { exact: true }).click();
  await sees(page, "and as bytes", /^000000 {2}7b 22/);
  await page.keyboard.press("Escape");

  await go(page, "#/feeds?app=1&feed=user:alice");
  await sees(page, "feeds are listed", "timeline:dan");
  await sees(page, "and their activities", "Washed Huila");
  await usable(page, "feeds");
  await picture(page, "feeds");

  await go(page, "#/channels?app=1&channel=team:roastery");
  await sees(page, "channels are listed", "livestream:cupping");
  await sees(page, "and their messages", "first batch at ten");
  await usable(page, "channels");
  await picture(page, "channels");
  await page.getByText("2 replies").click();
  await sees(page, "a thread opens", "the discount was taken twice");
  await page.goBack();
  await page.getByText("Members", { exact: true }).click();
  await sees(page, "members are listed", "owner");
}

async function search(page) {
  await go(page, "#/search");
  await sees(page, "the search says how to ask", "Say what you look for");
  await page.getByLabel("Words").fill("batch ten");
  await page.getByRole("button", { name: "Search" }).click();
  await sees(page, "it is asked", "Look again");
  // The index comes a moment after what is said.
  for (let round = 0; round < 40 && (await page.locator("a.keevo-rowlink").count()) === 0; round += 1) {
    await page.waitForTimeout(500);
    await page.getByRole("button", { name: "Look again" }).click();
  }
  await sees(page, "a message is found", "in team:roastery");
  const marks = await page.locator("mark").allInnerTexts();
  ok("and the words in it are marked", marks.join() === "batch,ten", marks);
  await usable(page, "search");
  await picture(page, "search");
  const sought = page.locator('article[aria-current="true"]');
  await page.locator("a.keevo-rowlink").click();
  await sees(page, "a result opens its channel", "Around message #1");
  ok("at the message", /first batch at ten/.test(await sought.innerText()), await sought.innerText());
  await page.getByText("Show the newest").click();
  await page.getByText("Around message").waitFor({ ...WITHIN, state: "detached" });
  await go(page, "#/search?app=1&query=discount&author=eve");
  await page.locator("a.keevo-rowlink", { hasText: "in a thread" }).click();
  await sees(page, "a reply opens in its thread", "Around message #1");
  ok("at the reply", /discount was taken twice/.test(await sought.innerText()), await sought.innerText());
  await go(page, "#/search?app=1&query=discount&author=bob");
  await sees(page, "a filter leaves out", "Nothing is found");
  await go(page, "#/search?app=1&query=a*");
  await sees(page, "what cannot be asked is refused in words", "the beginning of a word has at least 2 characters");
  // Of what is refused the browser itself tells; of this one it may.
  const told = faults.findIndex((fault) => /status of 400/.test(fault));
  if (told >= 0) faults.splice(told, 1);
}

async function moderation(page, cli) {
  await go(page, "#/moderation");
  await sees(page, "what was flagged waits", "idiot");
  await usable(page, "moderation");
  await picture(page, "moderation");
  const entry = page.locator("article", { hasText: "idiot" });
  await entry.getByRole("button", { name: "Remove", exact: true }).click();
  await page.getByRole("textbox", { name: "Note" }).fill("An insult");
  await page.getByRole("dialog").getByRole("button", { name: "Remove" }).click();
  await entry.waitFor({ ...WITHIN, state: "detached" });
  const history = () => cli("chat", "history", "livestream:cupping", "--output", "json");
  const before = await history();
  ok("what is removed is gone from its channel", !before.includes("idiot") && before.includes("garbage"), before);
  ok("what is held was not sent", !before.includes("or else"), before);
  await page.getByText("Held", { exact: true }).click();
  const held = page.locator("article");
  await page.getByText("garbage").waitFor({ ...WITHIN, state: "detached" });
  await sees(page, "held messages can be looked at alone", "Nobody but its author sees it");
  await usable(page, "held messages");
  await picture(page, "moderation-held");
  await held.getByRole("button", { name: "Allow", exact: true }).click();
  await sees(page, "what comes of it is said", "It is sent now");
  await page.getByRole("dialog").getByRole("button", { name: "Allow" }).click();
  await sees(page, "it leaves the queue", "Nothing is held");
  const after = await history();
  ok("what is allowed is sent", after.includes("or else"), after);
  await go(page, "#/audit");
  await sees(page, "the decision is in the audit log", "Decide");
  await sees(page, "with its outcome", "done");
  await usable(page, "audit");
  await picture(page, "audit");
  await go(page, "#/apilog");
  await sees(page, "the API log shows the newest calls", "keevo.kv.v1.Kv/");
  await page.getByLabel("Method, caller or request with").fill("SendMessage");
  await page.getByRole("button", { name: "Show" }).click();
  await page.getByText("keevo.kv.v1.Kv/").first().waitFor({ ...WITHIN, state: "detached" });
  await sees(page, "and those that one looks for", "keevo.chat.v1.Chat/SendMessage");
  await usable(page, "API log");
  await picture(page, "apilog");
}

async function small(browser, url) {
  const page = await open(browser, url, PHONE, "dark");
  await enter(page, ADMIN_KEY);
  await sees(page, "the phone shows the cluster", "3 of 3");
  for (const [name, text] of [["cluster", "Shards"], ["metrics", "Throughput"], ["keys", "orders"], ["feeds", "user:alice"], ["channels", "team:roastery"], ["search?app=1&query=batch", "in team:roastery"], ["moderation", "garbage"], ["apilog", "keevo."], ["audit", "Decide"]]) {
    await go(page, `#/${name}`);
    const [title] = name.split("?");
    await sees(page, `${title} on a phone`, text);
    await usable(page, `${title} on a phone`);
    if (["cluster", "channels", "search", "moderation"].includes(title)) await picture(page, `phone-${title}`);
  }
  await page.getByRole("button", { name: "Open the menu" }).click();
  await page.getByRole("link", { name: "Keys" }).click();
  await sees(page, "the menu leads on", "Keyspaces");
  await page.context().close();
}

async function keyboard(browser, url) {
  const page = await open(browser, url);
  await page.getByLabel("API key", { exact: true }).waitFor(WITHIN);
  await page.keyboard.type(ADMIN_KEY);
  await page.keyboard.press("Enter");
  await sees(page, "one logs in by the keyboard alone", "3 of 3");
  const focused = () => page.evaluate(() => `${document.activeElement.tagName} ${document.activeElement.textContent}`);
  ok("the heading has the focus", (await focused()) === "H1 Cluster", await focused());
  await page.getByRole("link", { name: "Keys" }).focus();
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.activeElement.textContent === "Keys" && document.activeElement.tagName === "H1", null, WITHIN);
  ok("and that of the next page", (await page.title()) === "Keys · Keevo");
  ok("the page that is shown is marked", (await page.locator('[aria-current="page"]').innerText()).trim() === "Keys");
  await page.context().close();
}

async function limited(browser, url, key) {
  const page = await open(browser, url);
  await enter(page, key);
  await sees(page, "a key with few rights gets in", "Live metrics");
  const links = (await page.locator("nav a").allInnerTexts()).map((text) => text.trim());
  ok("and sees the pages for everybody", links.join() === "Live metrics,Keys,Feeds,Channels,Search", links);
  await go(page, "#/keys");
  await sees(page, "and the keyspace that it may read", "orders");
  ok("and no other", (await page.getByText("web", { exact: true }).count()) === 0);
  await go(page, "#/cluster");
  await sees(page, "a page that it may not see says why", "This page is for administrators");
  await go(page, "#/feeds");
  await sees(page, "and what it lacks", "read feeds:1");
  await page.getByRole("button", { name: "Who is logged in" }).click();
  await page.getByText("Log out").click();
  await sees(page, "it logs out", "Log in with an API key");
  const again = await page.evaluate(() => fetch("/console/api/session").then((answer) => answer.status));
  ok("and is known no more", again === 401, again);
  await page.context().close();
}

const nodes = await start(BIN, 3);
let quiet;
// Chromium has no sandbox for root.
const browser = await chromium.launch({ executablePath: CHROMIUM, args: process.getuid() === 0 ? ["--no-sandbox"] : [] });
try {
  const sales = await fill(nodes);
  quiet = load(nodes);
  await headers(nodes.console);
  const page = await open(browser, nodes.console);
  await sees(page, "nobody gets in without a key", "Log in with an API key");
  await usable(page, "log-in");
  await picture(page, "login");
  await enter(page, "keevo_0123456789abcdef_wrong");
  await sees(page, "a wrong key is refused", "the API key is not known");
  await enter(page, ADMIN_KEY);
  await pages(page);
  await search(page);
  await moderation(page, nodes.cli);
  await keyboard(browser, nodes.console);
  await limited(browser, nodes.console, sales);
  await small(browser, nodes.console);

  await go(page, "#/metrics");
  await page.locator(".keevo-plot canvas").first().waitFor(WITHIN);
  await page.getByText("1 min", { exact: true }).click();
  await picture(page, "metrics");
  await page.getByRole("button", { name: "Dark colours" }).click();
  ok("it turns dark", (await page.getAttribute("html", "data-mantine-color-scheme")) === "dark");
  await picture(page, "metrics-dark");
  await go(page, "#/cluster");
  await sees(page, "the cluster in the dark", "3 of 3");
  await picture(page, "cluster-dark");
  await page.reload();
  ok("it stays dark after a reload", (await page.getAttribute("html", "data-mantine-color-scheme")) === "dark");

  const free = await open(browser, nodes.open);
  await sees(free, "without authentication nobody has to log in", "1 of 1");
  await sees(free, "and the page says so", "no authentication");
  await go(free, "#/audit");
  await sees(free, "and that nothing is logged", "Authentication is off");
  await go(free, "#/keys");
  await free.getByRole("heading", { name: "Keys", exact: true }).waitFor(WITHIN);
  await usable(free, "an empty node");
  ok("no page complained", faults.length === 0, faults);
} finally {
  await quiet?.().catch(() => {});
  await browser.close();
  await nodes.stop();
}
console.log(`console: ${passed} checks passed`);
