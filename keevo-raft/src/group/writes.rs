//! Writes of one group: a command becomes an entry with the leader's clock, and is proposed.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use keevo_core::trace::{self, Span, SpanKind, Trace, TraceContext};
use keevo_core::{Command, Entry as CommandEntry, Error, ErrorKind, Hlc, Op, Outcome, Result};
use openraft::errors::{ClientWriteError, RaftError};
use tokio::time::Instant;

use super::proposer::Proposed;
use super::{Group, PROPOSALS_MAX, forward_error};
use crate::peer_messages::Aside;
use crate::stages::Stage;
use crate::types::{Payload, TypeConfig};

/// From how long on the stages of a write are told one by one.
const TOLD_FROM: Duration = Duration::from_millis(5);
/// What an entry takes in the log beside keys and values, in bytes.
const ENTRY_BYTES: usize = 64;

impl Group {
    /// Proposes a command and waits until it is applied here.
    pub fn propose(&self, command: Command, deadline: Duration) -> BoxFuture<'_, Result<Outcome>> {
        self.propose_with(command, Aside::None, deadline)
    }

    /// As [`Group::propose`]; the entry also says something of API calls.
    pub(crate) fn propose_with(
        &self,
        command: Command,
        aside: Aside,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Outcome>> {
        Box::pin(self.propose_within(command, aside, deadline))
    }

    async fn propose_within(&self, command: Command, aside: Aside, deadline: Duration) -> Result<Outcome> {
        let _permit = self.proposals.try_acquire().map_err(|error| {
            Error::new(
                ErrorKind::ResourceExhausted,
                format!("shard {} has {PROPOSALS_MAX} writes under way", self.shard),
            )
            .with_source(error)
        })?;
        // A move of the clock is what a read needs to go on, the archive's cursor is what lets the log be purged; both
        // are a few bytes.
        let exempt = matches!(command, Command::MoveClock | Command::Archived(_));
        if !exempt {
            self.shared.archive.admit()?;
        }
        self.admit_level(command.level())?;
        let entry = CommandEntry { hlc: Hlc::default(), command };
        let timed = Timed::begin(self);
        let _room = if exempt { None } else { Some(self.context.gate.admit_write(entry_bytes(&entry, &aside)).await?) };
        let admitted = Instant::now();
        let write = self.put(entry, &aside, timed.context)?;
        let written = tokio::time::timeout(deadline, write).await;
        timed.end(admitted, written.as_ref().ok().and_then(|written| written.as_ref().ok()).map(|(index, _)| *index));
        match written {
            Ok(Ok((_, applied))) => applied
                .0
                .ok_or_else(|| Error::new(ErrorKind::OutcomeUnknown, "the entry was applied without an outcome")),
            Ok(Err(error)) => Err(self.write_error(error)),
            Err(_elapsed) => Err(Error::new(
                ErrorKind::OutcomeUnknown,
                format!("shard {} did not commit the write within {} ms", self.shard, deadline.as_millis()),
            )),
        }
    }

    /// Nothing is proposed that a node of the cluster may not know: a replica that meets such an entry stops.
    fn admit_level(&self, needed: u32) -> Result<()> {
        admit(needed, self.context.level.load(Ordering::Acquire))
    }

    /// Gives an entry its clock and its place behind all that were put before: one lock over both, so that clocks do not
    /// fall from one entry to the next.
    fn put(
        &self,
        mut entry: CommandEntry,
        aside: &Aside,
        context: Option<TraceContext>,
    ) -> Result<impl Future<Output = Proposed> + use<>> {
        let mut hlc = self.hlc.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = self.context.clock.now_ms();
        // Another leader's clock may have been ahead of this node's.
        let known = self.context.hlc.read().max(self.reader.clock());
        *hlc = hlc.max(known).next(now_ms);
        // A shard's clock that is far off stays that shard's.
        self.context.hlc.hear(*hlc, now_ms);
        entry.hlc = *hlc;
        let entry = aside.append_to(entry.encode());
        let entry = match context {
            Some(context) => context.append_to(&entry),
            None => entry,
        };
        self.proposer.propose(Payload(entry))
    }

    pub(super) fn write_error(&self, error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Error {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => forward_error(self.shard, &forward),
            RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => Error::new(
                ErrorKind::OutcomeUnknown,
                format!("shard {} changed its leader while the write was under way", self.shard),
            ),
            RaftError::APIError(other) => Error::new(ErrorKind::Conflict, format!("shard {}: {other}", self.shard)),
            RaftError::Fatal(error) => Error::new(
                ErrorKind::OutcomeUnknown,
                format!("the replica of shard {} stopped during the write: {error}", self.shard),
            ),
        }
    }
}

