// The key browser: keyspaces, the partitions of one, the rows of a partition, one value. It reads and never writes.
import { Anchor, Button, CopyButton, Drawer, Group, Progress, SegmentedControl, Stack, Table, Text, TextInput } from "@mantine/core";
import { useEffect, useState, type FormEvent, type ReactNode } from "react";
import type { Keyspace, Row } from "../api";
import { asJson, bytes, dump } from "../format";
import { useAsk, usePages } from "../hooks";
import { Icon } from "../icons";
import { BackTo, Card, Empty, Head, KeyText, More, Refused, Tag, Waiting, When } from "../parts";
import { href, useRoute, useSet } from "../route";

interface KeyspacePage {
  keyspaces: Keyspace[];
  next: number | null;
}

interface PartitionPage {
  partitions: string[];
  next: string | null;
  done_permille: number;
}

interface RowPage {
  rows: Row[];
  next: string | null;
}

export function KeysPage() {
  const { params } = useRoute();
  const keyspace = params.get("keyspace");
  const spaces = usePages<Keyspace, KeyspacePage>("keyspaces", {}, "keyspaces", "after");
  const found = spaces.items.find((one) => one.name === keyspace);
  const partition = params.get("partition");
  const prefix = params.get("prefix") ?? "";
  let body: ReactNode;
  if (!keyspace) body = <Keyspaces spaces={spaces} />;
  else if (found?.kind === "ordered" || partition !== null) body = <Rows key={`${keyspace}/${partition}`} keyspace={keyspace} partition={partition} prefix={prefix} />;
  else if (found) body = <Partitions keyspace={found} prefix={prefix} />;
  else if (spaces.loading) body = <Waiting what="keyspaces" />;
  else if (spaces.failure) body = <Refused failure={spaces.failure} again={spaces.again} />;
  else body = <Empty icon="keys" title={`There is no keyspace ${keyspace}`}>Or your role may not know of it. <Anchor href={href("keys")}>See which there are.</Anchor></Empty>;
  return (
    <>
      <Head title="Keys" about="Look around in what is stored. Nothing can be changed here. Bytes that are no text are shown as two digits, and written \xNN in the search." />
      {keyspace && (
        <Group gap={6} mb="sm" className="keevo-crumbs">
          <BackTo href={partition !== null && found?.kind !== "ordered" ? href("keys", { keyspace }) : href("keys")}>{partition !== null && found?.kind !== "ordered" ? keyspace : "All keyspaces"}</BackTo>
        </Group>
      )}
      {body}
    </>
  );
}

function Keyspaces({ spaces }: { spaces: ReturnType<typeof usePages<Keyspace, KeyspacePage>> }) {
  if (spaces.loading && spaces.items.length === 0) return <Waiting what="keyspaces" />;
  if (!spaces.loading && !spaces.failure && spaces.items.length === 0) {
    return (
      <Card>
        <Empty icon="keys" title="There are no keyspaces that you may see">
          A program makes one when it first opens it, for instance <code>keevo-cli kv put user/alice Alice --keyspace people</code>. If there should be some, your key's role lacks a grant such as <code>read kv:orders</code>.
        </Empty>
      </Card>
    );
  }
  return (
    <Card padded={false} title="Keyspaces">
      {spaces.items.map((one) => (
        <a key={one.id} href={href("keys", { keyspace: one.name })} className="keevo-rowlink">
          <Group justify="space-between" gap="sm">
            <Text fw={600} className="keevo-key">
              {one.name}
            </Text>
            <Group gap={6}>
              {one.layer && <Tag color="teal">typed layer</Tag>}
              <Tag>{one.kind === "ordered" ? `ordered, partitions of ${one.partition_bytes} bytes` : "hashed"}</Tag>
              {!one.whole && <Tag color="orange">in part</Tag>}
            </Group>
          </Group>
        </a>
      ))}
      <More more={spaces.more} loading={spaces.loading} failure={spaces.failure} what="keyspaces" />
    </Card>
  );
}

