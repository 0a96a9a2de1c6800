// Asking from components: once, again and again, or page by page.
import { useCallback, useEffect, useRef, useState } from "react";
import { ask, Failure, type Params } from "./api";

export interface Asked<T> {
  data?: T;
  failure?: Failure;
  loading: boolean;
  /** Asks again now. */
  again: () => void;
}

const asFailure = (error: unknown) =>
  error instanceof Failure ? error : new Failure("PAGE", String(error), "Load the page again.");

/**
 * Asks for `path`, unless it is null, and again every `everyMs`. What was known stays shown while a later call fails; a page
 * that nobody looks at asks nothing.
 */
export function useAsk<T>(path: string | null, params: Params = {}, everyMs?: number): Asked<T> {
  const key = `${path}?${JSON.stringify(params)}`;
  const [state, setState] = useState<{ key: string; data?: T; failure?: Failure }>({ key: "" });
  const [round, setRound] = useState(0);
  useEffect(() => {
    if (path === null) return;
    const stop = new AbortController();
    let timer: number | undefined;
    const run = async () => {
      if (!document.hidden) {
        try {
          const data = await ask<T>(path, params, stop.signal);
          if (!stop.signal.aborted) setState({ key, data });
        } catch (error) {
          if (stop.signal.aborted) return;
          setState((before) => ({ key, data: before.key === key ? before.data : undefined, failure: asFailure(error) }));
        }
      }
      if (everyMs && !stop.signal.aborted) timer = window.setTimeout(run, everyMs);
    };
    void run();
    return () => {
      stop.abort();
      window.clearTimeout(timer);
    };
  }, [key, everyMs, round]);
  const mine = state.key === key;
  const again = useCallback(() => setRound((round) => round + 1), []);
  return {
    data: mine ? state.data : undefined,
    failure: mine ? state.failure : undefined,
    loading: path !== null && !(mine && (state.data || state.failure)),
    again,
  };
}

export interface Pages<T, P> {
  items: T[];
  /** The newest page as it came. */
  page?: P;
  more?: () => void;
  loading: boolean;
  failure?: Failure;
  again: () => void;
  /** Takes an item out of what is shown. */
  drop: (gone: (item: T) => boolean) => void;
}

/** The most pages without an item that are asked for by one step. */
const EMPTY_PAGES_MAX = 12;

/**
 * Lists page by page: `list` names the items in the answer, `cursor` the parameter that takes its `next`; the first page has
 * `first` in it.
 */
export function usePages<T, P extends { next: string | number | null }>(
  path: string | null,
  params: Params,
  list: keyof P & string,
  cursor: string,
  first?: string | number,
): Pages<T, P> {
  const key = `${path}?${JSON.stringify({ ...params, [cursor]: first })}`;
  const empty = { key, items: [] as T[], next: undefined as string | number | null | undefined };
  const [state, setState] = useState<typeof empty & { page?: P; failure?: Failure }>(empty);
  const [busy, setBusy] = useState(false);
  const stop = useRef<AbortController>(null);

  const load = useCallback(
    async (from: string | number | undefined, before: T[]) => {
      if (path === null) return;
      stop.current?.abort();
      const mine = new AbortController();
      stop.current = mine;
      setBusy(true);
      try {
        let next: string | number | null | undefined = from;
        let page: P;
        let found: T[] = [];
        let rounds = 0;
        do {
          page = await ask<P>(path, { ...params, [cursor]: next ?? undefined }, mine.signal);
          found = page[list] as T[];
          next = page.next;
          rounds += 1;
        } while (found.length === 0 && next !== null && rounds < EMPTY_PAGES_MAX);
        if (!mine.signal.aborted) setState({ key, items: [...before, ...found], next, page });
      } catch (error) {
        if (!mine.signal.aborted) setState({ key, items: before, next: from, failure: asFailure(error) });
      } finally {
        if (!mine.signal.aborted) setBusy(false);
      }
    },
    [key],
  );

  useEffect(() => {
    void load(first, []);
    return () => stop.current?.abort();
  }, [load]);

  const mine = state.key === key ? state : empty;
  const next = mine.next;
  const known = state.key === key && (state.page !== undefined || state.failure !== undefined);
  return {
    items: mine.items,
    page: state.key === key ? state.page : undefined,
    failure: state.key === key ? state.failure : undefined,
    loading: path !== null && (busy || !known),
    more: next !== null && next !== undefined ? () => void load(next, mine.items) : undefined,
    again: () => void load(first, []),
    drop: (gone) => setState((before) => ({ ...before, items: before.items.filter((item) => !gone(item)) })),
  };
}