/// Refuses what `needed` brings in a cluster at `level`.
fn admit(needed: u32, level: u32) -> Result<()> {
    if needed <= level {
        return Ok(());
    }
    let message = format!(
        "this needs a cluster at level {needed}, and it is at {level}: restart all nodes with the new release, then run \
         `keevo-cli cluster upgrade --finalize`"
    );
    Err(Error::new(ErrorKind::Conflict, message))
}

/// A write whose time is taken.
struct Timed<'a> {
    group: &'a Group,
    began: Instant,
    trace: Option<Arc<Trace>>,
    /// The span that the call's own span begins here.
    parent: Option<TraceContext>,
    /// That of the write, which its entry carries.
    context: Option<TraceContext>,
}

impl<'a> Timed<'a> {
    fn begin(group: &'a Group) -> Self {
        let trace = trace::current();
        let parent = trace.as_ref().and_then(|trace| trace.context());
        let sink = group.context.gate.stages().sink();
        let context = parent.zip(sink).map(|(parent, sink)| parent.at(sink.new_id()));
        Self { group, began: Instant::now(), trace, parent, context }
    }

    /// The write was let in at `admitted`, and was applied as the entry at `index` or is not answered.
    fn end(self, admitted: Instant, index: Option<u64>) {
        let (ended, shard, stages) = (Instant::now(), Some(self.group.shard), self.group.context.gate.stages());
        stages.took(Stage::Gate, admitted.saturating_duration_since(self.began));
        stages.took(Stage::Write, ended.saturating_duration_since(self.began));
        if let (Some(parent), Some(context)) = (self.parent, self.context) {
            stages.span(Span {
                name: "raft.propose".into(),
                kind: SpanKind::Internal,
                trace_id: parent.trace_id,
                parent: Some(parent.span_id),
                id: Some(context.span_id),
                shard,
                began: self.began,
                ended,
                failed: index.is_none(),
            });
        }
        let Some(trace) = self.trace.filter(|_| ended.saturating_duration_since(self.began) >= TOLD_FROM) else {
            return;
        };
        trace.part(Stage::Gate.name(), shard, self.began, admitted);
        let Some(moments) = index.and_then(|index| self.group.shared.progress.moments(index)) else {
            trace.part(Stage::Write.name(), shard, admitted, ended);
            return;
        };
        trace.part(Stage::Queue.name(), shard, admitted, moments.submitted);
        if let Some(flushed) = moments.flushed {
            trace.part(Stage::Flush.name(), shard, moments.submitted, flushed);
        }
        if let Some((began, applied)) = moments.apply {
            trace.part(Stage::Commit.name(), shard, moments.submitted, began);
            trace.part(Stage::Apply.name(), shard, began, applied);
        }
    }
}

/// About how many bytes a command takes in the log; a fan-out counts as what it becomes when it is applied.
fn entry_bytes(entry: &CommandEntry, aside: &Aside) -> u64 {
    let bytes = match &entry.command {
        Command::FanOut(fan_out) => fan_out.expanded_bytes(),
        Command::Write(batch) => batch.ops.iter().map(op_bytes).sum(),
        Command::Restore(restore) => restore.bytes(),
        Command::OpenSession(_) | Command::Checksum | Command::MoveClock | Command::Archived(_) => 0,
    };
    u64::try_from(bytes.saturating_add(ENTRY_BYTES).saturating_add(aside.bytes())).unwrap_or(u64::MAX)
}

fn op_bytes(op: &Op) -> usize {
    let value = match op {
        Op::Put { value, .. } | Op::Append { value, .. } => value.len(),
        Op::Delete { .. } | Op::DeleteRange { .. } | Op::Merge { .. } => 0,
    };
    op.key().partition.len() + op.key().sort.len() + value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_above_the_level_of_the_cluster_is_let_in() {
        assert!(admit(1, 1).is_ok() && admit(1, 2).is_ok());
        let refused = admit(2, 1).expect_err("a node may not know it");
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        assert!(refused.message().contains("--finalize"), "{refused}");
    }
}
