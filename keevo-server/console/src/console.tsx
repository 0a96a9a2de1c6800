// Who is there: the log-in page, or the shell with one of the pages.
import { Center, Loader } from "@mantine/core";
import { useEffect, useState } from "react";
import { ask, Failure, whenLoggedOut, type Session } from "./api";
import { Login } from "./login";
import { Refused } from "./parts";
import { Shell } from "./shell";

export function Console() {
  const [session, setSession] = useState<Session>();
  const [failure, setFailure] = useState<Failure>();
  const [round, setRound] = useState(0);

  useEffect(() => {
    const stop = new AbortController();
    ask<Session>("session", {}, stop.signal).then(
      (session) => (setSession(session), setFailure(undefined)),
      (error) => stop.signal.aborted || setFailure(error),
    );
    return () => stop.abort();
  }, [round]);
  useEffect(
    () =>
      whenLoggedOut((failure) => {
        setSession(undefined);
        setFailure(failure);
      }),
    [],
  );
  // A node that comes up is found again without a reload.
  useEffect(() => {
    if (failure?.kind !== "UNREACHABLE") return;
    const timer = window.setTimeout(() => setRound((round) => round + 1), 2_000);
    return () => window.clearTimeout(timer);
  }, [failure, round]);

  if (session) return <Shell session={session} />;
  if (failure?.kind === "UNAUTHENTICATED") return <Login enter={setSession} />;
  return (
    <Center mih="100dvh" p="md">
      {failure ? <Refused failure={failure} again={() => setRound((round) => round + 1)} /> : <Loader aria-label="Loading" />}
    </Center>
  );
}