/** A box to narrow a list down by its beginning. */
export function Search({ label, value, placeholder, submit }: { label: string; value: string; placeholder: string; submit: (value: string) => void }) {
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  const send = (event: FormEvent) => {
    event.preventDefault();
    submit(text);
  };
  return (
    <form onSubmit={send} role="search">
      <Group gap="xs" align="flex-end" wrap="nowrap">
        <TextInput label={label} placeholder={placeholder} value={text} onChange={(event) => setText(event.currentTarget.value)} leftSection={<Icon name="search" size={16} />} flex={1} maw={420} autoCapitalize="off" autoCorrect="off" spellCheck={false} />
        <Button type="submit" variant="default">
          Show
        </Button>
      </Group>
    </form>
  );
}

function Partitions({ keyspace, prefix }: { keyspace: Keyspace; prefix: string }) {
  const set = useSet();
  const list = usePages<string, PartitionPage>("partitions", { keyspace: keyspace.name, prefix }, "partitions", "after");
  return (
    <Stack gap="md">
      <Search label="Partitions that begin with" placeholder="user:" value={prefix} submit={(prefix) => set("keys", { keyspace: keyspace.name, prefix })} />
      <Card padded={false} title={<span className="keevo-key">{keyspace.name}</span>} aside={<Text size="xs" c="dimmed">as this node has them, by hash</Text>}>
        {list.items.map((one) => (
          <a key={one} href={href("keys", { keyspace: keyspace.name, partition: one })} className="keevo-rowlink">
            <KeyText value={one} />
          </a>
        ))}
        {list.loading && list.items.length === 0 && <Waiting what="partitions" />}
        {!list.loading && !list.failure && list.items.length === 0 && (
          <Empty icon="keys" title={list.more ? "None so far" : prefix ? "No partition begins so" : "The keyspace is empty here"}>
            {list.more ? `${((list.page?.done_permille ?? 0) / 10).toFixed(0)} % of the keyspace were looked at.` : prefix ? "Shorten the text, or leave it out to see all." : "Nothing was written to it yet, or its shards have no replica on this node."}
          </Empty>
        )}
        {list.more && list.page && <Progress value={list.page.done_permille / 10} size={3} radius={0} aria-label="How much of the keyspace was looked at" />}
        <More more={list.more} loading={list.loading} failure={list.failure} what="partitions" />
      </Card>
    </Stack>
  );
}

