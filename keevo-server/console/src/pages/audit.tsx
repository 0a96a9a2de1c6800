// The tail of the audit log: who administered what, and how it ended.
import { Button, Group, Stack, Table, Text } from "@mantine/core";
import { useMemo } from "react";
import type { Entry } from "../api";
import { usePages } from "../hooks";
import { Icon } from "../icons";
import { Card, Empty, Head, More, State, Waiting, When } from "../parts";

interface AuditPageData {
  on: boolean;
  entries: Entry[];
  next: number | null;
  last?: number;
  last_sha256?: string;
}

export function AuditPage() {
  const list = usePages<Entry, AuditPageData>("audit", { limit: 100 }, "entries", "before");
  // An action has an entry before it is carried out and one after: one row shows both.
  const outcomes = useMemo(() => new Map(list.items.filter((entry) => entry.outcome_of !== undefined).map((entry) => [entry.outcome_of, entry.outcome])), [list.items]);
  const actions = list.items.filter((entry) => entry.outcome_of === undefined);
  const page = list.page;
  return (
    <>
      <Head title="Audit log" about="Whatever changed roles, keys, apps, members, leaders or moderation: written before it was done, and its outcome after.">
        <Button variant="default" leftSection={<Icon name="refresh" size={16} />} onClick={list.again} loading={list.loading}>
          Look again
        </Button>
      </Head>
      <Stack gap="md">
        <Card padded={false}>
          {actions.length > 0 && (
            <Table.ScrollContainer minWidth={760}>
              <Table verticalSpacing={8} horizontalSpacing="md" className="keevo-table">
                <Table.Thead>
                  <Table.Tr>
                    <Table.Th scope="col">What</Table.Th>
                    <Table.Th scope="col">Outcome</Table.Th>
                    <Table.Th scope="col">Who</Table.Th>
                    <Table.Th scope="col">When</Table.Th>
                    <Table.Th scope="col">No.</Table.Th>
                  </Table.Tr>
                </Table.Thead>
                <Table.Tbody>
                  {actions.map((entry) => (
                    <Row key={entry.number} entry={entry} outcome={outcomes.get(entry.number)} />
                  ))}
                </Table.Tbody>
              </Table>
            </Table.ScrollContainer>
          )}
          {list.loading && list.items.length === 0 && <Waiting what="the log" />}
          {!list.loading && !list.failure && actions.length === 0 && (
            <Empty icon="audit" title={page?.on === false ? "Nothing is logged here" : "Nothing was administered yet"}>
              {page?.on === false ? (
                <>
                  Authentication is off, so nobody is known by name. Start the node with <code>--auth true</code> and a key in <code>auth_admin_key_file</code>.
                </>
              ) : (
                "The first change of a role, a key or an app will stand here."
              )}
            </Empty>
          )}
          <More more={list.more} loading={list.loading} failure={list.failure} what="entries" />
        </Card>
        {page?.last_sha256 && (
          <Text size="xs" c="dimmed" className="keevo-text">
            Head of the chain: entry {page.last}, SHA-256 <span className="keevo-key">{page.last_sha256}</span>. Note it elsewhere, and check it with <code>keevo-cli audit verify --head</code>.
          </Text>
        )}
      </Stack>
    </>
  );
}

function Row({ entry, outcome }: { entry: Entry; outcome?: string }) {
  const [service = "", method = ""] = entry.method.split("/");
  const request = entry.request === undefined || entry.request === null ? "" : JSON.stringify(entry.request);
  return (
    <Table.Tr>
      <Table.Td maw={460}>
        <Group gap={6}>
          <Text size="sm" fw={600}>
            {method}
          </Text>
          <Text size="xs" c="dimmed">
            {service.split(".").at(-1)}
          </Text>
        </Group>
        <Text size="xs" className="keevo-key" lineClamp={3}>
          {request}
        </Text>
      </Table.Td>
      <Table.Td>
        {outcome === undefined ? <State tone="warn">not known</State> : <State tone={outcome === "OK" ? "good" : "bad"}>{outcome === "OK" ? "done" : outcome.toLowerCase().replaceAll("_", " ")}</State>}
      </Table.Td>
      <Table.Td>
        <Text size="sm">{entry.who}</Text>
        <Text size="xs" c="dimmed">
          node {entry.node}
        </Text>
      </Table.Td>
      <Table.Td style={{ whiteSpace: "nowrap" }}>
        <When ms={entry.at_ms} />
      </Table.Td>
      <Table.Td>{entry.number}</Table.Td>
    </Table.Tr>
  );
}
