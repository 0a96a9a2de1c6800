// The cluster map: nodes above, shards below, a column for each node.
import { Group, Pagination, ScrollArea, SimpleGrid, Stack, Table, Text, Title, VisuallyHidden } from "@mantine/core";
import { useState } from "react";
import type { Cluster, Node, Replica, Shard } from "../api";
import { bytes, compact, count } from "../format";
import { useAsk } from "../hooks";
import { Card, Empty, Head, Refused, State, Tile, Waiting } from "../parts";

const EVERY_MS = 2_000;
const SHARDS_A_PAGE = 48;
/** From how many entries on a replica counts as behind. */
const LAG = 1_000;

const isBad = (replica: Replica) => replica.fault !== "" || replica.role === "stopped" || (replica.lag ?? 0) >= LAG;

export function ClusterPage() {
  const { data, failure, loading, again } = useAsk<Cluster>("cluster", {}, EVERY_MS);
  return (
    <>
      <Head title="Cluster" about="Every node, every shard, who leads it, and how far each replica has applied. Looked at every two seconds." />
      <Stack gap="md">
        {failure && <Refused failure={failure} again={again} />}
        {loading && <Waiting what="the cluster" />}
        {data && <Map cluster={data} />}
      </Stack>
    </>
  );
}

function Map({ cluster }: { cluster: Cluster }) {
  const replicas = cluster.shards.flatMap((shard) => shard.replicas);
  const answering = cluster.nodes.filter((node) => node.reachable).length;
  const led = cluster.shards.filter((shard) => shard.leader !== null).length;
  const behind = Math.max(0, ...replicas.map((replica) => replica.lag ?? 0));
  const bad = replicas.filter(isBad).length;
  return (
    <>
      <SimpleGrid cols={{ base: 2, sm: 4 }} spacing="sm">
        <Tile name="Nodes" value={`${answering} of ${cluster.nodes.length}`} hint="answer" bad={answering < cluster.nodes.length} />
        <Tile name="Shards" value={`${led} of ${cluster.shards.length}`} hint="have a leader" bad={led < cluster.shards.length} />
        <Tile name="Replicas" value={count(replicas.length)} hint={bad === 0 ? "all in step" : `${bad} need a look`} bad={bad > 0} />
        <Tile name="Largest lag" value={compact(behind)} hint="entries" bad={behind >= LAG} />
      </SimpleGrid>
      <SimpleGrid cols={{ base: 1, xs: 2, md: 3 }} spacing="sm">
        {cluster.nodes.map((node) => (
          <NodeCard key={node.id} node={node} here={node.id === cluster.asked} />
        ))}
      </SimpleGrid>
      <Shards cluster={cluster} />
    </>
  );
}

function NodeCard({ node, here }: { node: Node; here: boolean }) {
  const storage = node.storage;
  const tone = !node.reachable ? "bad" : storage?.refusal ? "warn" : "good";
  const pairs: [string, string][] = [
    ["Address", node.address],
    ["Replicas", `${node.replicas}, leads ${node.leads}`],
    ["Disk", storage ? `${bytes(storage.free_bytes)} free` : "not known"],
    ["Store", storage ? `${(storage.pressure_permille / 10).toFixed(0)} % pressure` : "not known"],
  ];
  return (
    <Card
      title={
        <Group gap={8} component="span">
          Node {node.id}
          {here && (
            <Text component="span" size="xs" c="dimmed" fw={450}>
              this one
            </Text>
          )}
        </Group>
      }
      aside={<State tone={tone}>{!node.reachable ? "unreachable" : storage?.refusal ? "refuses writes" : "answers"}</State>}
    >
      <Table withRowBorders={false} verticalSpacing={3} horizontalSpacing={0} className="keevo-table">
        <Table.Tbody>
          {pairs.map(([name, value]) => (
            <Table.Tr key={name}>
              <Table.Th scope="row" w={86}>
                {name}
              </Table.Th>
              <Table.Td className={name === "Address" ? "keevo-key" : undefined}>{value}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
      {storage?.refusal && (
        <Text size="sm" mt={6}>
          {storage.refusal}
        </Text>
      )}
    </Card>
  );
}

function Shards({ cluster }: { cluster: Cluster }) {
  const [page, setPage] = useState(1);
  const pages = Math.ceil(cluster.shards.length / SHARDS_A_PAGE);
  const shown = cluster.shards.slice((page - 1) * SHARDS_A_PAGE, page * SHARDS_A_PAGE);
  if (cluster.shards.length === 0) {
    return (
      <Card>
        <Empty icon="cluster" title="There are no shards yet">
          The cluster is still being founded. Check that most of the nodes named in <code>peers</code> run.
        </Empty>
      </Card>
    );
  }
  return (
    <Card
      padded={false}
      title="Shards"
      aside={
        <Group gap="md" wrap="nowrap" visibleFrom="xs">
          <span className="keevo-cell" data-role="leader">leader</span>
          <span className="keevo-cell" data-role="follower">follower</span>
        </Group>
      }
    >
      <ScrollArea type="auto" offsetScrollbars="x">
        <Table verticalSpacing={7} horizontalSpacing="md" className="keevo-table" miw={220 + 130 * cluster.nodes.length}>
          <Table.Caption>
            <VisuallyHidden>The shards, and for each node the role and the applied index of its replica</VisuallyHidden>
          </Table.Caption>
          <Table.Thead>
            <Table.Tr>
              <Table.Th scope="col">Shard</Table.Th>
              {cluster.nodes.map((node) => (
                <Table.Th scope="col" key={node.id}>
                  Node {node.id}
                </Table.Th>
              ))}
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {shown.map((shard) => (
              <ShardRow key={shard.id} shard={shard} nodes={cluster.nodes} />
            ))}
          </Table.Tbody>
        </Table>
      </ScrollArea>
      {pages > 1 && (
        <Group justify="center" p="md">
          <Pagination total={pages} value={page} onChange={setPage} size="sm" getControlProps={(control) => ({ "aria-label": `${control} page` })} />
        </Group>
      )}
    </Card>
  );
}

function ShardRow({ shard, nodes }: { shard: Shard; nodes: Node[] }) {
  return (
    <Table.Tr>
      <Table.Th scope="row">
        <Title order={3} size="sm" c="var(--mantine-color-text)">
          {shard.id}
        </Title>
        <Text size="xs" c="dimmed" fw={400} maw={210} style={{ whiteSpace: "normal" }}>
          {shard.range}
        </Text>
        {shard.leader === null && <State tone="bad">no leader</State>}
      </Table.Th>
      {nodes.map((node) => (
        <Table.Td key={node.id}>
          <Cell replica={shard.replicas.find((replica) => replica.node === node.id)} />
        </Table.Td>
      ))}
    </Table.Tr>
  );
}

function Cell({ replica }: { replica?: Replica }) {
  if (!replica) {
    return (
      <Text size="sm" c="dimmed" aria-label="no replica">
        –
      </Text>
    );
  }
  const bad = isBad(replica);
  const known = replica.applied !== undefined && replica.fault === "";
  const lag = replica.lag ?? 0;
  return (
    <span className="keevo-cell" data-role={replica.role} data-bad={bad}>
      {replica.role}
      <small>{known ? `${compact(replica.applied ?? 0)} · ${lag === 0 ? "in step" : `${compact(lag)} behind`}` : replica.fault || "down"}</small>
    </span>
  );
}
