// Live metrics of the node that serves the page: the last quarter of an hour.
import { Alert, SegmentedControl, SimpleGrid, Stack } from "@mantine/core";
import { useEffect, useMemo, useState } from "react";
import type { Samples } from "../api";
import { bytes, compact, count, micros } from "../format";
import { useAsk } from "../hooks";
import { Empty, Head, Refused, State, Tile, Waiting } from "../parts";
import { Icon } from "../icons";
import { Plot } from "../plot";

const EVERY_MS = 2_000;
const ROWS_MAX = 450;

/** The samples so far, fetched bit by bit. */
function useSamples() {
  const [rows, setRows] = useState<number[][]>([]);
  const newest = rows.at(-1)?.[0] ?? 0;
  // A new parameter each time would start the polling anew: only the first answer is asked for whole.
  const [after, setAfter] = useState(0);
  const asked = useAsk<Samples>("metrics", { after }, EVERY_MS);
  useEffect(() => {
    if (!asked.data) return;
    const fresh = asked.data.rows.filter((row) => (row[0] ?? 0) > newest);
    if (fresh.length > 0) setRows([...rows, ...fresh].slice(-ROWS_MAX));
  }, [asked.data]);
  // Now and then the start moves on, so that answers stay small.
  useEffect(() => {
    if (newest - after > 60_000) setAfter(newest);
  }, [newest]);
  const [last, setLast] = useState<Samples>();
  useEffect(() => void (asked.data && setLast(asked.data)), [asked.data]);
  return { rows, last: asked.data ?? last, failure: asked.failure, again: asked.again };
}

export function MetricsPage() {
  const { rows, last, failure, again } = useSamples();
  const [minutes, setMinutes] = useState("5");
  const columns = useMemo(() => {
    const names = last?.columns ?? [];
    return Object.fromEntries(names.map((name, at) => [name, rows.map((row) => row[at] ?? 0)])) as Record<string, number[]>;
  }, [rows, last?.columns]);
  const times = useMemo(() => (columns["at_ms"] ?? []).map((ms) => ms / 1_000), [columns]);
  const of = (name: string) => columns[name] ?? [];
  const spans = of("span_ms");
  /** What was counted, as a rate a second. */
  const rates = (name: string) => of(name).map((value, at) => (value * 1_000) / (spans[at] || 1));
  /** Times, with gaps where there were no calls. */
  const timesOf = (name: string, calls: string) => of(name).map((value, at) => (of(calls)[at] ? value : null));
  const now = (name: string) => rates(name).at(-1) ?? 0;
  const p99 = (name: string, calls: string) => {
    const last = timesOf(name, calls).at(-1);
    return last === null || last === undefined ? "no calls now" : `p99 ${micros(last)}`;
  };
  const shared = { times, seconds: Number(minutes) * 60 };
  const hits = last?.now.cache_hits ?? 0;
  const looked = hits + (last?.now.cache_misses ?? 0);
  const reads = "--keevo-reads";
  const writes = "--keevo-writes";
  return (
    <>
      <Head title="Live metrics" about={`What node ${last?.node ?? "…"} serves, over gRPC and HTTP. Other nodes have consoles of their own; Prometheus finds all of it at /metrics.`}>
        <SegmentedControl
          aria-label="How much time the plots show"
          value={minutes}
          onChange={setMinutes}
          data={[
            { value: "1", label: "1 min" },
            { value: "5", label: "5 min" },
            { value: "15", label: "15 min" },
          ]}
        />
      </Head>
      <Stack gap="md">
        {failure && <Refused failure={failure} again={again} />}
        {!last && !failure && <Waiting what="metrics" />}
        {last && (
          <>
            {(last.now.not_ready || last.now.refusal) && (
              <Alert color="orange" variant="light" icon={<Icon name="alert" />} title={last.now.refusal || "The node takes no traffic yet"}>
                {last.now.not_ready ?? "Reads go on; writes are taken again when the cause is gone."}
              </Alert>
            )}
            <SimpleGrid cols={{ base: 2, sm: 3, lg: 6 }} spacing="sm">
              <Tile name="Reads" value={`${compact(now("reads"))}/s`} hint={p99("read_p99_us", "reads")} />
              <Tile name="Writes" value={`${compact(now("writes"))}/s`} hint={p99("write_p99_us", "writes")} />
              <Tile name="Errors" value={`${compact(now("errors"))}/s`} hint="refusals included" bad={now("errors") > 0} />
              <Tile name="Replicas here" value={count(last.now.replicas)} hint={`${last.now.leads} lead their shard`} />
              <Tile name="On disk" value={bytes(last.now.table_bytes ?? 0)} hint={`${bytes(last.now.free_bytes)} free`} bad={last.now.disk_full} />
              <Tile name="Cache hits" value={looked > 0 ? `${Math.round((hits / looked) * 100)} %` : "–"} hint={`${compact(looked)} look-ups`} />
            </SimpleGrid>
            {rows.length === 0 ? (
              <Empty icon="metrics" title="The first sample is on its way">
                The node takes one every two seconds.
              </Empty>
            ) : (
              <SimpleGrid cols={{ base: 1, lg: 2 }} spacing="md">
                <Plot {...shared} title="Throughput" format={(value) => `${compact(value)}/s`} least={10}
                  lines={[{ name: "reads", color: reads, values: rates("reads") }, { name: "writes", color: writes, values: rates("writes") }]} />
                <Plot {...shared} title="Applied entries, all replicas here" format={(value) => `${compact(value)}/s`} least={10}
                  lines={[{ name: "entries", color: "--keevo-third", values: rates("applied") }]} />
                <Plot {...shared} title="Read latency" format={micros} least={1_000}
                  lines={[{ name: "p50", color: reads, values: timesOf("read_p50_us", "reads") }, { name: "p99", color: reads, dash: true, values: timesOf("read_p99_us", "reads") }]} />
                <Plot {...shared} title="Write latency" format={micros} least={1_000}
                  lines={[{ name: "p50", color: writes, values: timesOf("write_p50_us", "writes") }, { name: "p99", color: writes, dash: true, values: timesOf("write_p99_us", "writes") }]} />
                <Plot {...shared} title="Written to the log" format={(value) => `${bytes(value)}/s`} least={4_096}
                  lines={[{ name: "bytes", color: "--keevo-third", values: rates("log_bytes") }]} />
                <Plot {...shared} title="Errors" format={(value) => `${compact(value)}/s`} least={5}
                  lines={[{ name: "errors", color: "--keevo-bad", values: rates("errors") }]} />
              </SimpleGrid>
            )}
            {last.now.feeds && (
              <State tone={last.now.feeds.lag_ms > 10_000 ? "warn" : "good"}>
                {count(last.now.feeds.jobs_pending)} jobs of feeds wait, the oldest for {count(Math.round(last.now.feeds.lag_ms / 1_000))} s
              </State>
            )}
          </>
        )}
      </Stack>
    </>
  );
}
