//! A group's state machine: openraft's view of a [`Machine`].
//!
//! Invariant: the applied log id and the membership are written in the same store batch as the records that
//! the entries changed, so that after a crash data and applied index agree, and replay starts where the data
//! ends.
//!
//! Once the replica is closed nothing is applied or installed any more, so that its rows can be destroyed behind it.
//!
//! Snapshots: `build_snapshot` writes nothing. It reports the *flushed* applied id, which is what lets openraft
//! purge the log; `get_current_snapshot` gives a handle whose files are exported only when they are sent.

mod catch_up;
mod position;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::vec::IntoIter;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use keevo_core::machine::{Machine, ShardView};
use keevo_core::mutants::{self, Mutant};
use keevo_core::trace::TraceContext;
use keevo_core::views::Views;
use keevo_core::{
    Archived, Column, Command, DataStore, Durability, Entry as CommandEntry, Error, ErrorKind, Result, ShardId,
    SnapshotFile, Store, StoreBatch, StoreOp, failpoint, system,
};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use tokio::time::Instant;

pub(crate) use position::decode_position;

use crate::archive_hold::{ArchiveHold, ArchiveLimits};
use crate::backlog::Backlog;
use crate::blocking;
use crate::gate::Gate;
use crate::stages::Progress;
use crate::types::{
    Applied, ApplyResponder, EntryPayload, LogId, Membership, Snapshot, SnapshotMeta, StoredMembership, TypeConfig,
};
use crate::wire;

/// The most entries that one store batch applies.
const APPLY_ENTRIES_MAX: usize = 256;
/// The bytes after which a store batch takes no further entry, counted as they are written: a fan-out for all of its
/// targets. Few, since the thread does nothing else meanwhile.
const APPLY_BYTES_MAX: usize = 32 << 10;
/// From how many bytes on a store batch waits for its turn among those of all replicas.
const LARGE_BYTES: usize = 16 << 10;
/// How often a store that has no space is asked whether it has some.
const SPACE_POLL: Duration = Duration::from_millis(50);

/// What openraft passes around as a snapshot.
#[derive(Debug)]
pub(crate) enum GroupSnapshot {
    /// The state as it is: exported when it is sent.
    Live,
    /// Files that arrived from the leader, verified when they are installed.
    Received(StagedFiles),
}

/// Snapshot files in a folder of their own, which goes when this is dropped. No two have the same folder.
#[derive(Debug)]
pub struct StagedFiles {
    /// The folder.
    pub dir: PathBuf,
    /// The files in it.
    pub files: Vec<SnapshotFile>,
}

impl StagedFiles {
    /// An empty folder `dir/NAME-NUMBER` that nobody else has. `Io`, or `ResourceExhausted` when the disk is full.
    pub(crate) fn new(dir: &Path, name: &str) -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let staged = Self { dir: dir.join(format!("{name}-{number}")), files: Vec::new() };
        std::fs::create_dir_all(&staged.dir).map_err(|error| {
            let full = error.kind() == io::ErrorKind::StorageFull;
            let kind = if full { ErrorKind::ResourceExhausted } else { ErrorKind::Io };
            Error::new(kind, "a snapshot's staging folder cannot be made").with_source(error)
        })?;
        Ok(staged)
    }
}

impl Drop for StagedFiles {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.dir)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(dir = %self.dir.display(), %error, "a snapshot's staging folder could not be removed");
        }
    }
}

/// The machine of a shard, shared by the group's parts. Applies come from one task; the lock is for exports.
pub(crate) struct SharedMachine {
    machine: Mutex<Machine<DataStore>>,
    pub(crate) store: DataStore,
    pub(crate) shard: ShardId,
    pub(crate) range: (Bytes, Bytes),
    /// Ended when what they show is replaced or removed.
    views: Arc<Views<ShardView>>,
    /// Set, under the machine's lock, before the rows are destroyed.
    closed: AtomicBool,
    /// The index after the last one that is applied.
    applied_to: AtomicU64,
    /// Snapshots that are being sent: the log behind them is still needed.
    sending: AtomicUsize,
    /// Its part of what the node has yet to apply.
    pub(crate) backlog: Backlog,
    pub(crate) gate: Arc<Gate>,
    /// How far its log has come, and when.
    pub(crate) progress: Arc<Progress>,
    /// Keeps the log until it is archived.
    pub(crate) archive: ArchiveHold,
    /// What openraft is told to be in the snapshot: the log goes behind it.
    mark: Mutex<Option<(Option<LogId>, StoredMembership)>>,
}

