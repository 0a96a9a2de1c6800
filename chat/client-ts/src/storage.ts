// Where what waits to be sent outlives the page.

type Awaitable<T> = T | Promise<T>;

/** Texts by key. Each entry of the queue is one key, so that two tabs of a user do not undo each other's. */
export interface ChatStorage {
  /** All entries whose key begins with `prefix`. */
  entries(prefix: string): Awaitable<[key: string, value: string][]>;
  set(key: string, value: string): Awaitable<void>;
  delete(key: string): Awaitable<void>;
}

/** Storage that lasts as long as the program. */
export function memoryStorage(): ChatStorage {
  const map = new Map<string, string>();
  return {
    entries: (prefix) => [...map].filter(([key]) => key.startsWith(prefix)),
    set: (key, value) => void map.set(key, value),
    delete: (key) => void map.delete(key),
  };
}

/** Storage in `localStorage`, or another of its kind. */
export function webStorage(storage: Storage = localStorage): ChatStorage {
  return {
    entries(prefix) {
      const found: [string, string][] = [];
      for (let index = 0; index < storage.length; index += 1) {
        const key = storage.key(index);
        if (key?.startsWith(prefix)) found.push([key, storage.getItem(key) ?? ""]);
      }
      return found;
    },
    set: (key, value) => storage.setItem(key, value),
    delete: (key) => storage.removeItem(key),
  };
}
