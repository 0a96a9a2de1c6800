//! Watches of partitions, served by one watch a shard on a node.
//!
//! A watch of the engine reads every change of its shard, whatever it is about: ten thousand watched channels would read
//! each of them ten thousand times. Here one watch a shard reads them once, and each goes to those who follow its partition.
//!
//! ```text
//! engine ── a watch of each shard ── hub ─┬─ ring of recent changes           who comes later starts there
//!                                         └─ queue of a follower, bounded ── Watch
//! ```
//!
//! Whoever starts from before the ring has a watch of its own until the next change of what it follows, and then goes over.
//!
//! Invariant: what comes out of a watch is what the engine's own watch would give: each change of the partition behind
//! the cursor, in order. A follower that is too slow for its queue starts anew behind its last change.

mod app;
mod hub;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use keevo_core::{
    Batch, CommitEvent, Consistency, Cursor, Engine, FanOut, FannedOut, Key, Keyspace, KeyspaceKind, Record, Result,
    Scan, ScanPage, Watch, WatchFrom, WatchRange, Written,
};
use tokio_util::sync::CancellationToken;

pub(crate) use app::AppWatch;
use hub::{Attached, Given, Hub, Interest, Place};

/// How long a watch waits for a shard to be read by the hub before it goes by itself.
const LIVE_WITHIN: Duration = Duration::from_secs(2);

/// An engine whose watches of whole partitions of hashed keyspaces are served by one watch of each shard; everything else is
/// the engine's own.
/// Cheap to clone; clones share everything.
#[derive(Clone)]
pub(crate) struct SharedWatches<E> {
    engine: E,
    hub: Arc<Hub<E>>,
}

impl<E: Engine> SharedWatches<E> {
    /// Shares the watches of `engine` until `stop`. Does no I/O; must be used in a tokio runtime.
    pub(crate) fn new(engine: E, stop: CancellationToken) -> Self {
        Self { hub: Hub::new(engine.clone(), stop), engine }
    }

    /// A place at which to follow something from a cursor on; `None` where the engine must be asked.
    async fn place(&self, keyspace: Keyspace, interest: &Interest, after: Cursor) -> Option<Place<E>> {
        match self.hub.attach(keyspace, interest, after) {
            Attached::At(place) => return Some(place),
            Attached::Behind => return None,
            Attached::Unread => {}
        }
        let now = match interest {
            // Where the shard is now; from long before that on, nobody else should have to wait for what was.
            Interest::Partition(partition) if !self.hub.is_wanted(keyspace, after.shard) => {
                Some(self.engine.scan(Scan::partition(keyspace, partition.clone(), 1)).await.ok()?.as_of)
            }
            Interest::Partition(_) | Interest::Prefix(_) => None,
        };
        self.hub.read_shard(keyspace, after, now, LIVE_WITHIN).await;
        match self.hub.attach(keyspace, interest, after) {
            Attached::At(place) => Some(place),
            Attached::Behind | Attached::Unread => None,
        }
    }
}

impl<E: Engine> Engine for SharedWatches<E> {
    async fn keyspace(&self, name: &str, kind: KeyspaceKind) -> Result<Keyspace> {
        self.engine.keyspace(name, kind).await
    }

    async fn find_keyspace(&self, name: &str) -> Result<Keyspace> {
        self.engine.find_keyspace(name).await
    }

    async fn get(&self, key: Key, consistency: Consistency) -> Result<Option<Record>> {
        self.engine.get(key, consistency).await
    }

    async fn multi_get(&self, keys: Vec<Key>, consistency: Consistency) -> Result<Vec<Option<Record>>> {
        self.engine.multi_get(keys, consistency).await
    }

    async fn scan(&self, scan: Scan) -> Result<ScanPage> {
        self.engine.scan(scan).await
    }

    async fn write(&self, batch: Batch) -> Result<Written> {
        self.engine.write(batch).await
    }

    async fn fan_out(&self, fan_out: FanOut) -> Result<FannedOut> {
        self.engine.fan_out(fan_out).await
    }

    async fn watch(&self, range: WatchRange, from: WatchFrom) -> Result<Watch> {
        let (WatchRange::Partition { keyspace, partition, prefix }, WatchFrom::After(cursors)) = (&range, &from) else {
            return self.engine.watch(range, from).await;
        };
        let ([after], KeyspaceKind::Hashed, true) = (cursors.as_slice(), keyspace.kind, prefix.is_empty()) else {
            return self.engine.watch(range, from).await;
        };
        keevo_core::validate_partition(*keyspace, partition)?;
        Ok(Follower::begin(self, *keyspace, Interest::Partition(partition.clone()), *after).await?.into_stream())
    }
}