impl fmt::Debug for SharedMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMachine").field("shard", &self.shard).finish_non_exhaustive()
    }
}

impl SharedMachine {
    pub(crate) fn new(
        machine: Machine<DataStore>,
        store: DataStore,
        shard: ShardId,
        range: (Bytes, Bytes),
        gate: Arc<Gate>,
        views: Arc<Views<ShardView>>,
        archive: Option<ArchiveLimits>,
    ) -> Arc<Self> {
        Arc::new(Self {
            machine: Mutex::new(machine),
            store,
            shard,
            range,
            views,
            closed: AtomicBool::new(false),
            applied_to: AtomicU64::new(0),
            sending: AtomicUsize::new(0),
            backlog: Backlog::new(gate.backlog_sum()),
            progress: Progress::new(shard, Arc::clone(gate.stages())),
            gate,
            archive: ArchiveHold::new(archive, shard),
            mark: Mutex::new(None),
        })
    }

    /// The machine. A panic elsewhere while it was locked leaves it poisoned by its own flag, not by the lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Machine<DataStore>> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index after the last one whose effects readers of the store see.
    pub(crate) fn applied_to(&self) -> u64 {
        self.applied_to.load(Ordering::SeqCst)
    }

    fn set_applied(&self, applied: Option<LogId>) {
        self.applied_to.store(applied.map_or(0, |applied| applied.index.saturating_add(1)), Ordering::SeqCst);
    }

    /// Waits while the store has no space: what is committed is applied once there is some, and must not fail.
    pub(crate) async fn has_space(&self) {
        while self.store.is_out_of_space() && !self.closed.load(Ordering::SeqCst) {
            tokio::time::sleep(SPACE_POLL).await;
        }
    }

    /// Waits for what is being applied, and refuses everything after. Blocks.
    pub(crate) fn close(&self) {
        let _machine = self.lock();
        self.closed.store(true, Ordering::SeqCst);
        self.views.end_shard(self.shard);
    }

    /// Refuses once the replica is closed: `ShardMoved`. What was read before this call was not destroyed yet.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::ShardMoved, format!("this replica of shard {} is closed", self.shard)));
        }
        Ok(())
    }

    /// Counts a snapshot as being sent until the guard is dropped.
    pub(crate) fn begin_sending(self: &Arc<Self>) -> Sending {
        self.sending.fetch_add(1, Ordering::SeqCst);
        Sending(Arc::clone(self))
    }

    /// Whether a snapshot is being sent.
    pub(crate) fn is_sending(&self) -> bool {
        self.sending.load(Ordering::SeqCst) > 0
    }

    /// The tiles that make up a snapshot of the shard: its system rows and its range.
    pub(crate) fn tiles(&self) -> Vec<(Bytes, Bytes)> {
        let system_start = system::row_key(self.shard, 0);
        let system_end = system::row_key(ShardId(self.shard.0 + 1), 0);
        vec![(system_start, system_end), self.range.clone()]
    }
}

/// A snapshot is being sent as long as this lives.
#[derive(Debug)]
pub(crate) struct Sending(Arc<SharedMachine>);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.sending.fetch_sub(1, Ordering::SeqCst);
    }
}

/// openraft's state machine of one group.
#[derive(Debug)]
pub(crate) struct GroupMachine {
    shared: Arc<SharedMachine>,
    applied: Option<LogId>,
    membership: StoredMembership,
}

impl GroupMachine {
    pub(crate) fn open(shared: Arc<SharedMachine>) -> Result<Self> {
        let (applied, membership) = shared.position(false)?;
        shared.load_archived()?;
        shared.set_applied(applied);
        Ok(Self { shared, applied, membership })
    }

