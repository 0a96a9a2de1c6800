// The channels inspector: the channels of an app, the messages, threads and members of one.
import { Anchor, Box, Grid, Group, SegmentedControl, Stack, Table, Text } from "@mantine/core";
import { useEffect, useRef, useState } from "react";
import type { Channel, Member, Message } from "../api";
import { AppChoice, useApps } from "../apps";
import { usePages } from "../hooks";
import { BackTo, Card, Empty, Head, More, Refused, Tag, Waiting, When } from "../parts";
import { href, useRoute, useSet } from "../route";
import { Search } from "./keys";

interface ChannelPage {
  channels: Channel[];
  next: string | null;
}

interface MessagePage {
  channel: Channel;
  messages: Message[];
  next: number | null;
}

interface MemberPage {
  members: Member[];
  next: string | null;
}

export function ChannelsPage() {
  const { params } = useRoute();
  const set = useSet();
  const { apps, failure, loading, again } = useApps("chat");
  const app = Number(params.get("app") ?? apps?.[0]?.id ?? 1);
  const channel = params.get("channel");
  const kind = params.get("kind") ?? "";
  const at = params.has("at") ? Number(params.get("at")) : undefined;
  return (
    <>
      <Head title="Channels" about="The channels of an app, with their newest messages, threads and members. Reading here marks nothing as read.">
        {apps && apps.length > 0 && <AppChoice apps={apps} app={app} choose={(app) => set("channels", { app })} />}
      </Head>
      {failure && <Refused failure={failure} again={again} />}
      {loading && <Waiting what="apps" />}
      {apps?.length === 0 && (
        <Card>
          <Empty icon="channels" title="There is no app whose chat you may read">
            Your key's role needs a grant such as <code>read chat:1</code>.
          </Empty>
        </Card>
      )}
      {apps && apps.length > 0 && (
        <Stack gap="md">
          <Search label="Channels of the type" placeholder="all types" value={kind} submit={(kind) => set("channels", { app, kind, channel: channel ?? undefined })} />
          <Grid>
            <Grid.Col span={{ base: 12, md: 5, lg: 4 }} visibleFrom={channel ? "md" : undefined}>
              <ChannelList app={app} kind={kind} chosen={channel} />
            </Grid.Col>
            <Grid.Col span={{ base: 12, md: 7, lg: 8 }} visibleFrom={channel ? undefined : "md"}>
              {channel ? (
                <OneChannel key={`${app}/${channel}/${params.get("thread")}/${at}`} app={app} cid={channel} kind={kind} thread={params.get("thread")} at={at} />
              ) : (
                <Card>
                  <Empty icon="channels" title="No channel is chosen">
                    Choose one from the list.
                  </Empty>
                </Card>
              )}
            </Grid.Col>
          </Grid>
        </Stack>
      )}
    </>
  );
}

function ChannelList({ app, kind, chosen }: { app: number; kind: string; chosen: string | null }) {
  const list = usePages<Channel, ChannelPage>("channels", { app, kind, limit: 25 }, "channels", "after");
  return (
    <Card padded={false} title="Channels">
      {list.items.map((channel) => (
        <a key={channel.cid} className="keevo-rowlink" href={href("channels", { app, kind, channel: channel.cid })} aria-current={channel.cid === chosen ? "true" : undefined}>
          <Group justify="space-between" wrap="nowrap" gap="sm">
            <Text fw={600} size="sm" truncate>
              {channel.cid}
            </Text>
            {channel.last && (
              <Text size="xs" c="dimmed" style={{ whiteSpace: "nowrap" }}>
                <When ms={channel.last.at_ms} />
              </Text>
            )}
          </Group>
          <Text size="sm" c="dimmed" truncate>
            {channel.last ? `${channel.last.user_id}: ${channel.last.deleted_ms ? "(deleted)" : channel.last.text}` : "no messages yet"}
          </Text>
        </a>
      ))}
      {list.loading && list.items.length === 0 && <Waiting what="channels" />}
      {!list.loading && !list.failure && list.items.length === 0 && (
        <Empty icon="channels" title={kind ? "There is no channel of this type" : "There are no channels yet"}>
          {kind ? "Leave the type out to see all." : "A client makes one when it first opens it; keevo-cli chat create makes one too."}
        </Empty>
      )}
      <More more={list.more} loading={list.loading} failure={list.failure} what="channels" />
    </Card>
  );
}

interface OfChannel {
  app: number;
  cid: string;
  kind: string;
  thread: string | null;
  /** The number of the message that is looked for. */
  at?: number;
}

/** How many messages are shown behind one that is looked for. */
const BEHIND = 5;

function OneChannel({ app, cid, kind, thread, at }: OfChannel) {
  const [what, setWhat] = useState("Messages");
  return (
    <>
      {thread ? (
        <BackTo href={href("channels", { app, kind, channel: cid })}>{cid}</BackTo>
      ) : (
        <Text component="div" hiddenFrom="md">
          <BackTo href={href("channels", { app, kind })}>All channels</BackTo>
        </Text>
      )}
      <Card
        padded={false}
        title={thread ? "Thread" : cid}
        aside={!thread && <SegmentedControl size="xs" aria-label="What of the channel is shown" data={["Messages", "Members"]} value={what} onChange={setWhat} />}
      >
        {thread || what === "Messages" ? <Messages app={app} cid={cid} kind={kind} thread={thread} at={at} /> : <Members app={app} cid={cid} />}
      </Card>
    </>
  );
}