function Rows({ keyspace, partition, prefix }: { keyspace: string; partition: string | null; prefix: string }) {
  const set = useSet();
  const list = usePages<Row, RowPage>("rows", { keyspace, partition: partition ?? undefined, prefix }, "rows", "after");
  const [shown, setShown] = useState<Row>();
  return (
    <Stack gap="md">
      <Search label={partition === null ? "Keys that begin with" : "Sort keys that begin with"} placeholder="" value={prefix} submit={(prefix) => set("keys", { keyspace, partition: partition ?? undefined, prefix })} />
      <Card padded={false} title={partition === null ? <span className="keevo-key">{keyspace}</span> : <KeyText value={partition} />}>
        {list.items.length > 0 && (
          <Table.ScrollContainer minWidth={620}>
            <Table verticalSpacing={8} horizontalSpacing="md" className="keevo-table" layout="fixed">
              <Table.Thead>
                <Table.Tr>
                  <Table.Th scope="col" w="34%">{partition === null ? "Partition, sort key" : "Sort key"}</Table.Th>
                  <Table.Th scope="col">Value</Table.Th>
                  <Table.Th scope="col" w={96}>Size</Table.Th>
                  <Table.Th scope="col" w={120}>Expires</Table.Th>
                </Table.Tr>
              </Table.Thead>
              <Table.Tbody>
                {list.items.map((row) => (
                  <Table.Tr key={`${row.partition} ${row.sort}`}>
                    <Table.Td>
                      <Anchor component="button" type="button" ta="left" onClick={() => setShown(row)}>
                        {partition === null && <><KeyText value={row.partition} /> </>}
                        <KeyText value={row.sort} />
                      </Anchor>
                    </Table.Td>
                    <Table.Td>
                      <Text size="sm" truncate className="keevo-key" c={row.value.text === null ? "dimmed" : undefined}>
                        {row.value.bytes === 0 ? "(empty)" : (row.value.text ?? row.value.hex.replace(/(..)/g, "$1 "))}
                      </Text>
                    </Table.Td>
                    <Table.Td>{bytes(row.value.bytes)}</Table.Td>
                    <Table.Td>{row.expires_at_ms ? <When ms={row.expires_at_ms} /> : "never"}</Table.Td>
                  </Table.Tr>
                ))}
              </Table.Tbody>
            </Table>
          </Table.ScrollContainer>
        )}
        {list.loading && list.items.length === 0 && <Waiting what="rows" />}
        {!list.loading && !list.failure && list.items.length === 0 && (
          <Empty icon="keys" title="There are no rows">{prefix ? "None begins so: shorten the text, or leave it out." : "They were removed, or have expired."}</Empty>
        )}
        <More more={list.more} loading={list.loading} failure={list.failure} what="rows" />
      </Card>
      <Drawer opened={shown !== undefined} onClose={() => setShown(undefined)} position="right" size="lg" title="Row" closeButtonProps={{ "aria-label": "Close" }}>
        {shown && <OneRow keyspace={keyspace} row={shown} />}
      </Drawer>
    </Stack>
  );
}

function OneRow({ keyspace, row }: { keyspace: string; row: Row }) {
  const { data, failure, loading, again } = useAsk<Row>("value", { keyspace, partition: row.partition, sort: row.sort });
  const json = data?.value.text ? asJson(data.value.text) : undefined;
  const [chosen, setChosen] = useState<string>();
  if (failure) return <Refused failure={failure} again={again} />;
  if (loading || !data) return <Waiting what="the value" />;
  const ways = [...(json ? ["JSON"] : []), ...(data.value.text !== null ? ["Text"] : []), "Bytes"];
  const way = chosen && ways.includes(chosen) ? chosen : (ways[0] ?? "Bytes");
  const text = way === "JSON" ? (json ?? "") : way === "Text" ? (data.value.text ?? "") : dump(data.value.hex);
  const facts: [string, ReactNode][] = [
    ["Partition", <KeyText key="p" value={data.partition} />],
    ["Sort key", <KeyText key="s" value={data.sort} />],
    ["Revision", data.revision],
    ["Size", bytes(data.value.bytes)],
    ["Expires", data.expires_at_ms ? <When key="e" ms={data.expires_at_ms} /> : "never"],
  ];
  return (
    <Stack gap="md">
      <Table verticalSpacing={4} horizontalSpacing={0} withRowBorders={false} className="keevo-table">
        <Table.Tbody>
          {facts.map(([name, value]) => (
            <Table.Tr key={name}>
              <Table.Th scope="row" w={90}>{name}</Table.Th>
              <Table.Td>{value}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
      <Group justify="space-between">
        <SegmentedControl aria-label="How the value is shown" data={ways} value={way} onChange={setChosen} />
        <CopyButton value={text}>
          {({ copied, copy }) => (
            <Button variant="default" size="xs" onClick={copy}>
              {copied ? "Copied" : "Copy"}
            </Button>
          )}
        </CopyButton>
      </Group>
      <pre className="keevo-value" data-dump={way === "Bytes"} tabIndex={0} aria-label="The value">
        {text || "(empty)"}
      </pre>
      {data.value.truncated && <Text size="sm" c="dimmed">Only the beginning is shown: the value has {bytes(data.value.bytes)}.</Text>}
    </Stack>
  );
}
