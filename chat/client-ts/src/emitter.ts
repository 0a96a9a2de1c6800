// Typed events.

/** Listeners by event type. A listener that throws disturbs neither the others nor the caller. */
export class Emitter<Events> {
  private readonly listeners = new Map<keyof Events, Set<(event: any) => void>>();

  constructor(private readonly report: (error: unknown) => void) {}

  /** Calls `listener` for each event of the type; gives what ends that. */
  on<Type extends keyof Events>(type: Type, listener: (event: Events[Type]) => void): () => void {
    const set = this.listeners.get(type) ?? new Set();
    this.listeners.set(type, set);
    set.add(listener);
    return () => void set.delete(listener);
  }

  emit<Type extends keyof Events>(type: Type, event: Events[Type]): void {
    for (const listener of [...(this.listeners.get(type) ?? [])]) {
      try {
        listener(event);
      } catch (error) {
        this.report(error);
      }
    }
  }
}

/** A value that changes as a whole: the shape that `useSyncExternalStore` takes. */
export class Store<T> {
  private readonly listeners = new Set<() => void>();

  constructor(
    private value: T,
    private readonly report: (error: unknown) => void,
  ) {}

  readonly get = (): T => this.value;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  };

  /** Replaces the value; the same one tells nobody. */
  set(value: T): void {
    if (value === this.value) return;
    this.value = value;
    for (const listener of [...this.listeners]) {
      try {
        listener();
      } catch (error) {
        this.report(error);
      }
    }
  }
}
