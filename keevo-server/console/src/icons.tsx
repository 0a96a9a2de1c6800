// The few icons of the console, as strokes on a 24 by 24 grid.
const SHAPES = {
  cluster: "M12 4.5a2.5 2.5 0 1 0 0 .01M5 16.5a2.5 2.5 0 1 0 0 .01M19 16.5a2.5 2.5 0 1 0 0 .01M10.9 8.8 6.3 14.4M13.1 8.8l4.6 5.6M7.6 17h8.8",
  metrics: "M3 20h18M4 15l5-6 4 4 7-8",
  keys: "M15 4a5 5 0 1 0 .01 0M11.5 12.5 4 20v1h3l1-2h2l1-2 1.5-1.5M16 8.5h.01",
  feeds: "M4 5h16M4 10h16M4 15h10M4 20h7",
  channels: "M4 5h16v11H10l-5 4v-4H4zM8 9h8M8 12h5",
  moderation: "M12 3l8 3v6c0 5-3.5 8-8 9-4.5-1-8-4-8-9V6zM8.5 12l2.5 2.5 4.5-5",
  audit: "M6 3h9l4 4v14H6zM14 3v5h5M9 12h7M9 16h7",
  apilog: "M4 5h16v14H4zM7 9l3 3-3 3M12 15h5",
  sun: "M12 8a4 4 0 1 0 .01 0M12 2v2M12 20v2M4 12H2M22 12h-2M5 5l1.5 1.5M17.5 17.5 19 19M5 19l1.5-1.5M17.5 6.5 19 5",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5z",
  out: "M10 4H5v16h5M15 8l4 4-4 4M19 12H9",
  refresh: "M20 11a8 8 0 1 0-2 6.5M20 5v6h-6",
  search: "M11 5a6 6 0 1 0 .01 0M15.5 15.5 20 20",
  back: "M11 6l-6 6 6 6M5 12h14",
  alert: "M12 4 2.5 20h19zM12 10v4M12 17h.01",
  empty: "M4 13h4l1.5 3h5L16 13h4M4 13l3-8h10l3 8v6H4z",
} as const;

export type IconName = keyof typeof SHAPES;

export function Icon({ name, size = 20 }: { name: IconName; size?: number }) {
  return (
    <svg
      aria-hidden="true"
      width={size}
      height={size}
      viewBox="0 0 24 24"
      fill="none"
      stroke="currentColor"
      strokeWidth="1.8"
      strokeLinecap="round"
      strokeLinejoin="round"
    >
      <path d={SHAPES[name]} />
    </svg>
  );
}

/** Keevo's mark. */
export function Mark({ size = 28 }: { size?: number }) {
  return (
    <svg aria-hidden="true" width={size} height={size} viewBox="0 0 32 32">
      <rect width="32" height="32" rx="8" fill="var(--mantine-color-teal-8)" />
      <path
        d="M10 7v18M10 17l10-10M13.5 13.7 22 25"
        fill="none"
        stroke="#fff"
        strokeWidth="3.2"
        strokeLinecap="round"
        strokeLinejoin="round"
      />
    </svg>
  );
}
