//! Writes: proposals to the leader of a shard, sent again under the same request id until they are answered.

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use keevo_core::call::{self, Call, Outcomes};
use keevo_core::sessions::Ticket;
use keevo_core::{Batch, Command, Error, ErrorKind, FanOut, FannedOut, Outcome, Result, ShardId, Written};

use super::ClusterEngine;
use super::route::{Attempt, Effect, Place};
use crate::peer_messages::{self, Aside};
use crate::transport::PeerCall;

/// How often a write begins anew in a fresh session after the shard has forgotten the old one.
const SESSIONS_TRIED_MAX: u32 = 2;
/// About how many targets of one fan-out are under way at once: a read waits for what its shard has committed before it,
/// and all shards share the processors.
const TARGETS_AT_ONCE: usize = 256;
/// Whatever their sizes: how many parts of one fan-out are under way at once, at least and at most.
const PARTS_AT_ONCE: (usize, usize) = (2, 32);

impl ClusterEngine {
    /// Applies a batch, whose limits have been checked.
    pub(super) async fn write_batch(&self, batch: Batch) -> Result<Written> {
        let first = batch.partition_key().ok_or_else(|| Error::invalid("the batch is empty"))?;
        let shard = self.shard_of(first)?;
        let call = call::current();
        let aside = aside_of(call.as_deref(), shard);
        let outcome = self.write_once(shard, batch, &aside).await;
        if let (Some(call), Aside::Note(_)) = (call, &aside) {
            call.carried(matches!(outcome, Ok(Outcome::Written(_))));
        }
        written(outcome?)
    }

    /// Applies a batch once, under its own request id or one of this engine's.
    async fn write_once(&self, shard: ShardId, batch: Batch, aside: &Aside) -> Result<Outcome> {
        if batch.request.is_some() {
            return self.propose_noted(shard, Command::Write(batch), aside).await.map(|(outcome, _)| outcome);
        }
        let mut tries = 0;
        loop {
            let ticket = self.begin(shard).await?;
            let named = batch.clone().with_request(ticket.request());
            match self.propose_noted(shard, Command::Write(named), aside).await {
                Ok((Outcome::Refused(error), sent_once))
                    if error.kind() == ErrorKind::OutcomeUnknown && sent_once && tries < SESSIONS_TRIED_MAX =>
                {
                    // The session was gone before the first and only send, so nothing was applied.
                    self.shared.sessions.forget(shard, &ticket.session);
                    tries += 1;
                }
                Ok((outcome, _)) => return Ok(outcome),
                Err(error) => return Err(error),
            }
        }
    }

    /// A request of this engine's session on the shard, which is opened first if need be.
    async fn begin(&self, shard: ShardId) -> Result<Ticket> {
        let end = tokio::time::Instant::now() + self.deadline;
        let session = self.shared.sessions.of(shard, self.node.inner.parts.random.as_ref());
        let open = || async { self.propose(shard, Command::OpenSession(session.client)).await.map(drop) };
        session.opened.get_or_try_init(open).await?;
        tokio::time::timeout_at(end, session.begin()).await.map_err(|elapsed| {
            Error::new(ErrorKind::ResourceExhausted, format!("too many writes to shard {shard} wait for their answers"))
                .with_source(elapsed)
        })
    }

    /// Sends a command until it is answered; also says whether one send was enough.
    async fn propose_noted(&self, shard: ShardId, command: Command, aside: &Aside) -> Result<(Outcome, bool)> {
        let sends = std::sync::atomic::AtomicU32::new(0);
        let outcome = self
            .until_answered(Effect::Changes, |attempt| {
                sends.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                self.send_command(shard, command.clone(), aside, attempt)
            })
            .await?;
        Ok((outcome, sends.into_inner() == 1))
    }

