//! The shipper: cuts what the leaders on a node have committed into segments, and brings them to the archive.
//!
//! ```text
//! every round, each shard that this node leads:
//!   cursor (a row of the shard) ─▶ entries after it ─▶ segment ─▶ put if absent ─▶ cursor, through the shard's log
//!                                                                   └ there already? read it, compare, go on after it
//! ```
//!
//! Invariant: the cursor is behind what is durable in the archive. A crash between the two, or another leader at the same
//! time, finds the segment there under its first index and verifies that it holds the same entries.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use keevo_core::{Archived, ClusterId, Command, Entry, Error, ErrorKind, Result, ShardId};
use keevo_raft::{ArchiveState, LoggedEntry, LoggedKind, Node};
use tokio_util::sync::CancellationToken;

use crate::reader::Archive;
use crate::storage::Storage;
use crate::{names, segment};

/// How many shards are shipped at once.
const SHARDS_AT_ONCE: usize = 4;
/// After how many segments the cursor is noted at the latest.
const SEGMENTS_A_NOTE: usize = 8;
/// Up to how many entries that wait are looked at for something worth shipping.
const NOTES_MAX: usize = 16;

/// The committed logs of the shards that a node leads.
pub trait LogSource: Debug + Send + Sync + 'static {
    /// The cluster; `None` until the node takes part in one.
    fn cluster(&self) -> Option<ClusterId>;

    /// The shards that lead here, with their cursors.
    fn states(&self) -> Vec<ArchiveState>;

    /// Applied entries from an index on, up to a number of bytes and at least one. `NotFound`: they are gone.
    fn entries(&self, shard: ShardId, from: u64, bytes_max: usize) -> BoxFuture<'_, Result<Vec<LoggedEntry>>>;

    /// Moves the cursor, durably.
    fn note(&self, shard: ShardId, archived: Archived) -> BoxFuture<'_, Result<()>>;
}

impl LogSource for Node {
    fn cluster(&self) -> Option<ClusterId> {
        Node::cluster(self)
    }

    fn states(&self) -> Vec<ArchiveState> {
        self.archive_states()
    }

    fn entries(&self, shard: ShardId, from: u64, bytes_max: usize) -> BoxFuture<'_, Result<Vec<LoggedEntry>>> {
        self.applied_entries(shard, from, bytes_max).boxed()
    }

    fn note(&self, shard: ShardId, archived: Archived) -> BoxFuture<'_, Result<()>> {
        self.note_archived(shard, archived).boxed()
    }
}

/// How a shipper works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShipperOptions {
    /// Bytes of entries after which a segment is cut.
    pub segment_bytes: usize,
    /// The pause between two rounds: what is lost at most when all nodes are lost.
    pub every: Duration,
}

impl Default for ShipperOptions {
    fn default() -> Self {
        Self { segment_bytes: 8 << 20, every: Duration::from_secs(2) }
    }
}

/// What a shipper has done since it was started.
#[derive(Debug, Default)]
pub struct Shipping {
    /// Segments written.
    pub segments: AtomicU64,
    /// Their bytes.
    pub bytes: AtomicU64,
    /// Rounds of a shard that failed.
    pub failures: AtomicU64,
    /// Times that entries were gone from the log before they were archived.
    pub gaps: AtomicU64,
}

/// Ships the logs of one node's shards.
#[derive(Debug)]
pub struct Shipper {
    source: Arc<dyn LogSource>,
    storage: Arc<dyn Storage>,
    options: ShipperOptions,
    shipping: Arc<Shipping>,
    /// What was complained of last, by shard, so that it is said once.
    told: Mutex<BTreeMap<ShardId, String>>,
    /// Shards whose earlier segments were seen in the storage.
    seen: Mutex<BTreeSet<ShardId>>,
}

impl Shipper {
    /// A shipper of the shards of `source` to `storage`.
    pub fn new(source: Arc<dyn LogSource>, storage: Arc<dyn Storage>, options: ShipperOptions) -> Self {
        Self { source, storage, options, shipping: Arc::default(), told: Mutex::default(), seen: Mutex::default() }
    }

    /// What it has done so far.
    pub fn shipping(&self) -> Arc<Shipping> {
        Arc::clone(&self.shipping)
    }

