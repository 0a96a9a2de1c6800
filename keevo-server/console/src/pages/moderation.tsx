// The moderation queue: what waits for a person, oldest first, and the decision.
import { Alert, Box, Button, Group, Modal, SegmentedControl, Stack, TagsInput, Text, Textarea } from "@mantine/core";
import { useState } from "react";
import { Failure, send, type Moderation, type Queued } from "../api";
import { AppChoice, useApps } from "../apps";
import { count } from "../format";
import { useAsk, usePages } from "../hooks";
import { Icon } from "../icons";
import { Card, Empty, Head, More, Refused, State, Tag, Waiting, When } from "../parts";
import { useRoute, useSet } from "../route";

interface QueuePage {
  entries: Queued[];
  next: string | null;
}

type Ruling = "allow" | "remove" | "ban";

/** What comes of a decision on a text that is held. */
const OF_HELD: Record<Ruling, string> = {
  allow: "It is sent now, at the end of its channel; what stood already is shown again.",
  remove: "It is dropped, and nobody ever sees it.",
  ban: "It is dropped, and its author is kept out of the channel.",
};

const RULINGS: Record<Ruling, { label: string; color: string; about: string }> = {
  allow: { label: "Allow", color: "teal", about: "It may stand, and leaves the queue." },
  remove: { label: "Remove", color: "red", about: "It is taken away where it stands." },
  ban: { label: "Remove and ban", color: "red", about: "It is taken away, and its author is kept out of the channel." },
};

export function ModerationPage() {
  const { params } = useRoute();
  const set = useSet();
  const { apps, failure, loading, again } = useApps("chat");
  const app = Number(params.get("app") ?? apps?.[0]?.id ?? 1);
  return (
    <>
      <Head title="Moderation" about="Texts that were flagged, held, hidden or blocked and wait for a person, oldest first. Every decision is kept as a label for the next training.">
        {apps && apps.length > 1 && <AppChoice apps={apps} app={app} choose={(app) => set("moderation", { app })} />}
      </Head>
      <Stack gap="md">
        <Health />
        {failure && <Refused failure={failure} again={again} />}
        {loading && <Waiting what="apps" />}
        {apps && <Queue key={app} app={app} />}
      </Stack>
    </>
  );
}

function Health() {
  const { data } = useAsk<Moderation>("moderation", {}, 5_000);
  if (!data) return null;
  if (data.workers.length === 0) {
    return (
      <Alert variant="light" color="blue" icon={<Icon name="moderation" />} title="No text is judged here">
        This node has no classifier: set <code>moderation_workers</code> to the addresses of sidecars. What was judged before stays in the queue.
      </Alert>
    );
  }
  const resting = data.workers.filter((worker) => worker.resting).length;
  return (
    <Group gap="lg">
      <State tone={resting === 0 ? "good" : resting === data.workers.length ? "bad" : "warn"}>
        {data.workers.length - resting} of {data.workers.length} classifiers answer
      </State>
      <Text size="sm" c="dimmed">
        {count(data.pending)} texts wait to be judged, the oldest for {count(Math.round(data.lag_ms / 1_000))} s
      </Text>
    </Group>
  );
}

function Queue({ app }: { app: number }) {
  const [action, setAction] = useState("");
  const list = usePages<Queued, QueuePage>("moderation/queue", { app, action, limit: 25 }, "entries", "after");
  const [deciding, setDeciding] = useState<{ entry: Queued; ruling: Ruling }>();
  const done = (entry: Queued) => {
    list.drop((one) => one.id === entry.id);
    setDeciding(undefined);
  };
  return (
    <Card
      padded={false}
      title="Queue"
      aside={
        <Group gap="xs" wrap="nowrap">
          <SegmentedControl
            size="xs"
            aria-label="Which entries are shown"
            data={[
              { value: "", label: "All" },
              { value: "hold", label: "Held" },
            ]}
            value={action}
            onChange={setAction}
          />
          <Button variant="subtle" color="gray" size="compact-sm" leftSection={<Icon name="refresh" size={16} />} onClick={list.again} loading={list.loading}>
            Look again
          </Button>
        </Group>
      }
    >
      {list.items.map((entry) => (
        <Entry key={entry.id} entry={entry} decide={(ruling) => setDeciding({ entry, ruling })} />
      ))}
      {list.loading && list.items.length === 0 && <Waiting what="the queue" />}
      {!list.loading && !list.failure && list.items.length === 0 && (
        <Empty icon="moderation" title={action ? "Nothing is held" : "Nothing waits for a decision"}>
          What a policy flags comes here. Set one with <code>keevo-cli moderation policy set</code>.
        </Empty>
      )}
      <More more={list.more} loading={list.loading} failure={list.failure} what="entries" />
      <Modal opened={deciding !== undefined} onClose={() => setDeciding(undefined)} title={deciding && RULINGS[deciding.ruling].label} centered closeButtonProps={{ "aria-label": "Close" }}>
        {deciding && <Decide app={app} entry={deciding.entry} ruling={deciding.ruling} done={() => done(deciding.entry)} />}
      </Modal>
    </Card>
  );
}

