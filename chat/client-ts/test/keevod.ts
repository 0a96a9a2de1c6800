// A real `keevod`, tokens for it, and a network between the two that can be cut.

import { type ChildProcess, spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, connect as dial, type Server, type Socket as Tcp } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import WebSocket from "ws";
import { ChatClient, type ChatOptions, memoryStorage } from "../src/index.js";
import type { Socket } from "../src/env.js";

const KEY = "test-key";
const SECRET = "a-secret-of-the-tests-that-is-long-enough";

/** Signs a token as the application's own server would. */
export function sign(claims: Record<string, unknown>): string {
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const body = `${encode({ alg: "HS256", typ: "JWT" })}.${encode(claims)}`;
  return `${body}.${createHmac("sha256", SECRET).update(body).digest("base64url")}`;
}

/** A node that runs, and can be killed and started again on its data and its port. */
export class Keevod {
  private readonly folder = mkdtempSync(join(tmpdir(), "keevo-client-"));
  private child: ChildProcess | null = null;
  port = 0;

  constructor(private readonly program: string) {
    writeFileSync(join(this.folder, "app"), `${KEY}:${SECRET}`, { mode: 0o600 });
  }

  /** Starts it and waits until its HTTP address answers. */
  async start(): Promise<void> {
    const args = ["dev", "--data-dir", join(this.folder, "data"), "--http", `127.0.0.1:${this.port}`, "--grpc", "127.0.0.1:0"];
    const child = spawn(this.program, [...args, "--app-file", join(this.folder, "app")], { stdio: ["ignore", "pipe", "pipe"] });
    this.child = child;
    let said = "";
    child.stderr!.on("data", (data: Buffer) => (said = (said + data.toString()).slice(-20_000)));
    this.port = await new Promise<number>((resolve, reject) => {
      let out = "";
      child.stdout!.on("data", (data: Buffer) => {
        out += data.toString();
        const ready = /is ready.*:(\d+)\s/.exec(out);
        if (ready) resolve(Number(ready[1]));
      });
      child.once("exit", (code) => reject(new Error(`keevod ended with ${code}: ${out}${said}`)));
      setTimeout(() => reject(new Error(`keevod was not ready within a minute: ${out}${said}`)), 60_000).unref();
    });
  }

  /** Ends it without a word, as a crash would. */
  async kill(): Promise<void> {
    const { child } = this;
    if (!child || child.exitCode !== null) return;
    const gone = new Promise((done) => child.once("exit", done));
    child.kill("SIGKILL");
    await gone;
  }

  async remove(): Promise<void> {
    await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** A call of the application's server. */
  async call<T = any>(method: string, path: string, body?: unknown, user?: string): Promise<T> {
    const query = new URLSearchParams({ api_key: KEY, ...(user ? { user_id: user } : {}) });
    const headers = { Authorization: sign({ resource: "*", action: "*" }), "Content-Type": "application/json" };
    const [at, more] = path.split("?") as [string, string?];
    const answer = await fetch(`${this.url}/chat/v1${at}?${query}${more ? `&${more}` : ""}`, { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
    const json: unknown = await answer.json();
    if (!answer.ok) throw new Error(`${method} ${path}: ${JSON.stringify(json)}`);
    return json as T;
  }
}

/** A network to `keevod`: all connections through it can be cut, and new ones refused. */
export class Network {
  private readonly pairs = new Set<[Tcp, Tcp]>();
  private server: Server | null = null;
  up = true;
  port = 0;

  constructor(private readonly to: Keevod) {}

  async start(): Promise<void> {
    this.server = createServer((near) => {
      near.on("error", () => {});
      if (!this.up) return void near.destroy();
      const far = dial(this.to.port, "127.0.0.1");
      const pair: [Tcp, Tcp] = [near, far];
      this.pairs.add(pair);
      const end = () => {
        this.pairs.delete(pair);
        near.destroy();
        far.destroy();
      };
      for (const side of pair) side.on("error", end).on("close", end);
      near.pipe(far).pipe(near);
    });
    await new Promise<void>((done) => this.server!.listen(0, "127.0.0.1", done));
    this.port = (this.server.address() as AddressInfo).port;
  }

  /** Cuts every connection, in the middle of whatever it carries. */
  cut(): void {
    for (const pair of [...this.pairs]) for (const side of pair) side.destroy();
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  stop(): void {
    this.cut();
    this.server?.close();
  }
}

/** A client of `keevod` as a program would make it; failures that nobody waits for are collected. */
export function clientOf(user: string, url: string, options: Partial<ChatOptions> = {}): { client: ChatClient; failures: unknown[] } {
  const client = new ChatClient({
    url,
    apiKey: KEY,
    userId: user,
    token: () => sign({ user_id: user, exp: Math.floor(Date.now() / 1_000) + 3_600 }),
    storage: memoryStorage(),
    env: { socket: (address) => new WebSocket(address) as unknown as Socket },
    ...options,
  });
  const failures: unknown[] = [];
  client.on("error", ({ error }) => failures.push(error));
  return { client, failures };
}

/** Waits until something holds; fails with what was seen last. */
export async function until(what: string, holds: () => unknown, timeout_ms = 30_000): Promise<void> {
  const end = Date.now() + timeout_ms;
  for (;;) {
    let seen: unknown;
    try {
      if (await holds()) return;
    } catch (error) {
      seen = error;
    }
    if (Date.now() > end) throw new Error(`not within ${timeout_ms} ms: ${what}${seen ? `: ${String(seen)}` : ""}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}
