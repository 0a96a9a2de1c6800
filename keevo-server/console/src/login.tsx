// The log-in page: one API key.
import { Alert, Anchor, Button, Code, Group, Paper, PasswordInput, Stack, Text, Title } from "@mantine/core";
import { useState, type FormEvent } from "react";
import { Failure, send, type Session } from "./api";
import { Mark } from "./icons";

export function Login({ enter }: { enter: (session: Session) => void }) {
  const [key, setKey] = useState("");
  const [failure, setFailure] = useState<Failure>();
  const [busy, setBusy] = useState(false);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    try {
      enter(await send<Session>("login", { key }));
    } catch (error) {
      setFailure(error as Failure);
      setBusy(false);
    }
  };
  return (
    <main className="keevo-login">
      <Paper withBorder shadow="md" radius="lg" p="xl" w="100%" maw={420} className="keevo-card">
        <form onSubmit={submit}>
          <Stack gap="md">
            <Group gap="sm">
              <Mark size={36} />
              <Title order={1}>Keevo</Title>
            </Group>
            <Text size="sm" c="dimmed">
              Log in with an API key. You see what its role may see; the key itself is not kept in this browser.
            </Text>
            {/* Lets password managers keep the key under a name. */}
            <input type="text" name="username" autoComplete="username" defaultValue="keevo" hidden readOnly />
            <PasswordInput
              label="API key"
              name="password"
              autoComplete="current-password"
              placeholder="keevo_…"
              value={key}
              onChange={(event) => setKey(event.currentTarget.value)}
              required
              withAsterisk={false}
              autoFocus
              size="md"
            />
            {failure && (
              <Alert color="red" variant="light" role="alert" title={failure.message}>
                {failure.advice}
              </Alert>
            )}
            <Button type="submit" loading={busy} size="md" fullWidth>
              Log in
            </Button>
            <Text size="xs" c="dimmed">
              No key yet? An administrator makes one: <Code>keevo-cli auth key create --role reader</Code>
            </Text>
          </Stack>
        </form>
      </Paper>
      <Anchor href="/console/licenses.txt" size="xs" c="dimmed" pos="fixed" bottom={14}>
        Licences
      </Anchor>
    </main>
  );
}
