//! The hub: what was read lately of each shard, who follows what of it, and the tasks that read, one a shard.
//!
//! Invariant: everything of a shard behind its floor, up to `at`, is in its ring; a follower gets from the ring what is
//! behind its cursor, and whatever comes later, both under one lock. Rings and queues are bounded. What befalls one shard
//! touches nobody who follows another.

mod followers;
mod pump;
mod queue;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keevo_core::{Change, CommitEvent, Cursor, Engine, Keyspace, KeyspaceId, Result, ShardId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use followers::Followers;
pub(super) use followers::Interest;
pub(super) use queue::Given;
use queue::Queue;

/// The most changes of a shard's ring, and their most bytes.
const RING_MAX: usize = 16_384;
const RING_BYTES_MAX: usize = 8 << 20;
/// How far back a shard is read from for one who comes first, in revisions.
const BACK_MAX: u64 = 10_000;

/// What is read: a keyspace's changes in a shard.
type At = (KeyspaceId, ShardId);

/// The hub.
pub(super) struct Hub<E> {
    engine: E,
    stop: CancellationToken,
    shards: Mutex<BTreeMap<At, Reading>>,
    /// Watches that were opened.
    opened: AtomicU64,
}

/// What is read of a shard.
struct Reading {
    followers: Followers,
    /// `None` = it is not read yet.
    recent: Option<Recent>,
    wanted: Wanted,
    /// Changes when it is read.
    live: watch::Sender<()>,
}

/// From where a shard is to be read at first; `now`, where that is too long ago.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    floor: Cursor,
    now: Option<Cursor>,
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
    at: At,
    interest: Interest,
    queue: Arc<Queue>,
}

impl<E: Engine> Place<E> {
    /// The next change, perhaps one that is known, or that it is to start anew. An error where the hub cannot read any more.
    /// Dropping the future loses nothing.
    pub(super) async fn next(&self) -> Result<Given> {
        self.queue.next().await
    }

    /// The last change of the shard that was read, where nothing waits: then everything up to it was given.
    pub(super) fn reached(&self) -> Option<Cursor> {
        let shards = self.hub.lock();
        let recent = shards.get(&self.at)?.recent.as_ref()?;
        self.queue.is_drained().then_some(recent.at)
    }
}

impl<E: Engine> Drop for Place<E> {
    fn drop(&mut self) {
        if let Some(reading) = self.hub.lock().get_mut(&self.at) {
            reading.followers.remove(&self.interest, &self.queue);
        }
    }
}

impl<E: Engine> Hub<E> {
    pub(super) fn new(engine: E, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self { engine, stop, shards: Mutex::default(), opened: AtomicU64::new(0) })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<At, Reading>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many watches it has opened.
    #[cfg(test)]
    pub(super) fn opened(&self) -> u64 {
        self.opened.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Whether nobody follows any of a keyspace.
    #[cfg(test)]
    pub(super) fn is_idle(&self, keyspace: Keyspace) -> bool {
        self.lock().iter().filter(|((id, _), _)| *id == keyspace.id).all(|(_, reading)| reading.followers.is_empty())
    }

    /// Follows something from a cursor on, if the cursor's shard is read from there.
    pub(super) fn attach(self: &Arc<Self>, keyspace: Keyspace, interest: &Interest, after: Cursor) -> Attached<E> {
        let mut shards = self.lock();
        let at = (keyspace.id, after.shard);
        let Some(reading) = shards.get_mut(&at) else { return Attached::Unread };
        let Some(recent) = &reading.recent else { return Attached::Unread };
        if after.cluster != recent.floor.cluster || after < recent.floor {
            return Attached::Behind;
        }
        let queue = Arc::new(Queue::default());
        let from = recent.ring.partition_point(|event| event.cursor <= after);
        for event in recent.ring.range(from..).filter(|event| interest.covers(&event.key.partition)) {
            // One that does not fit starts anew behind those that do.
            if !queue.push(event) {
                break;
            }
        }
        reading.followers.add(interest, &queue);
        Attached::At(Place { hub: Arc::clone(self), at, interest: interest.clone(), queue })
    }

    /// Whether a shard is read, or is about to be.
    pub(super) fn is_wanted(&self, keyspace: Keyspace, shard: ShardId) -> bool {
        self.lock().contains_key(&(keyspace.id, shard))
    }

    /// Has the shard of `after` read from there on, or from `now` on where that is too long ago, and waits until it is.
    pub(super) async fn read_shard(
        self: &Arc<Self>,
        keyspace: Keyspace,
        after: Cursor,
        now: Option<Cursor>,
        within: Duration,
    ) {
        if now.is_some_and(|now| (after.cluster, after.shard) != (now.cluster, now.shard)) {
            return;
        }
        let is_near = |now: &Cursor| now.revision.0.saturating_sub(after.revision.0) <= BACK_MAX;
        let floor = match now {
            Some(now) if is_near(&now) => after.min(now),
            Some(now) => now,
            None => after,
        };
        let at = (keyspace.id, after.shard);
        let mut live = {
            let mut shards = self.lock();
            let reading = shards.entry(at).or_insert_with(|| {
                let (hub, stop) = (Arc::clone(self), self.stop.clone());
                tokio::spawn(async move {
                    stop.run_until_cancelled(Box::pin(hub.run(keyspace, after.shard))).await;
                });
                Reading::new(Wanted { floor, now })
            });
            if reading.recent.is_some() {
                return;
            }
            reading.live.subscribe()
        };
        let is_read = || self.lock().get(&at).is_none_or(|reading| reading.recent.is_some());
        let waiting = async { while !is_read() && live.changed().await.is_ok() {} };
        if tokio::time::timeout(within, waiting).await.is_err() {
            tracing::debug!(shard = %after.shard, "the changes of a shard are not read yet");
        }
    }
}

impl Reading {
    fn new(wanted: Wanted) -> Self {
        Self { followers: Followers::default(), recent: None, wanted, live: watch::Sender::new(()) }
    }

    /// Takes a change in, and gives it to those who follow it.
    fn take(&mut self, event: &CommitEvent) {
        let Some(recent) = &mut self.recent else { return };
        if event.cursor > recent.at {
            recent.push(event.clone());
            self.followers.give(event);
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
