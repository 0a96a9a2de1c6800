// How the page asks the node: JSON over fetch, the session in a cookie that no script reads.

/** Why a call was refused, and what to do about it. */
export class Failure extends Error {
  constructor(
    readonly kind: string,
    message: string,
    readonly advice: string,
  ) {
    super(message);
  }
}

export type Params = Record<string, string | number | undefined>;

const OUT = "keevo-logged-out";

/** Calls `then` whenever an answer says that nobody is logged in. Returns what ends that. */
export function whenLoggedOut(then: (failure: Failure) => void): () => void {
  const listen = (event: Event) => then((event as CustomEvent<Failure>).detail);
  window.addEventListener(OUT, listen);
  return () => window.removeEventListener(OUT, listen);
}

function address(path: string, params: Params): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) if (value !== undefined && value !== "") query.set(name, String(value));
  const text = query.toString();
  return `/console/api/${path}${text && `?${text}`}`;
}

async function call<T>(url: string, init: RequestInit): Promise<T> {
  let response: Response;
  try {
    response = await fetch(url, { ...init, credentials: "same-origin", cache: "no-store" });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new Failure("UNREACHABLE", "The node does not answer.", "Check that keevod runs and that this machine reaches it. The page tries again.");
  }
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body as T;
  const { kind = `HTTP_${response.status}`, message = response.statusText, advice = "" } = body.error ?? {};
  const failure = new Failure(kind, message, advice);
  if (response.status === 401) window.dispatchEvent(new CustomEvent(OUT, { detail: failure }));
  throw failure;
}

/** Asks for something. */
export const ask = <T>(path: string, params: Params = {}, signal?: AbortSignal) => call<T>(address(path, params), { signal });

/** Sends something. The header is one that pages of other sites cannot send. */
export const send = <T>(path: string, body: unknown) =>
  call<T>(address(path, {}), {
    method: "POST",
    headers: { "content-type": "application/json", "x-keevo-console": "1" },
    body: JSON.stringify(body),
  });

export interface Session {
  version: string;
  node: number;
  cluster: string | null;
  auth: boolean;
  principal: string;
  role: string | null;
  grants: string[];
  administers: boolean;
  /** Whether it may read the API log. */
  reads_calls: boolean;
}

export interface Storage {
  free_bytes: number;
  low_water_bytes: number;
  disk_full: boolean;
  refusal: string;
  pressure_permille: number;
}

export interface Node {
  id: number;
  address: string;
  reachable: boolean;
  version: string;
  replicas: number;
  leads: number;
  storage: Storage | null;
}

export interface Replica {
  node: number;
  role: string;
  applied?: number;
  committed?: number;
  last_log?: number;
  lag?: number;
  fault: string;
}

export interface Shard {
  id: number;
  range: string;
  start: string;
  end: string;
  leader: number | null;
  term: number | null;
  committed: number;
  replicas: Replica[];
}

export interface Cluster {
  cluster: string;
  map_version: number;
  asked: number;
  nodes: Node[];
  shards: Shard[];
}

export interface Samples {
  node: number;
  every_ms: number;
  columns: string[];
  rows: number[][];
  now: {
    not_ready: string | null;
    replicas: number;
    leads: number;
    free_bytes: number;
    disk_full: boolean;
    refusal: string;
    table_bytes: number | null;
    memtable_bytes: number | null;
    cache_hits: number | null;
    cache_misses: number | null;
    feeds: { jobs_pending: number; lag_ms: number } | null;
  };
}

export interface Keyspace {
  id: number;
  name: string;
  kind: "hashed" | "ordered";
  partition_bytes: number | null;
  layer: boolean;
  whole: boolean;
}

export interface Value {
  bytes: number;
  text: string | null;
  hex: string;
  truncated: boolean;
}

export interface Row {
  partition: string;
  sort: string;
  revision: string;
  expires_at_ms: number | null;
  value: Value;
}

export interface App {
  id: number;
  name: string;
  created_ms: number | null;
  suspended: boolean;
  groups: string[] | null;
  feeds: boolean;
  chat: boolean;
}

export interface Activity {
  id: string;
  actor: string;
  verb: string;
  object: string;
  target: string;
  foreign_id: string;
  time: string;
  origin: string | null;
  to: string[];
  custom: Record<string, unknown>;
}

export interface Message {
  id: string;
  number: number;
  parent_id: string | null;
  user_id: string;
  text: string;
  at_ms: number;
  edited_ms: number | null;
  deleted_ms: number | null;
  pinned: boolean;
  system: boolean;
  silent: boolean;
  shadowed: boolean;
  attachments: number;
  replies: number;
  reactions: Record<string, number>;
  custom: unknown;
}

export interface Channel {
  cid: string;
  created_by: string;
  created_ms: number;
  team: string | null;
  distinct: boolean;
  frozen: boolean;
  disabled: boolean;
  custom: unknown;
  last?: Message;
}

export interface Fragment {
  text: string;
  /** Where it begins in the message's text. */
  start: number;
  ranges: [number, number][];
}

/** A message that a search has found. */
export interface Found {
  cid: string;
  id: string;
  number: number;
  parent_id: string | null;
  user_id: string;
  at_ms: number;
  edited_ms: number | null;
  shadowed: boolean;
  attachments: number;
  fragments: Fragment[];
  /** The beginning of its text, where there are no fragments. */
  text: string | null;
}

export interface Member {
  user_id: string;
  role: string;
  joined_ms: number;
}

export interface Queued {
  id: string;
  kind: string;
  text_id: string;
  scope: string;
  author: string;
  text: string;
  at_ms: number;
  action: string;
  reasons: unknown[];
  scores: Record<string, number>;
  model: string;
  masked: string | null;
  judged_ms: number;
}

export interface Moderation {
  workers: { url: string; in_flight: number; resting: boolean }[];
  verdicts: Record<string, number>;
  pending: number;
  lag_ms: number;
  set_aside: number;
}

/** A call of the API log. */
export interface Call {
  id: string;
  at_ms: number;
  shard: number;
  index: number;
  node: number;
  app: number | null;
  door: string;
  who: string;
  method: string;
  keyspace: string;
  request: string | null;
  request_bytes: number;
  redacted: boolean;
  replayed: boolean;
  erased: boolean;
  failed: string | null;
}

export interface Entry {
  number: number;
  at_ms: number;
  node: number;
  who: string;
  method: string;
  request?: unknown;
  outcome_of?: number;
  outcome?: string;
}
