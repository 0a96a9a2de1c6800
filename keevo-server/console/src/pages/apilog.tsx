// The tail of the API log: the newest calls that changed data, as they come.
import { Group, SegmentedControl, Stack, Switch, Table, Text } from "@mantine/core";
import { useState } from "react";
import type { Call } from "../api";
import { bytes } from "../format";
import { useAsk } from "../hooks";
import { Card, Empty, Head, Refused, State, Tag, Waiting, When } from "../parts";
import { useRoute, useSet } from "../route";
import { Search } from "./keys";

interface Tail {
  calls: Call[];
  more: boolean;
  shards: number;
  entries_max: number;
}

const EVERY_MS = 3_000;

export function ApiLogPage() {
  const { params } = useRoute();
  const set = useSet();
  const text = params.get("text") ?? "";
  const failed = params.get("failed") === "true";
  const [live, setLive] = useState(true);
  const { data, failure, loading, again } = useAsk<Tail>("apilog", { text, failed: failed ? "true" : undefined, limit: 100 }, live ? EVERY_MS : undefined);
  return (
    <>
      <Head title="API log" about="The newest calls that changed data, whatever door they came through. Secrets are taken out before a call is written down.">
        <Switch label="Live" checked={live} onChange={(event) => setLive(event.currentTarget.checked)} />
      </Head>
      <Stack gap="md">
        <Group align="flex-end" gap="sm">
          <Search label="Method, caller or request with" placeholder="AddActivity" value={text} submit={(text) => set("apilog", { text, failed: failed ? "true" : undefined })} />
          <SegmentedControl
            aria-label="Which calls are shown"
            data={[
              { value: "", label: "All" },
              { value: "true", label: "Failed" },
            ]}
            value={failed ? "true" : ""}
            onChange={(failed) => set("apilog", { text, failed })}
          />
        </Group>
        {failure && <Refused failure={failure} again={again} />}
        <Card padded={false}>
          {data && data.calls.length > 0 && <Calls calls={data.calls} />}
          {loading && <Waiting what="the log" />}
          {data?.calls.length === 0 && (
            <Empty icon="apilog" title={text || failed ? "No call is like that" : "No call has changed anything lately"}>
              {text || failed ? "Another text, or all calls, may show some." : "The next write of a program will stand here."}
            </Empty>
          )}
        </Card>
        {data && (
          <Text size="xs" c="dimmed">
            The last {data.entries_max} entries of each of the {data.shards} shards of this node. <code>keevo-cli apilog search</code> reads whole logs and their archive.
          </Text>
        )}
      </Stack>
    </>
  );
}

function Calls({ calls }: { calls: Call[] }) {
  return (
    <Table.ScrollContainer minWidth={760}>
      <Table verticalSpacing={8} horizontalSpacing="md" className="keevo-table">
        <Table.Thead>
          <Table.Tr>
            <Table.Th scope="col">Call</Table.Th>
            <Table.Th scope="col">Outcome</Table.Th>
            <Table.Th scope="col">Who</Table.Th>
            <Table.Th scope="col">When</Table.Th>
            <Table.Th scope="col">Where</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {calls.map((call) => (
            <Row key={call.id} call={call} />
          ))}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}

function Row({ call }: { call: Call }) {
  const of = call.app === null ? call.keyspace || "keys and values" : `app ${call.app}`;
  return (
    <Table.Tr>
      <Table.Td maw={460}>
        <Text size="sm" fw={600} className="keevo-text">
          {call.method}
        </Text>
        {call.request ? (
          <Text size="xs" className="keevo-key" lineClamp={3}>
            {call.request}
          </Text>
        ) : (
          <Text size="xs" c="dimmed">
            {call.erased ? "erased with its user" : bytes(call.request_bytes)}
          </Text>
        )}
        <Group gap={6} mt={2}>
          {call.redacted && <Tag>without secrets</Tag>}
          {call.replayed && <Tag color="blue">replayed</Tag>}
        </Group>
      </Table.Td>
      <Table.Td>{call.failed === null ? <State tone="good">done</State> : <State tone="bad">{call.failed.toLowerCase().replaceAll("_", " ")}</State>}</Table.Td>
      <Table.Td>
        <Text size="sm" className="keevo-text">
          {call.who}
        </Text>
        <Text size="xs" c="dimmed">
          {of}
        </Text>
      </Table.Td>
      <Table.Td style={{ whiteSpace: "nowrap" }}>
        <When ms={call.at_ms} />
      </Table.Td>
      <Table.Td>
        <Text size="sm" style={{ whiteSpace: "nowrap" }}>
          shard {call.shard}, {call.index}
        </Text>
        <Text size="xs" c="dimmed">
          {call.door}, node {call.node}
        </Text>
      </Table.Td>
    </Table.Tr>
  );
}
