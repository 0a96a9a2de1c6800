// How the console looks, beyond Mantine's own.
import { createTheme, type MantineColorsTuple } from "@mantine/core";

const slate: MantineColorsTuple = [
  "#e6e9ee",
  "#c9d0d9",
  "#a9b3c0",
  "#8592a3",
  "#5f6c7d",
  "#414c5b",
  "#2f3844",
  "#20272f",
  "#171c23",
  "#0f1318",
];

export const theme = createTheme({
  primaryColor: "teal",
  primaryShade: { light: 8, dark: 7 },
  autoContrast: true,
  defaultRadius: "md",
  cursorType: "pointer",
  colors: { dark: slate },
  fontFamily: 'Inter, system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif',
  fontFamilyMonospace: 'ui-monospace, "JetBrains Mono", "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace',
  headings: { fontWeight: "650", sizes: { h1: { fontSize: "1.5rem", lineHeight: "1.25" }, h2: { fontSize: "1.05rem", lineHeight: "1.4" } } },
});