    /// Proposes a command that may be repeated.
    pub(crate) fn propose(&self, shard: ShardId, command: Command) -> BoxFuture<'_, Result<Outcome>> {
        Box::pin(self.propose_until_answered(shard, command))
    }

    async fn propose_until_answered(&self, shard: ShardId, command: Command) -> Result<Outcome> {
        if matches!(command, Command::Checksum) {
            // It takes as long as the shard is large, and begins anew with every attempt.
            let send = |attempt| self.send_command(shard, command.clone(), &Aside::None, attempt);
            return self.until_deadline(Effect::Changes, send).await;
        }
        self.propose_noted(shard, command, &Aside::None).await.map(|(outcome, _)| outcome)
    }

    async fn send_command(&self, shard: ShardId, command: Command, aside: &Aside, attempt: Attempt) -> Result<Outcome> {
        match self.leader_of(shard, attempt.number)? {
            Place::Here(group) => group.propose_with(command, aside.clone(), attempt.left).await,
            Place::There(peer) => {
                let node = &self.node.inner;
                let deadline_ms = u64::try_from(attempt.left.as_millis()).unwrap_or(u64::MAX);
                let wire = peer_messages::propose_wire(command, aside, node.hlc.read(), deadline_ms);
                let body = peer_messages::pack(&wire);
                let answer: Bytes = self.ask(&peer, PeerCall::Propose, shard, body, attempt.left).await?;
                let (outcome, hlc) = peer_messages::decode_outcome(&answer)?;
                node.hlc.hear(hlc, node.parts.clock.now_ms());
                Ok(outcome)
            }
        }
    }

    /// Writes into the log of a shard how calls ended that have left their notes there.
    pub async fn note_outcomes(&self, shard: ShardId, outcomes: Outcomes) -> Result<()> {
        self.propose_noted(shard, Command::MoveClock, &Aside::Outcomes(outcomes)).await.map(drop)
    }

    /// Sends each shard its part of the fan-out, some at once.
    pub(super) async fn fan_out_all(&self, fan_out: FanOut) -> Result<FannedOut> {
        let map = self.node.inner.map_or_wait()?;
        let parts = peer_messages::split_fan_out(&fan_out, |key| Ok(map.locate(key)?.id))?;
        let at_once = parts_at_once(fan_out.targets.len(), parts.len());
        let call = call::current();
        let send = |(shard, part): (ShardId, FanOut)| {
            let call = call.clone();
            async move {
                let aside = aside_of(call.as_deref(), shard);
                (self.propose_noted(shard, Command::FanOut(part), &aside).await, aside)
            }
        };
        let sends: Vec<_> = parts.into_iter().map(send).collect();
        let mut sends = futures::stream::iter(sends).buffer_unordered(at_once);
        let mut total = FannedOut::default();
        while let Some((outcome, aside)) = sends.next().await {
            if let (Some(call), Aside::Note(_)) = (&call, aside) {
                call.carried(matches!(outcome, Ok((Outcome::FannedOut(_), _))));
            }
            match outcome?.0 {
                Outcome::FannedOut(part) => {
                    total.applied += part.applied;
                    total.skipped += part.skipped;
                }
                Outcome::Refused(error) => return Err(error),
                other => return Err(Error::corrupt(format!("a fan-out was answered by {other:?}"))),
            }
        }
        Ok(total)
    }
}

/// How many parts of a fan-out are sent at once, of `parts` with so many targets together.
fn parts_at_once(targets: usize, parts: usize) -> usize {
    let each = (targets / parts.max(1)).max(1);
    (TARGETS_AT_ONCE / each).clamp(PARTS_AT_ONCE.0, PARTS_AT_ONCE.1)
}

/// What the entry of a write to `shard` says of the call that the write is of.
fn aside_of(call: Option<&Call>, shard: ShardId) -> Aside {
    call.and_then(|call| call.note(shard)).map_or(Aside::None, Aside::Note)
}

fn written(outcome: Outcome) -> Result<Written> {
    match outcome {
        Outcome::Written(written) => Ok(written),
        Outcome::Refused(error) => Err(error),
        other => Err(Error::corrupt(format!("a write was answered by {other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::parts_at_once;

    #[test]
    fn small_parts_go_together_and_large_ones_by_two() {
        for (targets, parts, at_once) in [(1_024, 8, 2), (65_536, 8, 2), (1_024, 64, 16), (100, 100, 32), (0, 0, 32)] {
            assert_eq!(parts_at_once(targets, parts), at_once, "{targets} in {parts} shards");
        }
    }
}
