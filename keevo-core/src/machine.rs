//! The state machine of a shard: applies log entries to a store. Every engine that keeps data on disk uses it.
//!
//! ```text
//! entries ──▶ Applier (overlay over the store) ──▶ ONE StoreBatch: records, sessions, changes, state row
//!                                                  └▶ then: clock, applied revision ──▶ ShardReader, watches
//! ```
//!
//! Invariant: the same entries give the same rows, however they are cut into calls. After a failure in the
//! middle of a call, memory and disk may differ: the machine then refuses every further call.

mod apply;
mod changes;
mod guards;
mod overlay;
mod page;
mod reader;
mod session;
mod shared;
mod view;
mod watcher;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

pub use changes::Retention;
#[cfg(feature = "fuzzing")]
pub(crate) use changes::{decode_last, decode_starts};
pub use reader::ShardReader;
#[cfg(feature = "fuzzing")]
pub(crate) use session::decode_header;
pub use view::{ShardView, scan_in_view};

use crate::command::{Command, Entry, Hlc, Outcome};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{ClusterId, Revision, ShardId};
use crate::store::{Column, Durability, Store, StoreBatch};
use crate::system::{STATE, ShardState, row_key};
use apply::Applier;
use changes::ChangeLog;
use guards::Guards;
use overlay::Overlay;
use session::Sessions;
use shared::{Place, Shared};

/// The state machine of one shard.
#[derive(Debug)]
pub struct Machine<S: Store> {
    store: S,
    retention: Retention,
    state: ShardState,
    sessions: Sessions,
    changes: ChangeLog,
    guards: Guards,
    shared: Arc<Shared>,
    applied_tx: watch::Sender<Revision>,
    /// Why it stopped.
    failed: Option<Error>,
}

impl<S: Store> Machine<S> {
    /// Opens the machine of `shard`, which owns the encoded keys of `range` (start included, end not; an
    /// empty end means the end of all keys), from the rows in `store`.
    ///
    /// Fails with `Corrupt` or `NewerFormat` if a row does not decode, and with the store's own errors.
    pub fn open(store: S, cluster: ClusterId, shard: ShardId, range: (Bytes, Bytes)) -> Result<Self> {
        Self::open_with(store, cluster, shard, range, Retention::default())
    }

    /// As [`Machine::open`], with bounds of its own on the changes that are kept for watches.
    pub fn open_with(
        store: S,
        cluster: ClusterId,
        shard: ShardId,
        range: (Bytes, Bytes),
        retention: Retention,
    ) -> Result<Self> {
        let (applied_tx, applied_rx) = watch::channel(Revision::default());
        let shared = Arc::new(Shared::new(Place::new(cluster, shard, range), applied_rx));
        let (state, sessions, changes) = load(&store, &shared, retention)?;
        let guards = Guards::default();
        let machine = Self { store, retention, state, sessions, changes, guards, shared, applied_tx, failed: None };
        machine.publish();
        Ok(machine)
    }

    /// Applies entries in order and writes the result, together with the caller's own `rows` of the data
    /// column, in one atomic batch. Each entry comes with its log index; indexes ascend, above those applied.
    ///
    /// Returns one outcome per entry. An error means that nothing was written or that it is unknown whether
    /// it was; except for `Invalid` (an index out of order) the machine then refuses further calls with `Io`
    /// until [`Machine::reload`].
    pub fn apply(
        &mut self,
        entries: Vec<(u64, Entry)>,
        rows: Vec<(Bytes, Bytes)>,
        durability: Durability,
    ) -> Result<Vec<Outcome>> {
        if let Some(failed) = &self.failed {
            return Err(Error::new(ErrorKind::Io, self.stopped_message()).with_source(failed.clone()));
        }
        if entries.is_empty() && rows.is_empty() {
            return Ok(Vec::new());
        }
        let entries = self.with_revisions(entries)?;
        let applied = self.apply_all(entries, rows, durability);
        if let Err(error) = &applied {
            tracing::error!(shard = %self.shared.place.shard, %error, "the shard's state machine stops");
            self.failed = Some(error.clone());
        }
        applied
    }

