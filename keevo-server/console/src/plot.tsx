// A plot over time, drawn by uPlot: one axis, a legend that says the newest values, cursors that move together.
import { Text, useComputedColorScheme } from "@mantine/core";
import { useEffect, useMemo, useRef } from "react";
import uPlot from "uplot";
import { Card } from "./parts";

export interface Line {
  name: string;
  /** A custom property that holds the colour. */
  color: string;
  dash?: boolean;
  /** `null` = nothing was measured then. */
  values: (number | null)[];
}

interface Props {
  title: string;
  /** Seconds since 1970. */
  times: number[];
  lines: Line[];
  format: (value: number) => string;
  /** How many seconds the axis shows. */
  seconds: number;
  /** What the axis reaches at least. */
  least: number;
}

const HEIGHT = 200;
const shownAs = (value: number | null | undefined, format: (value: number) => string) => (value === null || value === undefined ? "–" : format(value));
const css = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export function Plot({ title, times, lines, format, seconds, least }: Props) {
  const scheme = useComputedColorScheme("light", { getInitialValueInEffect: false });
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(null);
  const shape = lines.map((line) => `${line.name}${line.color}${line.dash}`).join();
  const data = useMemo<uPlot.AlignedData>(() => [times, ...lines.map((line) => line.values)], [times, lines]);
  const latest = useRef(data);
  latest.current = data;

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const axis = { stroke: css("--keevo-axis"), grid: { stroke: css("--keevo-grid"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    const made = new uPlot(
      {
        width: element.clientWidth,
        height: HEIGHT,
        padding: [8, 4, 0, 0],
        legend: { show: false },
        cursor: { sync: { key: "metrics" }, drag: { x: false, y: false }, points: { size: 7 } },
        scales: {
          x: { range: (_plot, _min, max) => [max - seconds, max] },
          y: { range: (_plot, _min, max) => [0, Math.max(least, (max ?? 0) * 1.15)] },
        },
        axes: [
          { ...axis, size: 28, space: 70, values: [[60, "{HH}:{mm}", null, null, null, null, null, null, 1], [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1]] },
          { ...axis, size: 64, space: 36, values: (_plot, splits) => splits.map((split) => format(split)) },
        ],
        series: [
          {},
          ...lines.map((line) => ({
            label: line.name,
            stroke: css(line.color),
            width: 2,
            dash: line.dash ? [6, 4] : undefined,
            fill: line.dash || lines.length > 2 ? undefined : `color-mix(in srgb, ${css(line.color)} 10%, transparent)`,
            points: { show: false },
            spanGaps: true,
          })),
        ],
        hooks: {
          setCursor: [
            (plot) => {
              const at = plot.cursor.idx;
              const shown = box.current?.parentElement?.querySelectorAll("[data-value]") ?? [];
              shown.forEach((place, index) => {
                const values = latest.current[index + 1] as (number | null)[] | undefined;
                const value = at === null || at === undefined ? values?.at(-1) : values?.[at];
                place.textContent = shownAs(value, format);
              });
            },
          ],
        },
      },
      latest.current,
      element,
    );
    plot.current = made;
    const watch = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT }));
    watch.observe(element);
    return () => {
      watch.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [scheme, shape, seconds, least]);

  useEffect(() => plot.current?.setData(data), [data]);

  const said = lines.map((line) => `${line.name} ${shownAs(line.values.at(-1), format)}`).join(", ");
  return (
    <Card title={title}>
      <div className="keevo-legend">
        {lines.map((line) => (
          <Text component="span" size="sm" c="dimmed" key={line.name}>
            <span className="keevo-swatch" data-dash={line.dash} style={{ borderColor: `var(${line.color})` }} />
            {line.name} <Text component="b" size="sm" c="var(--mantine-color-text)" data-value>{shownAs(line.values.at(-1), format)}</Text>
          </Text>
        ))}
      </div>
      <div ref={box} className="keevo-plot" role="img" aria-label={`${title}, now: ${said}`} />
    </Card>
  );
}
