//! Rebuilding a shard as it was: the rows of the backup, then the archived entries that followed, applied by the state
//! machine itself, up to a moment.
//!
//! ```text
//! chunks ─▶ a store of its own ─▶ Machine::apply(entries of index > the backup's, while the shard's clock ≤ the moment)
//! ```
//!
//! Invariant: what comes out is what the shard was at that moment, by its own clock: preconditions, sessions, revisions
//! and expiry are decided as they were, since the same code decides them from the same state.

use std::ops::ControlFlow;

use bytes::Bytes;
use keevo_core::machine::Machine;
use keevo_core::system::{self, ShardState};
use keevo_core::{
    Column, DataStore, Direction, Durability, Entry, Error, Hlc, Result, ShardId, Store, StoreBatch, StoreOp,
    StoredRecord,
};
use keevo_raft::{LoggedEntry, LoggedKind};

use crate::load;
use crate::manifest::ShardFile;
use crate::reader::Archive;
use crate::storage::Storage;

/// How many entries are applied in one batch.
const ENTRIES: usize = 512;

/// Up to which moment a shard is rebuilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// As it is in the backup, each shard as of its own moment.
    Backup,
    /// With the archived changes whose clock is not later than this.
    Clock(Hlc),
}

/// An encoded key and what is stored under it.
pub type Row = (Bytes, StoredRecord);

/// A shard, rebuilt in a store.
#[derive(Debug)]
pub struct Rebuilt {
    store: DataStore,
    range: (Bytes, Bytes),
    /// Its state at the end.
    pub state: ShardState,
    /// How many entries of the archive were applied.
    pub entries: u64,
    /// The clock of the last entry that was read: if it is not later than the moment, the archive has nothing later.
    pub archived_to: Hlc,
}

/// Rebuilds a shard of `cluster` in the empty store `store`. Blocks for short times.
///
/// `Invalid`: the moment is before the backup. `NotFound`: the archive lacks entries. `Corrupt`: the backup or the archive
/// is damaged; the error names the object.
pub async fn rebuild(
    storage: &dyn Storage,
    archive: &Archive,
    file: &ShardFile,
    until: Until,
    store: DataStore,
) -> Result<Rebuilt> {
    if let Until::Clock(hlc) = until
        && hlc < file.hlc
    {
        let message = format!("the backup holds shard {} as of {} ms, which is later", file.shard, file.hlc.ms());
        return Err(Error::invalid(message));
    }
    let cluster = archive.cluster();
    for chunk in &file.system {
        put(&store, load::chunk(storage, cluster, chunk).await?)?;
    }
    for chunk in &file.records {
        put(&store, load::records(storage, cluster, chunk).await?)?;
    }
    let machine = Machine::open(store.clone(), cluster, file.shard, file.range.clone())?;
    let mut replay = Replay { machine, clock: file.hlc, entries: 0, archived_to: file.hlc, waiting: Vec::new() };
    if let Until::Clock(hlc) = until {
        replay.run(archive, file, hlc).await?;
    }
    let row = store.get(Column::Data, &system::row_key(file.shard, system::STATE))?;
    let state = row.map(|row| ShardState::decode(&row)).transpose()?.unwrap_or_default();
    let Replay { entries, archived_to, .. } = replay;
    Ok(Rebuilt { store, range: file.range.clone(), state, entries, archived_to })
}

fn put(store: &DataStore, rows: Vec<(Bytes, Bytes)>) -> Result<()> {
    let ops = rows.into_iter().map(|(key, row)| StoreOp::Put(Column::Data, key, row)).collect();
    store.write(StoreBatch { ops }, Durability::Unlogged)
}

/// Entries on their way into a machine.
struct Replay {
    machine: Machine<DataStore>,
    /// The shard's clock after the entries so far.
    clock: Hlc,
    entries: u64,
    archived_to: Hlc,
    waiting: Vec<(u64, Entry)>,
}

impl Replay {
    async fn run(&mut self, archive: &Archive, file: &ShardFile, until: Hlc) -> Result<()> {
        let mut log = archive.log_from(file.shard, file.index.saturating_add(1)).await?;
        let mut term = file.term;
        'log: while let Some(entries) = log.next_entries().await? {
            for entry in entries {
                if entry.term < term {
                    let message = format!(
                        "the archive of shard {} does not follow the backup: entry {} is of term {}, after term {term}",
                        file.shard, entry.index, entry.term
                    );
                    return Err(Error::corrupt(message));
                }
                term = entry.term;
                if !self.take(file.shard, &entry, until)? {
                    break 'log;
                }
            }
        }
        self.flush()
    }

    /// Takes an entry; `false` = it, and all after it, come after the moment.
    fn take(&mut self, shard: ShardId, entry: &LoggedEntry, until: Hlc) -> Result<bool> {
        if entry.kind != LoggedKind::Command {
            return Ok(true);
        }
        let command = Entry::decode(&entry.payload).map_err(|error| {
            let message = format!("archived entry {} of shard {shard}: {}", entry.index, error.message());
            Error::new(error.kind(), message)
        })?;
        self.archived_to = self.archived_to.max(command.hlc);
        let clock = self.clock.max(command.hlc);
        if clock > until {
            return Ok(false);
        }
        self.clock = clock;
        self.entries += 1;
        self.waiting.push((entry.index, command));
        if self.waiting.len() >= ENTRIES {
            self.flush()?;
        }
        Ok(true)
    }

    fn flush(&mut self) -> Result<()> {
        self.machine.apply(std::mem::take(&mut self.waiting), Vec::new(), Durability::Unlogged).map(drop)
    }
}

impl Rebuilt {
    /// Visits the records from the encoded key `from` on, up to about `bytes_max` bytes: live ones and live tombstones, as
    /// they are stored. Gives the key to go on from; `None` at the end. Blocks.
    pub fn records(&self, from: Option<&Bytes>, bytes_max: usize) -> Result<(Vec<Row>, Option<Bytes>)> {
        let (lower, upper) = (from.unwrap_or(&self.range.0), &self.range.1);
        let now_ms = self.state.hlc.ms();
        let (mut records, mut bytes, mut next) = (Vec::new(), 0, None);
        self.store.scan(Column::Data, lower, upper, Direction::Forward, &mut |key, stored| {
            let key = Bytes::copy_from_slice(key);
            if bytes >= bytes_max {
                next = Some(key);
                return Ok(ControlFlow::Break(()));
            }
            let record = StoredRecord::decode(&key, &Bytes::copy_from_slice(stored))?;
            if !record.is_expired(now_ms) {
                bytes += key.len() + stored.len();
                records.push((key, record));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok((records, next))
    }
}
