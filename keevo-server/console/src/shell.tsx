// The frame around the pages: navigation, who is logged in, light and dark.
import { ActionIcon, AppShell, Badge, Box, Burger, Group, Menu, NavLink, ScrollArea, Text, useComputedColorScheme, useMantineColorScheme } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useEffect, type ReactNode } from "react";
import { send, type Session } from "./api";
import { Icon, Mark, type IconName } from "./icons";
import { ApiLogPage } from "./pages/apilog";
import { AuditPage } from "./pages/audit";
import { ChannelsPage } from "./pages/channels";
import { ClusterPage } from "./pages/cluster";
import { FeedsPage } from "./pages/feeds";
import { KeysPage } from "./pages/keys";
import { MetricsPage } from "./pages/metrics";
import { ModerationPage } from "./pages/moderation";
import { SearchPage } from "./pages/search";
import { Empty, Head } from "./parts";
import { href, useRoute } from "./route";

interface Page {
  name: string;
  title: string;
  icon: IconName;
  /** The grant that it needs; none = it is for everybody who is known. */
  needs?: "admin *" | "read apilog";
  show: (session: Session) => ReactNode;
}

const PAGES: Page[] = [
  { name: "cluster", title: "Cluster", icon: "cluster", needs: "admin *", show: () => <ClusterPage /> },
  { name: "metrics", title: "Live metrics", icon: "metrics", show: () => <MetricsPage /> },
  { name: "keys", title: "Keys", icon: "keys", show: () => <KeysPage /> },
  { name: "feeds", title: "Feeds", icon: "feeds", show: () => <FeedsPage /> },
  { name: "channels", title: "Channels", icon: "channels", show: () => <ChannelsPage /> },
  { name: "search", title: "Search", icon: "search", show: () => <SearchPage /> },
  { name: "moderation", title: "Moderation", icon: "moderation", needs: "admin *", show: () => <ModerationPage /> },
  { name: "apilog", title: "API log", icon: "apilog", needs: "read apilog", show: () => <ApiLogPage /> },
  { name: "audit", title: "Audit log", icon: "audit", needs: "admin *", show: () => <AuditPage /> },
];

function may(session: Session, page: Page): boolean {
  if (page.needs === undefined) return true;
  return page.needs === "read apilog" ? session.reads_calls : session.administers;
}

export function Shell({ session }: { session: Session }) {
  const [opened, { toggle, close }] = useDisclosure();
  const { page: asked } = useRoute();
  const first = session.administers ? "cluster" : "metrics";
  const page = PAGES.find((page) => page.name === (asked || first));
  useEffect(close, [asked]);
  const allowed = page && may(session, page);
  return (
    <AppShell header={{ height: 56 }} navbar={{ width: 232, breakpoint: "sm", collapsed: { mobile: !opened } }} padding={{ base: "md", md: "xl" }}>
      <a href={`#/${page?.name ?? ""}`} className="keevo-skip" onClick={(event) => (event.preventDefault(), document.getElementById("content")?.focus())}>
        Skip to the content
      </a>
      <AppShell.Header className="keevo-nav">
        <Group h="100%" px="md" justify="space-between" wrap="nowrap">
          <Group gap="sm" wrap="nowrap">
            <Burger opened={opened} onClick={toggle} hiddenFrom="sm" size="sm" aria-label={opened ? "Close the menu" : "Open the menu"} />
            <Mark />
            <Text fw={700} size="lg" lts="-0.02em">
              Keevo
            </Text>
            <Badge variant="default" radius="sm" tt="none" fw={550}>
              node {session.node}
            </Badge>
          </Group>
          <Group gap={6} wrap="nowrap">
            <Scheme />
            <Who session={session} />
          </Group>
        </Group>
      </AppShell.Header>
      <AppShell.Navbar className="keevo-nav" aria-label="Pages">
        <AppShell.Section grow component={ScrollArea} p="sm">
          {PAGES.filter((page) => may(session, page)).map((one) => (
            <NavLink
              key={one.name}
              href={href(one.name)}
              label={one.title}
              leftSection={<Icon name={one.icon} />}
              active={one === page}
              aria-current={one === page ? "page" : undefined}
              mb={2}
              bdrs="md"
              fw={one === page ? 600 : 450}
              onClick={close}
            />
          ))}
        </AppShell.Section>
        <AppShell.Section p="md">
          <Text size="xs" c="dimmed">
            Keevo {session.version}
            {session.cluster && (
              <>
                <br />
                cluster {session.cluster.slice(0, 8)}
              </>
            )}
          </Text>
        </AppShell.Section>
      </AppShell.Navbar>
      <AppShell.Main className="keevo-main" id="content" tabIndex={-1}>
        <Box maw={1_280} mx="auto">
          {allowed ? page.show(session) : <Nothing page={page} session={session} />}
        </Box>
      </AppShell.Main>
    </AppShell>
  );
}

function Nothing({ page, session }: { page?: Page; session: Session }) {
  if (!page) {
    return (
      <>
        <Head title="No such page" about="The address leads nowhere." />
        <Empty title="There is nothing here">Choose a page from the menu.</Empty>
      </>
    );
  }
  return (
    <>
      <Head title="Not for your role" about={`You are logged in as ${session.principal}, with the role ${session.role}.`} />
      <Empty icon="alert" title={page.needs === "admin *" ? "This page is for administrators" : "This page needs a right that you lack"}>
        It needs a role with the grant <code>{page.needs}</code>. Ask an administrator for a key of such a role, and log in with it.
      </Empty>
    </>
  );
}

function Scheme() {
  const { setColorScheme } = useMantineColorScheme();
  const dark = useComputedColorScheme("light", { getInitialValueInEffect: false }) === "dark";
  return (
    <ActionIcon variant="subtle" color="gray" size="lg" aria-label={dark ? "Light colours" : "Dark colours"} onClick={() => setColorScheme(dark ? "light" : "dark")}>
      <Icon name={dark ? "sun" : "moon"} />
    </ActionIcon>
  );
}

function Who({ session }: { session: Session }) {
  if (!session.auth) {
    return (
      <Badge variant="light" color="orange" radius="sm" tt="none" fw={550} visibleFrom="xs">
        no authentication
      </Badge>
    );
  }
  const leave = () => void send("logout", {}).finally(() => window.location.reload());
  return (
    <Menu position="bottom-end" withArrow width={260}>
      <Menu.Target>
        <ActionIcon variant="default" size="lg" aria-label="Who is logged in" radius="xl">
          <Text size="xs" fw={700} tt="uppercase">
            {(session.role ?? "?").slice(0, 2)}
          </Text>
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Label>
          {session.principal}
          <br />
          role {session.role}
          <br />
          {session.grants.slice(0, 8).map((grant) => (
            <span key={grant} className="keevo-key">
              {grant}
              <br />
            </span>
          ))}
        </Menu.Label>
        <Menu.Divider />
        <Menu.Item leftSection={<Icon name="out" size={18} />} onClick={leave}>
          Log out
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}