    /// Whether the newest applied membership has this one voter.
    pub(crate) fn has_sole_voter(&self, replica: u64) -> bool {
        self.membership.membership().voter_ids().eq([replica])
    }

    /// Refuses an entry that does not follow the last one: a skipped entry would make this replica diverge.
    fn check_next(&self, log_id: &LogId) -> Result<()> {
        let next = self.applied.map_or(0, |applied| applied.index + 1);
        if log_id.index == next {
            return Ok(());
        }
        Err(Error::corrupt(format!(
            "shard {}: entry {log_id} is to be applied, but the next one is {next}",
            self.shared.shard
        )))
    }

    fn apply_batch(&mut self, batch: Vec<Decoded>) -> Result<()> {
        let began = Instant::now();
        let first = batch.first().map_or(0, |entry| entry.log_id.index);
        let traced: Vec<_> = batch.iter().filter_map(|entry| entry.trace).collect();
        let mut commands: Vec<(u64, CommandEntry)> = Vec::with_capacity(batch.len());
        let mut waiting: Vec<(Option<ApplyResponder>, bool)> = Vec::with_capacity(batch.len());
        let (mut membership_changed, mut log_bytes, mut archived) = (false, 0, None);
        for Decoded { log_id, command, membership, responder, log_bytes: bytes, .. } in batch {
            self.check_next(&log_id)?;
            log_bytes += bytes;
            if let Some(CommandEntry { command: Command::Archived(Archived { upto, .. }), .. }) = &command {
                archived = Some(*upto);
            }
            self.applied = Some(log_id);
            if let Some(membership) = membership {
                self.membership = StoredMembership::new(Some(log_id), membership);
                membership_changed = true;
            }
            waiting.push((responder, command.is_some()));
            commands.extend(command.map(|command| (log_id.index, command)));
        }
        let Some(applied) = self.applied else { return Ok(()) };
        let row = |tag: u8| keevo_core::encode_system(self.shared.shard, tag).freeze();
        let mut rows = vec![(row(system::APPLIED), wire::encode_log_id(&applied))];
        if membership_changed {
            rows.push((row(system::MEMBERSHIP), wire::encode_stored_membership(&self.membership)));
        }
        let outcomes = {
            let mut machine = self.shared.lock();
            self.shared.check_open()?;
            if mutants::is_on(Mutant::AppliedApart) {
                let ops = rows.drain(..).map(|(key, row)| StoreOp::Put(Column::Data, key, row)).collect();
                self.shared.store.write(StoreBatch { ops }, Durability::Sync)?;
            }
            failpoint("apply.before");
            machine.apply(commands, rows, Durability::Unlogged)?
        };
        self.shared.set_applied(self.applied);
        self.shared.backlog.applied(applied.index);
        self.shared.progress.applied(first, applied.index, began);
        for context in traced {
            self.shared.progress.applied_traced(context, began);
        }
        self.shared.archive.applied(applied.index, log_bytes);
        if archived.is_some() {
            self.shared.archive.set_archived(archived);
        }
        failpoint("apply.after");
        let mut outcomes = outcomes.into_iter();
        for (responder, is_command) in waiting {
            let applied = if is_command { Applied(outcomes.next()) } else { Applied(None) };
            if let Some(responder) = responder {
                responder.send(applied);
            }
        }
        Ok(())
    }
}

/// The next entries, as many as one store batch takes, and what they add to it, in bytes; with the traces that they belong
/// to, if somebody wants them.
fn next_batch(
    entries: &mut IntoIter<EntryResponder<TypeConfig>>,
    bytes_max: usize,
    traces: bool,
) -> Result<(Vec<Decoded>, usize)> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    while bytes < bytes_max
        && let Some(entry) = entries.next()
    {
        let entry = Decoded::new(entry, traces)?;
        bytes += entry.bytes;
        batch.push(entry);
    }
    Ok((batch, bytes))
}

/// An entry on its way into a batch.
struct Decoded {
    log_id: LogId,
    command: Option<CommandEntry>,
    membership: Option<Membership>,
    responder: Option<ApplyResponder>,
    /// What it adds to the batch, about.
    bytes: usize,
    /// What it takes in the log, about.
    log_bytes: u64,
    /// The trace that it belongs to.
    trace: Option<TraceContext>,
}

