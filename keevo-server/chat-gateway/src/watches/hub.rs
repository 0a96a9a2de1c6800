//! The hub: what was read lately of each shard, who follows which partition, and the task that reads.
//!
//! Invariant: everything of a shard behind its floor, up to `at`, is in its ring; a follower gets from the ring what is
//! behind its cursor, and whatever comes later, both under one lock. Rings and queues are bounded.

mod pump;
mod queue;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use keevo_core::{Change, CommitEvent, Cursor, Engine, Error, Keyspace, KeyspaceId, Result, ShardId};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use queue::Queue;

/// The most changes of a shard's ring, and their most bytes.
const RING_MAX: usize = 16_384;
const RING_BYTES_MAX: usize = 8 << 20;
/// How far back a shard is read from for one who comes first, in revisions.
const BACK_MAX: u64 = 10_000;

/// The hub.
pub(super) struct Hub<E> {
    engine: E,
    stop: CancellationToken,
    keyspaces: Mutex<BTreeMap<KeyspaceId, Reading>>,
    /// Watches that were opened.
    opened: AtomicU64,
}

/// What is read of a keyspace.
struct Reading {
    followers: BTreeMap<Bytes, Vec<Arc<Queue>>>,
    shards: BTreeMap<ShardId, Recent>,
    /// Shards that are to be read too.
    wanted: BTreeMap<ShardId, Wanted>,
    changed: Arc<Notify>,
    /// Changes when shards are read that were not.
    live: watch::Sender<()>,
}

/// From where a shard is to be read; `now`, where that is too long ago.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    floor: Cursor,
    now: Cursor,
}

/// What was read of a shard.
struct Recent {
    floor: Cursor,
    /// The last change that was read.
    at: Cursor,
    ring: VecDeque<CommitEvent>,
    bytes: usize,
}

/// What became of one who wants to follow.
pub(super) enum Attached<E: Engine> {
    /// It follows.
    At(Place<E>),
    /// It comes from before the ring.
    Behind,
    /// The shard is not read yet.
    Unread,
}

/// A follower's place, given back when it is dropped.
pub(super) struct Place<E: Engine> {
    hub: Arc<Hub<E>>,
    keyspace: KeyspaceId,
    partition: Bytes,
    queue: Arc<Queue>,
}

impl<E: Engine> Place<E> {
    /// The next change, perhaps one that is known; `None` = start anew. An error where the hub cannot read any more.
    /// Dropping the future loses nothing.
    pub(super) async fn next(&self) -> Result<Option<CommitEvent>> {
        self.queue.next().await
    }
}

impl<E: Engine> Drop for Place<E> {
    fn drop(&mut self) {
        let mut keyspaces = self.hub.lock();
        let Some(reading) = keyspaces.get_mut(&self.keyspace) else { return };
        if let Some(queues) = reading.followers.get_mut(&self.partition) {
            queues.retain(|one| !Arc::ptr_eq(one, &self.queue));
            if queues.is_empty() {
                reading.followers.remove(&self.partition);
            }
        }
    }
}