    /// Ships, round after round, until `stop`; then once more, so that little is left when a node is stopped.
    pub async fn run(self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(self.options.every)).await.is_some() {
            self.round().await;
        }
        self.round().await;
    }

    /// Ships what waits in every shard that leads here. What fails is logged, counted, and tried again in the next round.
    pub async fn round(&self) {
        let Some(cluster) = self.source.cluster() else { return };
        let shards = self.source.states().into_iter().map(|state| async move {
            let shipped = self.ship(cluster, state).await;
            self.tell(state.shard, shipped.err());
        });
        futures::stream::iter(shards).buffer_unordered(SHARDS_AT_ONCE).collect::<()>().await;
    }

    fn tell(&self, shard: ShardId, error: Option<Error>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(error) = error else {
            if told.remove(&shard).is_some() {
                tracing::info!(%shard, "the log is archived again");
            }
            return;
        };
        // Whoever leads now does it.
        if error.kind() == ErrorKind::NotLeader {
            return;
        }
        self.shipping.failures.fetch_add(1, Ordering::Relaxed);
        let text = error.to_string();
        if told.get(&shard) != Some(&text) {
            tracing::error!(%shard, %error, "the log cannot be archived; it stays until it is");
            told.insert(shard, text);
        }
    }

    async fn ship(&self, cluster: ClusterId, state: ArchiveState) -> Result<()> {
        let shard = state.shard;
        let mut cursor = self.begin(&state);
        let mut segments = 0;
        while next(cursor, &state) < state.applied_to {
            let from = next(cursor, &state);
            let entries = self.source.entries(shard, from, self.options.segment_bytes).await?;
            if entries.is_empty() || are_notes(&entries) {
                break;
            }
            if let Some(cursor) = cursor {
                self.check_place(cluster, shard, cursor).await?;
            }
            let upto = self.put(cluster, shard, from, &entries).await?;
            cursor = Some(Archived { from: cursor.map_or(from, |cursor| cursor.from), upto });
            segments += 1;
            if segments % SEGMENTS_A_NOTE == 0
                && let Some(cursor) = cursor
            {
                self.source.note(shard, cursor).await?;
            }
        }
        match cursor {
            Some(cursor) if segments % SEGMENTS_A_NOTE != 0 => self.source.note(shard, cursor).await,
            _ => Ok(()),
        }
    }

    /// The cursor to go on from; `None` begins a run at the first entry that there is.
    fn begin(&self, state: &ArchiveState) -> Option<Archived> {
        let cursor = state.archived?;
        if cursor.upto.saturating_add(1) >= state.first_held {
            return Some(cursor);
        }
        self.shipping.gaps.fetch_add(1, Ordering::Relaxed);
        tracing::error!(
            shard = %state.shard, from = cursor.upto + 1, to = state.first_held - 1,
            "entries left the log before they were archived: the archive has a gap. Make a backup, to restore from what follows it"
        );
        None
    }

    /// Refuses a storage without a segment of a shard that was archived before, the first time that it is written to: a folder
    /// that is not mounted looks so, and what is archived there is purged from the log. `Unavailable`.
    async fn check_place(&self, cluster: ClusterId, shard: ShardId, cursor: Archived) -> Result<()> {
        let is_seen =
            |seen: &Mutex<BTreeSet<ShardId>>| seen.lock().unwrap_or_else(PoisonError::into_inner).contains(&shard);
        if is_seen(&self.seen) {
            return Ok(());
        }
        if Archive::new(Arc::clone(&self.storage), cluster).segments(shard, None).await?.is_empty() {
            let message = format!(
                "the log of shard {shard} was archived up to entry {}, and the storage has nothing of it: is its folder mounted, \
                 and the same on every node?",
                cursor.upto
            );
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(shard);
        Ok(())
    }

    /// Puts a segment in place; gives the last index that the archive holds then.
    async fn put(&self, cluster: ClusterId, shard: ShardId, from: u64, entries: &[LoggedEntry]) -> Result<u64> {
        let (head, bytes) = segment::encode(cluster, shard, entries)?;
        let name = names::segment(cluster, shard, from);
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.storage.put_new(&name, bytes).await? {
            self.shipping.segments.fetch_add(1, Ordering::Relaxed);
            self.shipping.bytes.fetch_add(size, Ordering::Relaxed);
            return Ok(head.last);
        }
        let there = Archive::new(Arc::clone(&self.storage), cluster).read(&name).await?.entries;
        self.compare(shard, &name, &there).await?;
        Ok(there.last().map_or(head.last, |last| last.index))
    }

    /// Refuses a segment that holds other entries than this log: `Conflict`.
    async fn compare(&self, shard: ShardId, name: &str, there: &[LoggedEntry]) -> Result<()> {
        let mut rest = there;
        while let Some(first) = rest.first() {
            let own = self.source.entries(shard, first.index, self.options.segment_bytes).await?;
            if own.is_empty() {
                let message = format!("'{name}' holds entries that this replica has not applied yet");
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
            if let Some((own, _)) = own.iter().zip(rest).find(|(own, there)| own != there) {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!(
                        "'{name}' holds another entry {} than this log: another cluster of the same id has archived here. \
                         Give this one another archive_url",
                        own.index
                    ),
                ));
            }
            rest = rest.get(own.len().min(rest.len())..).unwrap_or_default();
        }
        Ok(())
    }
}

/// The index of the next entry to ship.
fn next(cursor: Option<Archived>, state: &ArchiveState) -> u64 {
    cursor.map_or(state.first_held, |cursor| cursor.upto.saturating_add(1))
}

/// Whether these are few entries that say nothing but where the cursor is: shipping them would make another one.
fn are_notes(entries: &[LoggedEntry]) -> bool {
    let is_note = |entry: &LoggedEntry| {
        let command = (entry.kind == LoggedKind::Command).then(|| Entry::decode(&entry.payload));
        matches!(command, Some(Ok(Entry { command: Command::Archived(_), .. })))
    };
    entries.len() <= NOTES_MAX && entries.iter().all(is_note)
}

#[cfg(test)]
mod tests;
