// Search over the messages of an app; a result leads to the message in its channel or thread.
import { Alert, Box, Button, Group, Select, SimpleGrid, Stack, Text, TextInput } from "@mantine/core";
import { useState, type FormEvent, type ReactNode } from "react";
import type { Found, Fragment } from "../api";
import { AppChoice, useApps } from "../apps";
import { usePages } from "../hooks";
import { Icon } from "../icons";
import { Card, Empty, Head, More, Refused, Tag, Waiting, When } from "../parts";
import { href, useRoute, useSet } from "../route";

interface FoundPage {
  results: Found[];
  next: string | null;
  partial: boolean;
  catching_up: boolean;
  paused: boolean;
}

/** What is asked, as the address has it; `from` and `to` are days, `2026-05-01`, that begin where the browser is. */
interface Question {
  query: string;
  channel: string;
  author: string;
  from: string;
  to: string;
  sort: string;
}

const SORTS = [
  { value: "relevance", label: "Best match first" },
  { value: "newest", label: "Newest first" },
  { value: "oldest", label: "Oldest first" },
];

/** The beginning of a day as milliseconds; nothing where it is none. */
function ms(day: string): number | undefined {
  const at = new Date(`${day}T00:00`).getTime();
  return Number.isNaN(at) ? undefined : at;
}

export function SearchPage() {
  const { params } = useRoute();
  const set = useSet();
  const { apps, failure, loading, again } = useApps("chat");
  const app = Number(params.get("app") ?? apps?.[0]?.id ?? 1);
  const of = (name: string) => params.get(name) ?? "";
  const asked: Question = { query: of("query"), channel: of("channel"), author: of("author"), from: of("from"), to: of("to"), sort: of("sort") || "relevance" };
  return (
    <>
      <Head title="Search" about="What was said in an app's channels and threads. Deleted messages are not found, and reading here marks nothing as read.">
        {apps && apps.length > 0 && <AppChoice apps={apps} app={app} choose={(app) => set("search", { ...asked, app })} />}
      </Head>
      {failure && <Refused failure={failure} again={again} />}
      {loading && <Waiting what="apps" />}
      {apps?.length === 0 && (
        <Card>
          <Empty icon="search" title="There is no app whose chat you may read">
            Your key's role needs a grant such as <code>read chat:1</code>.
          </Empty>
        </Card>
      )}
      {apps && apps.length > 0 && (
        <Stack gap="md">
          <Form key={JSON.stringify(asked)} asked={asked} submit={(asked) => set("search", { app, ...asked })} />
          {asked.query || asked.channel || asked.author ? (
            <Results key={`${app}/${JSON.stringify(asked)}`} app={app} asked={asked} />
          ) : (
            <Card>
              <Empty icon="search" title="Say what you look for">
                <code>"two words"</code> finds them side by side, <code>kube*</code> what begins so, and <code>-word</code> leaves out. Without words, name a channel or an author.
              </Empty>
            </Card>
          )}
        </Stack>
      )}
    </>
  );
}

function Form({ asked, submit }: { asked: Question; submit: (asked: Question) => void }) {
  const [now, setNow] = useState(asked);
  const field = (name: keyof Question) => ({
    value: now[name],
    onChange: (event: { currentTarget: { value: string } }) => {
      const { value } = event.currentTarget;
      setNow((before) => ({ ...before, [name]: value }));
    },
    autoCapitalize: "off",
    autoCorrect: "off",
    spellCheck: false,
  });
  const send = (event: FormEvent) => {
    event.preventDefault();
    submit(now);
  };
  return (
    <Card>
      <form onSubmit={send} role="search">
        <Stack gap="sm">
          <Group gap="xs" align="flex-end" wrap="nowrap">
            <TextInput label="Words" placeholder='deploy "rolling restart" kube* -windows' leftSection={<Icon name="search" size={16} />} flex={1} miw={0} maxLength={1_000} {...field("query")} />
            <Button type="submit">Search</Button>
          </Group>
          <SimpleGrid cols={{ base: 2, md: 5 }} spacing="sm" verticalSpacing="xs">
            <TextInput label="Channel" placeholder="team:general" {...field("channel")} />
            <TextInput label="Author" placeholder="anybody" {...field("author")} />
            <TextInput label="From the day" type="date" {...field("from")} />
            <TextInput label="Before the day" type="date" {...field("to")} />
            <Select label="Order" data={SORTS} value={now.sort} allowDeselect={false} onChange={(sort) => setNow((before) => ({ ...before, sort: sort ?? "relevance" }))} />
          </SimpleGrid>
        </Stack>
      </form>
    </Card>
  );
}