function Messages({ app, cid, kind, thread, at }: OfChannel) {
  const list = usePages<Message, MessagePage>("messages", { app, channel: cid, thread: thread ?? undefined, limit: 30 }, "messages", "before", at === undefined ? undefined : at + BEHIND + 1);
  const channel = list.page?.channel;
  return (
    <>
      {channel && (channel.frozen || channel.disabled) && (
        <Group gap={6} px="md" pt="sm">
          {channel.frozen && <Tag color="blue">frozen</Tag>}
          {channel.disabled && <Tag color="red">disabled</Tag>}
        </Group>
      )}
      {at !== undefined && (
        <Text size="sm" c="dimmed" px="md" py="xs">
          Around message #{at}. <Anchor href={href("channels", { app, kind, channel: cid, thread: thread ?? undefined })}>Show the newest</Anchor>
        </Text>
      )}
      {list.items.map((message) => (
        <OneMessage key={message.id} message={message} sought={message.number === at} link={message.replies > 0 && !thread ? href("channels", { app, kind, channel: cid, thread: message.id }) : undefined} />
      ))}
      {list.loading && list.items.length === 0 && <Waiting what="messages" />}
      {!list.loading && !list.failure && list.items.length === 0 && (
        <Empty icon="channels" title="There are no messages">
          {thread ? "All replies are gone." : "Nobody has written here yet."}
        </Empty>
      )}
      <More more={list.more} loading={list.loading} failure={list.failure} what="messages" />
    </>
  );
}

/** A colour for a user, the same each time, dark enough for white letters. */
function colorOf(user: string): string {
  let hash = 0;
  for (const char of user) hash = (hash * 31 + (char.codePointAt(0) ?? 0)) % 360;
  return `hsl(${hash} 45% 38%)`;
}

function OneMessage({ message, sought, link }: { message: Message; sought: boolean; link?: string }) {
  const reactions = Object.entries(message.reactions);
  const row = useRef<HTMLElement>(null);
  useEffect(() => {
    if (sought) row.current?.scrollIntoView({ block: "center" });
  }, [sought]);
  return (
    <article className="keevo-rowlink" ref={row} aria-current={sought ? "true" : undefined}>
      <Group gap="sm" wrap="nowrap" align="flex-start">
        <span className="keevo-avatar" aria-hidden="true" style={{ background: colorOf(message.user_id) }}>
          {message.user_id.slice(0, 2)}
        </span>
        <Box flex={1} miw={0}>
          <Group gap={8} wrap="wrap">
            <Text size="sm" fw={600}>
              {message.user_id}
            </Text>
            <Text size="xs" c="dimmed">
              #{message.number} · <When ms={message.at_ms} />
            </Text>
            {message.edited_ms && <Tag>edited</Tag>}
            {message.pinned && <Tag color="teal">pinned</Tag>}
            {message.system && <Tag color="blue">system</Tag>}
            {message.silent && <Tag>silent</Tag>}
            {message.shadowed && <Tag color="orange">seen by its author only</Tag>}
          </Group>
          <Text size="sm" className="keevo-text" c={message.deleted_ms ? "dimmed" : undefined} fs={message.deleted_ms ? "italic" : undefined} lineClamp={12}>
            {message.deleted_ms && !message.text ? "deleted" : message.text || "(no text)"}
          </Text>
          <Group gap={6} mt={4}>
            {reactions.map(([kind, count]) => (
              <Tag key={kind}>
                {kind} {count}
              </Tag>
            ))}
            {message.attachments > 0 && <Tag>{message.attachments} attachments</Tag>}
            {link && (
              <Text component="a" href={link} size="xs" c="teal" td="underline">
                {message.replies} {message.replies === 1 ? "reply" : "replies"}
              </Text>
            )}
          </Group>
        </Box>
      </Group>
    </article>
  );
}

function Members({ app, cid }: { app: number; cid: string }) {
  const list = usePages<Member, MemberPage>("members", { app, channel: cid }, "members", "after");
  if (list.loading && list.items.length === 0) return <Waiting what="members" />;
  if (!list.failure && list.items.length === 0) {
    return (
      <Empty icon="channels" title="The channel has no members">
        Where its type lets strangers in, people read and write without being members.
      </Empty>
    );
  }
  return (
    <>
      <Table verticalSpacing={8} horizontalSpacing="md" className="keevo-table">
        <Table.Thead>
          <Table.Tr>
            <Table.Th scope="col">User</Table.Th>
            <Table.Th scope="col">Role</Table.Th>
            <Table.Th scope="col">Joined</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {list.items.map((member) => (
            <Table.Tr key={member.user_id}>
              <Table.Td>{member.user_id}</Table.Td>
              <Table.Td>{member.role}</Table.Td>
              <Table.Td>
                <When ms={member.joined_ms} />
              </Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
      <More more={list.more} loading={list.loading} failure={list.failure} what="members" />
    </>
  );
}