impl<E: Engine> Hub<E> {
    pub(super) fn new(engine: E, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self { engine, stop, keyspaces: Mutex::default(), opened: AtomicU64::new(0) })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<KeyspaceId, Reading>> {
        self.keyspaces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many watches of keyspaces it has opened.
    #[cfg(test)]
    pub(super) fn opened(&self) -> u64 {
        self.opened.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Follows a partition from a cursor on, if its shard is read from there.
    pub(super) fn attach(self: &Arc<Self>, keyspace: Keyspace, partition: &Bytes, after: Cursor) -> Attached<E> {
        let mut keyspaces = self.lock();
        let Some(reading) = keyspaces.get_mut(&keyspace.id) else { return Attached::Unread };
        let Some(recent) = reading.shards.get(&after.shard) else { return Attached::Unread };
        if after.cluster != recent.floor.cluster || after < recent.floor {
            return Attached::Behind;
        }
        let queue = Arc::new(Queue::default());
        let from = recent.ring.partition_point(|event| event.cursor <= after);
        for event in recent.ring.range(from..).filter(|event| event.key.partition == *partition) {
            // One that does not fit starts anew behind those that do.
            if !queue.push(event) {
                break;
            }
        }
        reading.followers.entry(partition.clone()).or_default().push(Arc::clone(&queue));
        Attached::At(Place { hub: Arc::clone(self), keyspace: keyspace.id, partition: partition.clone(), queue })
    }

    /// Has a shard read from `after` on, or from `now` on where that is too long ago, and waits until it is.
    pub(super) async fn read_shard(self: &Arc<Self>, keyspace: Keyspace, after: Cursor, now: Cursor, within: Duration) {
        if (after.cluster, after.shard) != (now.cluster, now.shard) {
            return;
        }
        let is_near = now.revision.0.saturating_sub(after.revision.0) <= BACK_MAX;
        let floor = if is_near { after.min(now) } else { now };
        let mut live = {
            let mut keyspaces = self.lock();
            let reading = keyspaces.entry(keyspace.id).or_insert_with(|| {
                let reading = Reading::new();
                self.start(keyspace, Arc::clone(&reading.changed));
                reading
            });
            if reading.shards.contains_key(&now.shard) {
                return;
            }
            reading.wanted.entry(now.shard).or_insert(Wanted { floor, now });
            reading.changed.notify_one();
            reading.live.subscribe()
        };
        let is_read = || {
            let keyspaces = self.lock();
            keyspaces.get(&keyspace.id).is_none_or(|reading| reading.shards.contains_key(&now.shard))
        };
        let waiting = async { while !is_read() && live.changed().await.is_ok() {} };
        if tokio::time::timeout(within, waiting).await.is_err() {
            tracing::debug!(shard = %now.shard, "the changes of a shard are not read yet");
        }
    }

    fn start(self: &Arc<Self>, keyspace: Keyspace, changed: Arc<Notify>) {
        let (hub, stop) = (Arc::clone(self), self.stop.clone());
        tokio::spawn(async move {
            stop.run_until_cancelled(Box::pin(hub.run(keyspace, changed))).await;
        });
    }
}

impl Reading {
    fn new() -> Self {
        Self {
            followers: BTreeMap::new(),
            shards: BTreeMap::new(),
            wanted: BTreeMap::new(),
            changed: Arc::new(Notify::new()),
            live: watch::Sender::new(()),
        }
    }

    /// Takes a change in, and gives it to those who follow its partition.
    fn take(&mut self, event: &CommitEvent) {
        let Some(recent) = self.shards.get_mut(&event.cursor.shard) else { return };
        if event.cursor <= recent.at {
            return;
        }
        recent.push(event.clone());
        if let Some(queues) = self.followers.get_mut(&event.key.partition) {
            queues.retain(|queue| queue.push(event));
            if queues.is_empty() {
                self.followers.remove(&event.key.partition);
            }
        }
    }

    /// Ends all followers: they start anew, or hear of the error.
    fn end_all(&mut self, error: Option<&Error>) {
        for queue in std::mem::take(&mut self.followers).into_values().flatten() {
            queue.end(error.map(|error| Error::new(error.kind(), error.message().to_owned())));
        }
    }
}

impl Recent {
    fn new(floor: Cursor) -> Self {
        Self { floor, at: floor, ring: VecDeque::new(), bytes: 0 }
    }

    fn push(&mut self, event: CommitEvent) {
        self.at = event.cursor;
        self.bytes += bytes_of(&event);
        self.ring.push_back(event);
        while self.ring.len() > RING_MAX || self.bytes > RING_BYTES_MAX {
            let Some(old) = self.ring.pop_front() else { break };
            self.bytes -= bytes_of(&old);
            self.floor = old.cursor;
        }
    }
}

/// About how much memory a change takes.
fn bytes_of(event: &CommitEvent) -> usize {
    let value = match &event.change {
        Change::Put { value, .. } => value.len(),
        Change::Delete => 0,
        Change::DeleteRange { end } => end.len(),
    };
    value + event.key.partition.len() + event.key.sort.len() + size_of::<CommitEvent>()
}
