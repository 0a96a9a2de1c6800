// Where the page is: `#/PAGE?NAME=VALUE`, so that every view has an address and the back button works.
import { useCallback, useSyncExternalStore } from "react";

export interface Route {
  page: string;
  params: URLSearchParams;
}

const listeners = new Set<() => void>();

// One listener tells all: with one each, a page that is about to be left would first be drawn with the address of the next.
window.addEventListener("hashchange", () => [...listeners].forEach((then) => then()));

function listen(then: () => void) {
  listeners.add(then);
  return () => void listeners.delete(then);
}

/** The address of a page. */
export function href(page: string, params: Record<string, string | number | undefined> = {}): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) if (value !== undefined && value !== "") query.set(name, String(value));
  const text = query.toString();
  return `#/${page}${text && `?${text}`}`;
}

export function useRoute(): Route {
  const hash = useSyncExternalStore(listen, () => window.location.hash);
  const [page = "", query = ""] = hash.replace(/^#\/?/, "").split("?");
  return { page, params: new URLSearchParams(query) };
}

/** Changes parameters of the present page; `undefined` takes one out. */
export function useSet(): (page: string, params: Record<string, string | number | undefined>) => void {
  return useCallback((page, params) => {
    window.location.hash = href(page, params);
  }, []);
}