/** A reason as it is stored, in words. */
function reason(value: unknown): string {
  if (typeof value === "string") return value.replaceAll("_", " ");
  if (value === null || typeof value !== "object") return String(value);
  return Object.entries(value)
    .map(([name, inner]) => {
      if (inner === null || typeof inner !== "object") return `${name.replaceAll("_", " ")}: ${inner}`;
      const { label, score, action } = inner as { label?: string; score?: number; action?: string };
      if (label !== undefined && score !== undefined) return `${label} at ${Math.round(score * 100)} %, so ${action}`;
      const parts = Object.entries(inner).map(([key, part]) => (key === "score" && typeof part === "number" ? `${Math.round(part * 100)} %` : String(part)));
      return `${name.replaceAll("_", " ")}: ${parts.join(", ")}`;
    })
    .join("; ");
}

function Entry({ entry, decide }: { entry: Queued; decide: (ruling: Ruling) => void }) {
  const scores = Object.entries(entry.scores).sort(([, one], [, other]) => other - one);
  return (
    <article className="keevo-rowlink">
      <Group gap={8} mb={8}>
        <Tag color={entry.action === "block" ? "red" : entry.action === "hold" ? "blue" : "orange"}>{entry.action === "hold" ? "held" : entry.action}</Tag>
        <Text size="sm" fw={600}>
          {entry.author || "unknown author"}
        </Text>
        <Text size="xs" c="dimmed">
          {entry.kind} in {entry.scope} · <When ms={entry.at_ms} />
        </Text>
      </Group>
      <blockquote className="keevo-quote">{entry.text || "(no text)"}</blockquote>
      <Box mt={8}>
        {entry.action === "hold" && (
          <Text size="sm" mb={4}>
            Nobody but its author sees it until somebody decides.
          </Text>
        )}
        {entry.reasons.length > 0 && (
          <Text size="xs" c="dimmed">
            {entry.reasons.map(reason).join(" · ")}
          </Text>
        )}
        {scores.length > 0 && (
          <Group gap={6} mt={6}>
            {scores.slice(0, 6).map(([label, score]) => (
              <Tag key={label} color={score >= 0.5 ? "orange" : "gray"}>
                {label} {Math.round(score * 100)} %
              </Tag>
            ))}
          </Group>
        )}
      </Box>
      <Group gap="xs" mt="sm">
        <Button size="xs" variant="light" onClick={() => decide("allow")}>
          Allow
        </Button>
        <Button size="xs" variant="light" color="red" onClick={() => decide("remove")}>
          Remove
        </Button>
        {entry.kind === "message" && (
          <Button size="xs" variant="subtle" color="red" onClick={() => decide("ban")}>
            Remove and ban
          </Button>
        )}
      </Group>
    </article>
  );
}

function Decide({ app, entry, ruling, done }: { app: number; entry: Queued; ruling: Ruling; done: () => void }) {
  const [labels, setLabels] = useState<string[]>([]);
  const [note, setNote] = useState("");
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<Failure>();
  const { about, label, color } = RULINGS[ruling];
  const submit = async () => {
    setBusy(true);
    try {
      await send("moderation/decide", { app, id: entry.id, decision: ruling, labels, note });
      done();
    } catch (error) {
      setFailure(error as Failure);
      setBusy(false);
    }
  };
  return (
    <Stack gap="md">
      <blockquote className="keevo-quote">{entry.text || "(no text)"}</blockquote>
      <Text size="sm">{entry.action === "hold" ? OF_HELD[ruling] : about}</Text>
      {ruling !== "allow" && <TagsInput label="Labels that hold of it" description="The next training learns them." data={Object.keys(entry.scores)} value={labels} onChange={setLabels} maxTags={32} />}
      <Textarea label="Note" description="Why, for people." autosize minRows={2} maxLength={4_000} value={note} onChange={(event) => setNote(event.currentTarget.value)} />
      {failure && <Refused failure={failure} />}
      <Button color={color} onClick={submit} loading={busy} data-autofocus>
        {label}
      </Button>
    </Stack>
  );
}
