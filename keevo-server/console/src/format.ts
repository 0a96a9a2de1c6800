// Numbers, sizes, times and keys as people read them.

const numbers = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const days = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const ago = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "long" });

export const count = (value: number) => numbers.format(value);
export const compact = (value: number) => (value < 10_000 ? numbers.format(value) : short.format(value));

export function bytes(value: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let at = 0;
  while (value >= 1_024 && at < units.length - 1) {
    value /= 1_024;
    at += 1;
  }
  return `${value >= 100 || at === 0 ? Math.round(value) : value.toFixed(1)} ${units[at]}`;
}

/** A time in microseconds. */
export function micros(value: number): string {
  if (value < 1_000) return `${Math.round(value)} µs`;
  if (value < 1_000_000) return `${(value / 1_000).toFixed(value < 10_000 ? 1 : 0)} ms`;
  return `${(value / 1_000_000).toFixed(1)} s`;
}

export const date = (ms: number) => days.format(ms);

export function since(ms: number, now = Date.now()): string {
  const seconds = Math.round((ms - now) / 1_000);
  const size = Math.abs(seconds);
  if (size < 45) return "just now";
  if (size < 3_600) return ago.format(Math.round(seconds / 60), "minute");
  if (size < 86_400) return ago.format(Math.round(seconds / 3_600), "hour");
  if (size < 30 * 86_400) return ago.format(Math.round(seconds / 86_400), "day");
  return days.format(ms);
}

/** A piece of a key: text as it reads, or one byte that does not. */
export interface Piece {
  text: string;
  raw: boolean;
}

/** A key as the API writes it, with `\xNN` for bytes, in pieces: what is UTF-8 reads as text. */
export function pieces(key: string): Piece[] {
  const raw: number[] = [];
  for (let at = 0; at < key.length; at += 1) {
    const escaped = key[at] === "\\" && key[at + 1] === "x";
    raw.push(escaped ? Number.parseInt(key.slice(at + 2, at + 4), 16) : key.charCodeAt(at));
    if (escaped) at += 3;
  }
  const found: Piece[] = [];
  const add = (text: string, isRaw: boolean) => {
    const last = found.at(-1);
    if (last && last.raw === isRaw && !isRaw) last.text += text;
    else found.push({ text, raw: isRaw });
  };
  const decoder = new TextDecoder("utf-8", { fatal: true });
  for (let at = 0; at < raw.length; ) {
    const first = raw[at] ?? 0;
    const length = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc2 ? 2 : 1;
    let text = "";
    try {
      text = decoder.decode(new Uint8Array(raw.slice(at, at + length)));
    } catch {
      text = "";
    }
    const visible = text !== "" && !/[\p{Cc}\p{Cf}\p{Co}\p{Cn}]/u.test(text);
    if (visible) add(text, false);
    else add(first.toString(16).padStart(2, "0"), true);
    at += visible ? length : 1;
  }
  return found;
}

/** Hexadecimal digits as the classic dump: offset, bytes, characters. */
export function dump(hex: string): string {
  const lines: string[] = [];
  for (let at = 0; at < hex.length; at += 32) {
    const pairs = hex.slice(at, at + 32).match(/../g) ?? [];
    const shown = pairs.map((pair) => {
      const byte = Number.parseInt(pair, 16);
      return byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : "·";
    });
    lines.push(`${(at / 2).toString(16).padStart(6, "0")}  ${pairs.join(" ").padEnd(47)}  ${shown.join("")}`);
  }
  return lines.join("\n");
}

/** The text as indented JSON, where it is JSON. */
export function asJson(text: string): string | undefined {
  if (!/^\s*[[{]/.test(text)) return undefined;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return undefined;
  }
}
