//! What is written to a log store: one operation per call, kept in the order of the calls.

use bytes::Bytes;
use keevo_core::mutants::{self, Mutant};
use keevo_core::{Error, Result};

use super::GroupId;
use crate::types::{Entry, LogId, Vote};

/// What an operation costs in the queue beside its entries.
const BASE_BYTES: usize = 256;

/// One write.
#[derive(Debug, Clone)]
pub(super) enum LogOp {
    /// Adds entries at the end; none at all only waits for what came before.
    Append { group: GroupId, entries: Vec<Entry> },
    /// Replaces the vote.
    Vote { group: GroupId, vote: Vote },
    /// Replaces the committed mark.
    Committed { group: GroupId, committed: Option<LogId> },
    /// Removes the entries from `from` on.
    Truncate { group: GroupId, from: u64 },
    /// Removes the entries up to `upto`, from `from` on, and notes `upto`.
    Purge {
        group: GroupId,
        #[cfg_attr(not(feature = "rocksdb"), allow(dead_code, reason = "RocksDB's store needs it"))]
        from: u64,
        upto: LogId,
    },
    /// Removes every row of a group.
    Destroy { group: GroupId },
    /// Replaces the store's stamp.
    Stamp(Bytes),
    /// Changes nothing; makes what came before durable.
    Sync,
}

impl LogOp {
    /// Whether its caller waits until it is durable.
    pub(super) fn needs_sync(&self) -> bool {
        match self {
            Self::Append { .. } | Self::Vote { .. } | Self::Destroy { .. } | Self::Stamp(_) | Self::Sync => true,
            Self::Committed { .. } | Self::Truncate { .. } | Self::Purge { .. } => false,
        }
    }

    /// The same, but for the call that a mutant confirms too early.
    pub(super) fn needs_durability(&self) -> bool {
        let confirmed_early = match self {
            Self::Append { .. } => mutants::is_on(Mutant::SkipLogSync),
            Self::Vote { .. } => mutants::is_on(Mutant::VoteNotDurable),
            _ => false,
        };
        self.needs_sync() && !confirmed_early
    }

    /// The group that it belongs to.
    pub(super) fn group(&self) -> Option<GroupId> {
        match self {
            Self::Append { group, .. }
            | Self::Vote { group, .. }
            | Self::Committed { group, .. }
            | Self::Truncate { group, .. }
            | Self::Purge { group, .. }
            | Self::Destroy { group } => Some(*group),
            Self::Stamp(_) | Self::Sync => None,
        }
    }
}

/// What appending `entries` costs in the queue, in bytes.
pub(super) fn queue_bytes(entries: &[Entry]) -> usize {
    BASE_BYTES + entries.iter().map(crate::wire::entry_bytes).sum::<usize>()
}

/// Refuses entries that would leave a hole or overwrite others, in a log that goes on at `next`, or
/// anywhere if there is none.
pub(super) fn check_append(entries: &[Entry], next: Option<u64>) -> Result<()> {
    let mut next = next;
    for entry in entries {
        let index = entry.log_id.index;
        if next.is_some_and(|next| next != index) {
            let next = next.unwrap_or_default();
            return Err(Error::invalid(format!(
                "an append at index {index} does not follow the log, which goes on at {next}"
            )));
        }
        let after = index.checked_add(1);
        next = Some(after.ok_or_else(|| Error::invalid("an append reaches the end of all indexes"))?);
    }
    Ok(())
}
