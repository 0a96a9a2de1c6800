//! What the archive of the log and a backup read of a replica.

use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use keevo_core::system::{self, ShardState};
use keevo_core::{Archived, Command, Direction, Error, ErrorKind, Outcome, Result, ShardId, Store};

use super::Group;
use crate::node::{ArchiveState, LoggedEntry, ShardCopy};
use crate::state_machine::decode_position;

impl Group {
    /// Where the archive stands, if this replica leads.
    pub(crate) fn archive_state(&self) -> Result<Option<ArchiveState>> {
        if !self.is_leader() {
            return Ok(None);
        }
        let log = self.context.log.log_state(self.shard.0)?;
        Ok(Some(ArchiveState {
            shard: self.shard,
            archived: self.shared.archived()?,
            first_held: log.last_purged_log_id.map_or(0, |purged| purged.index.saturating_add(1)),
            applied_to: self.shared.applied_to(),
            waiting_bytes: self.shared.archive.waiting_bytes(),
        }))
    }

    /// Applied entries from index `from` on, as many as fit `bytes_max`; at least one, if there is one. `NotFound` when
    /// the log does not reach back so far.
    pub(crate) async fn applied_entries(&self, from: u64, bytes_max: usize) -> Result<Vec<LoggedEntry>> {
        let to = self.shared.applied_to();
        if from >= to {
            return Ok(Vec::new());
        }
        let entries = self.context.log.read(self.shard.0, from..to, bytes_max).await?;
        if entries.first().is_some_and(|first| first.log_id.index == from) {
            return Ok(entries.into_iter().map(LoggedEntry::from).collect());
        }
        let message = format!("the log of shard {} does not hold entry {from} any more", self.shard);
        Err(Error::new(ErrorKind::NotFound, message))
    }

    /// Notes in the shard how far the archive holds its log. Leader only.
    pub(crate) async fn note_archived(&self, archived: Archived, deadline: Duration) -> Result<()> {
        match self.propose(Command::Archived(archived), deadline).await? {
            Outcome::Refused(error) => Err(error),
            _ => Ok(()),
        }
    }

    /// The shard as of now, to be read at leisure, with all that was acknowledged before the call. Leader only.
    pub(crate) async fn copy(&self, deadline: Duration) -> Result<ShardCopy> {
        self.read_barrier(deadline).await?;
        let view = self.shared.store.view()?;
        let (start, end) = (system::row_key(self.shard, 0), system::row_key(ShardId(self.shard.0 + 1), 0));
        let (mut state, mut applied) = (ShardState::default(), None);
        let keys = [system::STATE, system::APPLIED].map(|tag| system::row_key(self.shard, tag));
        let [state_key, applied_key] = &keys;
        view.scan(&start, &end, Direction::Forward, &mut |key, row| {
            if key == state_key {
                state = ShardState::decode(row)?;
            } else if key == applied_key {
                applied = decode_position(Some(Bytes::copy_from_slice(row)), None)?.0;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        self.shared.check_open()?;
        Ok(ShardCopy {
            shard: self.shard,
            range: self.shared.range.clone(),
            state,
            term: applied.map_or(0, |log_id| log_id.leader_id.term),
            index: applied.map_or(0, |log_id| log_id.index),
            view,
        })
    }
}