impl Decoded {
    fn new((entry, responder): EntryResponder<TypeConfig>, traces: bool) -> Result<Self> {
        let log_bytes = u64::try_from(wire::entry_bytes(&entry)).unwrap_or(u64::MAX);
        let mut decoded =
            Self { log_id: entry.log_id, command: None, membership: None, responder, bytes: 0, log_bytes, trace: None };
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Membership(membership) => decoded.membership = Some(membership),
            EntryPayload::Normal(payload) => {
                let command = payload.decode()?;
                decoded.trace =
                    if traces { TraceContext::of_entry(&payload.0).filter(|one| one.sampled) } else { None };
                decoded.bytes = match &command.command {
                    Command::FanOut(fan_out) => fan_out.expanded_bytes(),
                    _ => payload.0.len(),
                };
                decoded.command = Some(command);
            }
        }
        Ok(decoded)
    }
}

pub(crate) fn to_io(error: Error) -> io::Error {
    io::Error::other(error)
}

impl RaftStateMachine<TypeConfig> for GroupMachine {
    type SnapshotData = GroupSnapshot;
    type SnapshotBuilder = FlushedMark;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        let traces = self.shared.gate.stages().sink().is_some();
        let mut chunks = entries.ready_chunks(APPLY_ENTRIES_MAX);
        while let Some(chunk) = chunks.next().await {
            let mut entries = chunk.into_iter().collect::<io::Result<Vec<_>>>()?.into_iter();
            while entries.len() > 0 {
                self.shared.has_space().await;
                let (batch, bytes) = next_batch(&mut entries, APPLY_BYTES_MAX, traces).map_err(to_io)?;
                let shared = Arc::clone(&self.shared);
                let turn = if bytes < LARGE_BYTES { None } else { shared.gate.large_apply().await };
                self.apply_batch(batch).map_err(to_io)?;
                drop(turn);
                // Others have the thread in between, reads above all: they wait for none of what is applied here.
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        FlushedMark { shared: Arc::clone(&self.shared) }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: GroupSnapshot) -> io::Result<()> {
        let GroupSnapshot::Received(staged) = snapshot else {
            return Err(to_io(Error::invalid("only received snapshots can be installed")));
        };
        let shared = Arc::clone(&self.shared);
        let install = move || -> Result<(Option<LogId>, StoredMembership)> {
            let mut machine = shared.lock();
            shared.check_open()?;
            failpoint("snapshot.staged");
            shared.store.install(&staged.files)?;
            failpoint("snapshot.installed");
            machine.reload()?;
            shared.load_archived()?;
            shared.views.end_shard(shared.shard);
            shared.position(false)
        };
        let (applied, membership) =
            blocking::run(&self.shared.store, "the install of a snapshot", install).await.map_err(to_io)?;
        if applied != meta.last_log_id {
            return Err(to_io(Error::corrupt(format!(
                "the snapshot of shard {} holds another position than it says",
                self.shared.shard
            ))));
        }
        self.shared.set_applied(applied);
        self.applied = applied;
        self.membership = membership;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot<GroupSnapshot>>> {
        if self.applied.is_none() {
            return Ok(None);
        }
        let meta = SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() };
        Ok(Some(Snapshot { meta, snapshot: GroupSnapshot::Live }))
    }
}

/// Openraft's snapshot builder: reports how far the data is flushed.
#[derive(Debug)]
pub(crate) struct FlushedMark {
    shared: Arc<SharedMachine>,
}

impl RaftSnapshotBuilder<TypeConfig> for FlushedMark {
    type SnapshotData = GroupSnapshot;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot<GroupSnapshot>> {
        // Marked by whoever asked for it; a mark that came meanwhile is as good.
        let marked = self.shared.mark.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (last_log_id, last_membership) = match marked {
            Some(marked) => marked,
            None => self.shared.flushed_position().map_err(to_io)?,
        };
        Ok(Snapshot { meta: SnapshotMeta { last_log_id, last_membership }, snapshot: GroupSnapshot::Live })
    }
}

#[cfg(test)]
mod tests;
