//! Where a replica stands, as its rows say: what it has applied and flushed, and how far its log is archived.

use std::sync::PoisonError;

use bytes::Bytes;
use keevo_core::mutants::{self, Mutant};
use keevo_core::system::{self, ShardState};
use keevo_core::{Archived, Column, ExpiryClock, Result, Store};

use super::SharedMachine;
use crate::types::{LogId, StoredMembership};
use crate::wire;

impl SharedMachine {
    /// The shard's clock as of the last flush, and the keys it is the clock of; `None` before the first one.
    pub(crate) fn flushed_clock(&self) -> Result<Option<ExpiryClock>> {
        let row = self.store.get_flushed(&system::row_key(self.shard, system::STATE))?;
        let state = row.map(|row| ShardState::decode(&row)).transpose()?;
        let (lower, upper) = self.range.clone();
        let upper = if upper.is_empty() { Bytes::from_static(&[keevo_core::CLASS_END]) } else { upper };
        Ok(state.map(|state| ExpiryClock { lower, upper, now_ms: state.hlc.ms() }))
    }

    /// The log id and membership as of the last flush.
    pub(super) fn flushed_position(&self) -> Result<(Option<LogId>, StoredMembership)> {
        self.position(!mutants::is_on(Mutant::PurgePastFlush))
    }

    /// Notes up to where the log may go, of what is flushed, but for its last `kept` entries; `false` = no further than
    /// before.
    pub(crate) fn mark_flushed(&self, kept: u64) -> Result<bool> {
        let position = self.archive.purge_by(self.flushed_position()?, kept);
        let moves = position.is_some();
        if moves {
            *self.mark.lock().unwrap_or_else(PoisonError::into_inner) = position;
        }
        Ok(moves)
    }

    /// Where the archive's cursor is, as the rows say.
    pub(crate) fn archived(&self) -> Result<Option<Archived>> {
        let row = self.store.get(Column::Data, &system::row_key(self.shard, system::ARCHIVED))?;
        row.map(|row| system::decode_archived(&row)).transpose()
    }

    /// Tells the hold on the log what the rows say.
    pub(super) fn load_archived(&self) -> Result<()> {
        self.archive.set_archived(self.archived()?.map(|archived| archived.upto));
        Ok(())
    }

    /// The log id and membership that the rows say, as of now or as of the last flush.
    pub(crate) fn position(&self, flushed: bool) -> Result<(Option<LogId>, StoredMembership)> {
        let read = |tag: u8| {
            let key = keevo_core::encode_system(self.shard, tag).freeze();
            if flushed { self.store.get_flushed(&key) } else { self.store.get(Column::Data, &key) }
        };
        decode_position(read(system::APPLIED)?, read(system::MEMBERSHIP)?)
    }
}

/// Decodes the applied and the membership row.
pub(crate) fn decode_position(
    applied: Option<Bytes>,
    membership: Option<Bytes>,
) -> Result<(Option<LogId>, StoredMembership)> {
    let applied = applied.map(|row| wire::decode_log_id(&row)).transpose()?;
    let membership = membership.map(|row| wire::decode_stored_membership(&row)).transpose()?.unwrap_or_default();
    Ok((applied, membership))
}
