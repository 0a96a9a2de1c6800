// Reads that follow events: one at a time for each thing, a few at once, however many events ask.

import { backoffMs, type ChatEnv } from "./env.js";
import { asChatError, type ChatError } from "./errors.js";

const AT_ONCE = 4;

interface Task {
  run: () => Promise<void>;
  timer: unknown;
  running: boolean;
  /** Asked for again while it ran: what it read may be from before. */
  again: boolean;
  attempt: number;
}

/** Runs tasks by key. A task that was asked for is run after the last time it was asked for, at least once. */
export class Refresher {
  private readonly tasks = new Map<string, Task>();
  private readonly ready: string[] = [];
  private running = 0;

  constructor(
    private readonly env: ChatEnv,
    private readonly failed: (error: ChatError) => void,
  ) {}

  get size(): number {
    return this.tasks.size;
  }

  /** Has `run` called after a delay of at least `delay_ms` and less than twice that. What is planned is not put off. */
  ask(key: string, delay_ms: number, run: () => Promise<void>): void {
    const task = this.tasks.get(key);
    if (task) {
      task.run = run;
      if (task.running) task.again = true;
      return;
    }
    const made: Task = { run, timer: null, running: false, again: false, attempt: 0 };
    this.tasks.set(key, made);
    this.plan(key, made, delay_ms * (1 + this.env.random()));
  }

  /** Forgets what is planned under keys that begin with `prefix`. */
  clear(prefix: string): void {
    for (const [key, task] of this.tasks) {
      if (!key.startsWith(prefix)) continue;
      this.env.clearTimeout(task.timer);
      this.tasks.delete(key);
    }
  }

  private plan(key: string, task: Task, delay_ms: number): void {
    task.timer = this.env.setTimeout(() => {
      this.ready.push(key);
      this.next();
    }, delay_ms);
  }

  private next(): void {
    while (this.running < AT_ONCE && this.ready.length > 0) {
      const key = this.ready.shift()!;
      const task = this.tasks.get(key);
      if (task && !task.running) void this.start(key, task);
    }
  }

  private async start(key: string, task: Task): Promise<void> {
    this.running += 1;
    task.running = true;
    task.again = false;
    let failure: ChatError | null = null;
    try {
      await task.run();
    } catch (error) {
      failure = asChatError(error);
    }
    this.running -= 1;
    task.running = false;
    if (this.tasks.get(key) === task) {
      if (failure?.isTransient) {
        this.plan(key, task, backoffMs(this.env, task.attempt++));
      } else if (task.again) {
        task.attempt = 0;
        this.plan(key, task, 100);
      } else {
        this.tasks.delete(key);
        if (failure) this.failed(failure);
      }
    }
    this.next();
  }
}