/// Where a follower is in the hub, as others see it; `None` = it is not.
type Seen<E> = Arc<Mutex<Option<Arc<Place<E>>>>>;

/// Somebody who follows something of a shard.
struct Follower<E: Engine> {
    shared: SharedWatches<E>,
    keyspace: Keyspace,
    interest: Interest,
    /// Behind the last change that it was given, or where it began.
    after: Cursor,
    source: Source<E>,
    seen: Seen<E>,
}

/// Where a follower's changes come from.
enum Source<E: Engine> {
    /// The hub.
    Shared(Arc<Place<E>>),
    /// A watch of its own.
    Own(Watch),
}

impl<E: Engine> Follower<E> {
    async fn begin(shared: &SharedWatches<E>, keyspace: Keyspace, interest: Interest, after: Cursor) -> Result<Self> {
        let source = Source::find(shared, keyspace, &interest, after).await?;
        let seen = Arc::new(Mutex::new(source.place()));
        Ok(Self { shared: shared.clone(), keyspace, interest, after, source, seen })
    }

    fn into_stream(self) -> Watch {
        let events = stream::unfold(Some(self), |follower| async move {
            let mut follower = follower?;
            match follower.next().await {
                Some(Ok(event)) => Some((Ok(event), Some(follower))),
                Some(Err(error)) => Some((Err(error), None)),
                None => None,
            }
        });
        events.boxed()
    }

    fn go_on(&mut self, source: Source<E>) {
        let place = source.place();
        let before = std::mem::replace(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner), place);
        drop(before);
        self.source = source;
    }

    async fn next(&mut self) -> Option<Result<CommitEvent>> {
        loop {
            match &mut self.source {
                Source::Own(watch) => {
                    let event = match watch.next().await? {
                        Ok(event) => event,
                        Err(error) => return Some(Err(error)),
                    };
                    self.after = event.cursor;
                    // From here on the hub may have everything.
                    if let Attached::At(place) = self.shared.hub.attach(self.keyspace, &self.interest, self.after) {
                        self.go_on(Source::Shared(Arc::new(place)));
                    }
                    return Some(Ok(event));
                }
                Source::Shared(place) => {
                    let came = place.next().await;
                    match came {
                        Ok(Given::Change(event)) if event.cursor > self.after => {
                            self.after = event.cursor;
                            return Some(Ok(event));
                        }
                        Ok(Given::Change(_known)) => continue,
                        Ok(Given::Gone(behind, error)) if self.after <= behind => return Some(Err(error)),
                        // It was too slow, or the hub begins anew: so does it, behind the last change.
                        Ok(Given::Anew(upto)) => self.after = upto.map_or(self.after, |upto| upto.max(self.after)),
                        Ok(Given::Gone(..)) => {}
                        Err(error) => return Some(Err(error)),
                    }
                    match Source::find(&self.shared, self.keyspace, &self.interest, self.after).await {
                        Ok(source) => self.go_on(source),
                        Err(error) => return Some(Err(error)),
                    }
                }
            }
        }
    }
}

impl<E: Engine> Source<E> {
    fn place(&self) -> Option<Arc<Place<E>>> {
        match self {
            Self::Shared(place) => Some(Arc::clone(place)),
            Self::Own(_) => None,
        }
    }

    /// The hub, where it has what is behind the cursor; else a watch.
    async fn find(shared: &SharedWatches<E>, keyspace: Keyspace, interest: &Interest, after: Cursor) -> Result<Self> {
        if let Some(place) = shared.place(keyspace, interest, after).await {
            return Ok(Self::Shared(Arc::new(place)));
        }
        let cursors = vec![after];
        let watch = match interest.clone() {
            Interest::Partition(partition) => {
                let range = WatchRange::Partition { keyspace, partition, prefix: Bytes::new() };
                shared.engine.watch(range, WatchFrom::After(cursors)).await?
            }
            Interest::Prefix(prefix) => {
                let watch = shared.engine.watch(WatchRange::Keyspace(keyspace), WatchFrom::Only(cursors)).await?;
                let wanted = move |event: &Result<CommitEvent>| {
                    std::future::ready(!event.as_ref().is_ok_and(|event| !event.key.partition.starts_with(&prefix)))
                };
                watch.filter(wanted).boxed()
            }
        };
        Ok(Self::Own(watch))
    }
}

#[cfg(test)]
mod tests;