function Results({ app, asked }: { app: number; asked: Question }) {
  const { query, channel, author, sort } = asked;
  const list = usePages<Found, FoundPage>("search", { app, query, channel, author, sort, after_ms: ms(asked.from), before_ms: ms(asked.to), limit: 25 }, "results", "cursor");
  const page = list.page;
  if (list.failure && list.items.length === 0) return <Refused failure={list.failure} again={list.again} />;
  return (
    <>
      {page && (page.catching_up || page.partial) && (
        <Alert variant="light" color="orange" icon={<Icon name="alert" />} title="There may be more">
          {page.paused
            ? "The node's disk is nearly full, so its index takes no new messages in."
            : page.catching_up
              ? "The node's index is still being made: look again in a moment."
              : "The search had to stop early: more words, or a channel, narrow it down."}
        </Alert>
      )}
      <Card
        padded={false}
        title="Messages"
        aside={
          <Button variant="subtle" color="gray" size="compact-sm" leftSection={<Icon name="refresh" size={16} />} onClick={list.again} loading={list.loading}>
            Look again
          </Button>
        }
      >
        {list.items.map((one) => (
          <Result key={`${one.cid}/${one.parent_id}/${one.number}`} app={app} found={one} />
        ))}
        {list.loading && list.items.length === 0 && <Waiting what="messages" />}
        {!list.loading && list.items.length === 0 && (
          <Empty icon="search" title="Nothing is found">
            Every word has to stand in a message. Fewer words, or the beginning of one such as <code>deplo*</code>, find more.
          </Empty>
        )}
        <More more={list.more} loading={list.loading} failure={list.failure} what="messages" />
      </Card>
    </>
  );
}

function Result({ app, found }: { app: number; found: Found }) {
  const to = href("channels", { app, channel: found.cid, thread: found.parent_id ?? undefined, at: found.number });
  return (
    <a className="keevo-rowlink" href={to}>
      <Group gap={8} wrap="wrap">
        <Text size="sm" fw={600}>
          {found.user_id}
        </Text>
        <Text size="xs" c="dimmed">
          in {found.cid} · <When ms={found.at_ms} />
        </Text>
        {found.parent_id && <Tag color="blue">in a thread</Tag>}
        {found.shadowed && <Tag color="orange">seen by its author only</Tag>}
        {found.attachments > 0 && <Tag>{found.attachments} attachments</Tag>}
      </Group>
      <Box mt={2}>
        {found.fragments.map((fragment) => (
          <Text key={fragment.start} size="sm" className="keevo-text" lineClamp={4}>
            {fragment.start > 0 && "… "}
            {marked(fragment)}
          </Text>
        ))}
        {found.fragments.length === 0 && (
          <Text size="sm" className="keevo-text" lineClamp={4}>
            {found.text || "(no text)"}
          </Text>
        )}
      </Box>
    </a>
  );
}

/** A part of a text, with what was looked for marked in it. */
function marked({ text, ranges }: Fragment): ReactNode[] {
  const parts: ReactNode[] = [];
  let end = 0;
  for (const [from, to] of ranges) {
    parts.push(text.slice(end, from));
    parts.push(
      <mark key={from} className="keevo-mark">
        {text.slice(from, to)}
      </mark>,
    );
    end = to;
  }
  parts.push(text.slice(end));
  return parts;
}
