// The feeds inspector: the feeds of an app, and the activities of one.
import { Anchor, Collapse, Grid, Group, Stack, Text, UnstyledButton } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import type { Activity } from "../api";
import { AppChoice, useApps } from "../apps";
import { compact } from "../format";
import { usePages } from "../hooks";
import { BackTo, Card, Empty, Head, More, Refused, Tag, Waiting, When } from "../parts";
import { href, useRoute, useSet } from "../route";
import { Search } from "./keys";

interface FeedPage {
  feeds: string[];
  next: string | null;
  done_permille: number;
}

interface ActivityPage {
  feed: string;
  activities: Activity[];
  next: string | null;
  followers: number;
  following: number;
}

export function FeedsPage() {
  const { params } = useRoute();
  const set = useSet();
  const { apps, failure, loading, again } = useApps("feeds");
  const app = Number(params.get("app") ?? apps?.[0]?.id ?? 1);
  const feed = params.get("feed");
  const prefix = params.get("prefix") ?? "";
  return (
    <>
      <Head title="Feeds" about="The feeds of an app, what was posted to them, and what they carry with it.">
        {apps && apps.length > 0 && <AppChoice apps={apps} app={app} choose={(app) => set("feeds", { app })} />}
      </Head>
      {failure && <Refused failure={failure} again={again} />}
      {loading && <Waiting what="apps" />}
      {apps?.length === 0 && (
        <Card>
          <Empty icon="feeds" title="There is no app whose feeds you may read">
            Your key's role needs a grant such as <code>read feeds:1</code>.
          </Empty>
        </Card>
      )}
      {apps && apps.length > 0 && (
        <Stack gap="md">
          <Search label="Feeds that begin with" placeholder="user:alice" value={prefix} submit={(prefix) => set("feeds", { app, prefix, feed: feed ?? undefined })} />
          <Grid>
            <Grid.Col span={{ base: 12, md: 4 }} visibleFrom={feed ? "md" : undefined}>
              <FeedList app={app} prefix={prefix} chosen={feed} />
            </Grid.Col>
            <Grid.Col span={{ base: 12, md: 8 }} visibleFrom={feed ? undefined : "md"}>
              {feed ? (
                <OneFeed key={`${app}/${feed}`} app={app} feed={feed} prefix={prefix} />
              ) : (
                <Card>
                  <Empty icon="feeds" title="No feed is chosen">
                    Choose one from the list, or type its whole name, such as <code>user:alice</code>.
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

function FeedList({ app, prefix, chosen }: { app: number; prefix: string; chosen: string | null }) {
  const list = usePages<string, FeedPage>("feeds", { app, prefix }, "feeds", "after");
  return (
    <Card padded={false} title="Feeds" aside={<Text size="xs" c="dimmed">{list.items.length > 0 && `${compact(list.items.length)} shown`}</Text>}>
      {list.items.map((feed) => (
        <a key={feed} className="keevo-rowlink" href={href("feeds", { app, feed, prefix })} aria-current={feed === chosen ? "true" : undefined}>
          <span className="keevo-key">{feed}</span>
        </a>
      ))}
      {list.loading && list.items.length === 0 && <Waiting what="feeds" />}
      {!list.loading && !list.failure && list.items.length === 0 && (
        <Empty icon="feeds" title={prefix ? "No feed begins so" : "There are no feeds yet"}>
          {prefix ? "Shorten the text, or leave it out to see all." : "A feed is there from its first activity or follow on. Post one with the REST API or `keevo-cli feed add`."}
        </Empty>
      )}
      <More more={list.more} loading={list.loading} failure={list.failure} what="feeds" />
    </Card>
  );
}

function OneFeed({ app, feed, prefix }: { app: number; feed: string; prefix: string }) {
  const list = usePages<Activity, ActivityPage>("activities", { app, feed, limit: 25 }, "activities", "after");
  return (
    <>
      <Text component="div" hiddenFrom="md">
        <BackTo href={href("feeds", { app, prefix })}>All feeds</BackTo>
      </Text>
      <Card
        padded={false}
        title={<span className="keevo-key">{feed}</span>}
        aside={
          list.page && (
            <Text size="sm" c="dimmed" style={{ whiteSpace: "nowrap" }}>
              {compact(list.page.followers)} followers · follows {compact(list.page.following)}
            </Text>
          )
        }
      >
        {list.items.map((activity) => (
          <OneActivity key={activity.id} activity={activity} app={app} />
        ))}
        {list.loading && list.items.length === 0 && <Waiting what="activities" />}
        {!list.loading && !list.failure && list.items.length === 0 && (
          <Empty icon="feeds" title="The feed has no activities">
            Nothing was posted to it, and nobody whom it follows has posted.
          </Empty>
        )}
        <More more={list.more} loading={list.loading} failure={list.failure} what="activities" />
      </Card>
    </>
  );
}

function OneActivity({ activity, app }: { activity: Activity; app: number }) {
  const [open, { toggle }] = useDisclosure();
  const text = ["text", "message", "content", "line", "body"].map((name) => activity.custom[name]).find((value) => typeof value === "string");
  return (
    <article className="keevo-rowlink">
      <Group justify="space-between" gap="sm" wrap="nowrap" align="flex-start">
        <Text size="sm" className="keevo-text">
          <b>{activity.actor}</b> {activity.verb} <b>{activity.object}</b>
          {activity.target && (
            <>
              {" "}
              to <b>{activity.target}</b>
            </>
          )}
        </Text>
        <Text size="xs" c="dimmed" style={{ whiteSpace: "nowrap" }}>
          <When ms={Date.parse(activity.time)} />
        </Text>
      </Group>
      {typeof text === "string" && (
        <Text size="sm" mt={4} lineClamp={3} className="keevo-text">
          {text}
        </Text>
      )}
      <Group gap={6} mt={6}>
        {activity.origin && (
          <Anchor size="xs" href={href("feeds", { app, feed: activity.origin })}>
            from {activity.origin}
          </Anchor>
        )}
        {activity.to.length > 0 && <Tag>to {activity.to.length}</Tag>}
        <UnstyledButton onClick={toggle} aria-expanded={open} fz="xs" c="dimmed" td="underline">
          {open ? "Hide the whole" : "Show the whole"}
        </UnstyledButton>
      </Group>
      <Collapse expanded={open}>
        <pre className="keevo-value" tabIndex={0}>
          {JSON.stringify(activity, null, 2)}
        </pre>
      </Collapse>
    </article>
  );
}