    fn stopped_message(&self) -> String {
        format!("shard {} has stopped after a failed write", self.shared.place.shard)
    }

    fn with_revisions(&self, entries: Vec<(u64, Entry)>) -> Result<Vec<(Revision, Entry)>> {
        let (mut last, mut base) = (self.state.revision, self.state.base);
        let in_order = entries.into_iter().map(|(index, entry)| {
            if let Command::Restore(restore) = &entry.command {
                base = base.max(restore.base);
            }
            let revision = Revision(base.saturating_add(index));
            if revision <= last || revision.0 == u64::MAX {
                return Err(Error::invalid(format!("log index {index} would give revision {revision} after {last}")));
            }
            last = revision;
            Ok((revision, entry))
        });
        in_order.collect()
    }

    fn apply_all(
        &mut self,
        entries: Vec<(Revision, Entry)>,
        rows: Vec<(Bytes, Bytes)>,
        durability: Durability,
    ) -> Result<Vec<Outcome>> {
        let count = entries.len();
        let mut applier = Applier {
            store: &self.store,
            place: &self.shared.place,
            state: &mut self.state,
            sessions: &mut self.sessions,
            changes: &mut self.changes,
            overlay: Overlay::new(&mut self.guards),
            checksum: None,
            archived: None,
            restores: None,
        };
        let outcomes = applier.apply(entries)?;
        let batch = applier.finish(rows, count);
        self.shared.set_floor(self.changes.floor());
        self.store.write(batch, durability)?;
        if count > 0 {
            self.publish();
        }
        Ok(outcomes)
    }

    fn publish(&self) {
        self.shared.set_floor(self.changes.floor());
        self.shared.set_clock(self.state.hlc);
        self.applied_tx.send_replace(self.state.revision);
    }

    /// Loads everything again from the store, after an installed snapshot has replaced the shard's rows.
    /// Watches that have not seen all changes up to the snapshot end with `CursorCompacted`.
    pub fn reload(&mut self) -> Result<()> {
        self.guards.forget_all();
        let loaded = load(&self.store, &self.shared, self.retention);
        match loaded {
            Ok((state, sessions, changes)) => {
                (self.state, self.sessions, self.changes, self.failed) = (state, sessions, changes, None);
                self.publish();
                Ok(())
            }
            Err(error) => {
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    /// A reader of what is applied. Cheap; clones share everything.
    pub fn reader(&self) -> ShardReader<S> {
        ShardReader::new(self.store.clone(), Arc::clone(&self.shared))
    }

    /// The shard clock: the latest clock of any applied entry.
    pub fn clock(&self) -> Hlc {
        self.state.hlc
    }

    /// The revision of the last applied entry; 0 before the first.
    pub fn revision(&self) -> Revision {
        self.state.revision
    }

    /// What is added to a log index to give a revision.
    pub fn base(&self) -> u64 {
        self.state.base
    }
}

/// Loads a shard from its rows. Changes that are severed from the state are removed.
fn load<S: Store>(store: &S, shared: &Shared, retention: Retention) -> Result<(ShardState, Sessions, ChangeLog)> {
    let shard = shared.place.shard;
    let row = store.get(Column::Data, &row_key(shard, STATE))?;
    let state = row.map(|row| ShardState::decode(&row)).transpose()?.unwrap_or_default();
    let sessions = Sessions::load(store, shard)?;
    let (changes, ops) = ChangeLog::load(store, shard, retention, &state)?;
    if !ops.is_empty() {
        shared.set_floor(changes.floor());
        // Lost in a crash, it is done again at the next start; so it need not be durable by itself.
        store.write(StoreBatch { ops }, Durability::Unlogged)?;
    }
    Ok((state, sessions, changes))
}

#[cfg(test)]
mod tests;
