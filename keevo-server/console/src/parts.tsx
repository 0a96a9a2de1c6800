// Pieces that every page is made of: heads, empty and error states, keys, times, lists that go on.
import { Alert, Anchor, Badge, Box, Button, Code, Group, Loader, Paper, Stack, Text, Title, Tooltip, VisuallyHidden } from "@mantine/core";
import { useEffect, useRef, type ReactNode } from "react";
import type { Failure } from "./api";
import { date, pieces, since } from "./format";
import { Icon, type IconName } from "./icons";

/** The head of a page; it takes the focus, so that a screen reader says where it is. */
export function Head({ title, about, children }: { title: string; about: ReactNode; children?: ReactNode }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = `${title} · Keevo`;
    heading.current?.focus({ preventScroll: true });
  }, [title]);
  return (
    <Group justify="space-between" align="flex-start" gap="sm" mb="lg" wrap="wrap">
      <Box maw={720}>
        <Title order={1} ref={heading} tabIndex={-1} className="keevo-heading">
          {title}
        </Title>
        <Text c="dimmed" size="sm" mt={4}>
          {about}
        </Text>
      </Box>
      {children && <Group gap="xs">{children}</Group>}
    </Group>
  );
}

export function Card({ title, aside, children, padded = true }: { title?: ReactNode; aside?: ReactNode; children: ReactNode; padded?: boolean }) {
  return (
    <Paper withBorder radius="lg" component="section" className="keevo-card">
      {title && (
        <Group justify="space-between" px="md" py="sm" className="keevo-card-head" wrap="nowrap" gap="sm">
          <Title order={2}>{title}</Title>
          {aside}
        </Group>
      )}
      <Box p={padded ? "md" : 0}>{children}</Box>
    </Paper>
  );
}

/** What is shown where there is nothing: why, and what to do about it. */
export function Empty({ icon = "empty", title, children }: { icon?: IconName; title: string; children: ReactNode }) {
  return (
    <Stack align="center" gap={6} py={48} px="md" className="keevo-empty">
      <Box c="dimmed">
        <Icon name={icon} size={36} />
      </Box>
      <Text fw={600}>{title}</Text>
      <Text component="div" size="sm" c="dimmed" ta="center" maw={460}>
        {children}
      </Text>
    </Stack>
  );
}

export function Refused({ failure, again }: { failure: Failure; again?: () => void }) {
  return (
    <Alert color="red" variant="light" radius="md" role="alert" icon={<Icon name="alert" />} title={failure.message}>
      <Text size="sm">{failure.advice}</Text>
      <Group mt="xs" gap="xs">
        {again && (
          <Button size="compact-sm" variant="light" color="red" onClick={again}>
            Try again
          </Button>
        )}
        <Code>{failure.kind}</Code>
      </Group>
    </Alert>
  );
}

export function Waiting({ what }: { what: string }) {
  return (
    <Group justify="center" py="xl" gap="sm" role="status">
      <Loader size="sm" />
      <Text size="sm" c="dimmed">
        Loading {what} …
      </Text>
    </Group>
  );
}

/** The end of a list: what is missing, and a button for more. */
export function More({ more, loading, failure, what }: { more?: () => void; loading: boolean; failure?: Failure; what: string }) {
  if (failure) return <Box p="md"><Refused failure={failure} again={more} /></Box>;
  if (!more) return null;
  return (
    <Group justify="center" p="md">
      <Button variant="default" onClick={more} loading={loading}>
        More {what}
      </Button>
    </Group>
  );
}

/** A key: text as it reads, bytes that do not as dim digits. */
export function KeyText({ value }: { value: string }) {
  if (value === "") return <span className="keevo-key keevo-byte">(empty)</span>;
  return (
    <span className="keevo-key">
      {pieces(value).map((piece, at) => (piece.raw ? <span key={at} className="keevo-byte">{piece.text}</span> : <span key={at}>{piece.text}</span>))}
    </span>
  );
}

export function When({ ms }: { ms: number }) {
  return (
    <Tooltip label={date(ms)} withArrow events={{ hover: true, focus: true, touch: true }}>
      <time dateTime={new Date(ms).toISOString()}>{since(ms)}</time>
    </Tooltip>
  );
}

/** One number with its name. */
export function Tile({ name, value, hint, bad = false }: { name: string; value: ReactNode; hint?: ReactNode; bad?: boolean }) {
  return (
    <Paper withBorder radius="lg" px="md" py="sm" className="keevo-card">
      <Text size="xs" c="dimmed" fw={550}>
        {name}
      </Text>
      <Group gap={8} align="baseline" wrap="nowrap">
        <Text className="keevo-figure" c={bad ? "var(--keevo-bad)" : undefined}>
          {value}
        </Text>
        {bad && <VisuallyHidden>needs attention</VisuallyHidden>}
      </Group>
      <Text size="xs" c="dimmed" truncate>
        {hint ?? "\u00a0"}
      </Text>
    </Paper>
  );
}

/** A state as a dot and a word: the colour is never alone. */
export function State({ tone, children }: { tone: "good" | "bad" | "warn" | "idle"; children: ReactNode }) {
  return (
    <span className="keevo-state" data-tone={tone}>
      <span aria-hidden="true" className="keevo-dot" />
      {children}
    </span>
  );
}

export function Tag({ children, color = "gray" }: { children: ReactNode; color?: string }) {
  return (
    <Badge variant="light" color={color} radius="sm" tt="none" fw={550}>
      {children}
    </Badge>
  );
}

export function BackTo({ href, children }: { href: string; children: ReactNode }) {
  return (
    <Anchor href={href} size="sm" className="keevo-back">
      <Icon name="back" size={16} /> {children}
    </Anchor>
  );
}
