//! Watches of partitions, served by one watch of their keyspace a node.
//!
//! A watch of the engine reads every change of its shard, whatever it is about: ten thousand watched channels would read
//! each of them ten thousand times. Here one watch reads them once, and each goes to those who follow its partition.
//!
//! ```text
//! engine ── one watch of the keyspace ── hub ─┬─ ring of recent changes, a shard     who comes later starts there
//!                                             └─ queue of a follower, bounded ── Watch
//! ```
//!
//! Whoever starts from before the ring has a watch of its own until its partition's next change, and then goes over.
//!
//! Invariant: what comes out of a watch is what the engine's own watch would give: each change of the partition behind
//! the cursor, in order. A follower that is too slow for its queue starts anew behind its last change.

mod hub;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use keevo_core::{
    Batch, CommitEvent, Consistency, Cursor, Engine, FanOut, FannedOut, Key, Keyspace, KeyspaceKind, Record, Result,
    Scan, ScanPage, Watch, WatchFrom, WatchRange, Written,
};
use tokio_util::sync::CancellationToken;

use hub::{Attached, Hub, Place};

/// How long a watch waits for a shard to be read by the hub before it goes by itself.
const LIVE_WITHIN: Duration = Duration::from_secs(2);

/// An engine whose watches of whole partitions of hashed keyspaces are served by one watch of each keyspace; everything else is the engine's own.
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

    /// A place at which to follow a partition from a cursor on; `None` where the engine must be asked.
    async fn place(&self, keyspace: Keyspace, partition: &Bytes, after: Cursor) -> Option<Place<E>> {
        match self.hub.attach(keyspace, partition, after) {
            Attached::At(place) => return Some(place),
            Attached::Behind => return None,
            Attached::Unread => {}
        }
        // Where the shard is now; from long before that on, nobody else should have to wait for what was.
        let page = self.engine.scan(Scan::partition(keyspace, partition.clone(), 1)).await.ok()?;
        self.hub.read_shard(keyspace, after, page.as_of, LIVE_WITHIN).await;
        match self.hub.attach(keyspace, partition, after) {
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
        let source = match self.place(*keyspace, partition, *after).await {
            Some(place) => Source::Shared(place),
            None => Source::Own(self.engine.watch(range.clone(), from.clone()).await?),
        };
        let follower =
            Follower { shared: self.clone(), keyspace: *keyspace, partition: partition.clone(), after: *after, source };
        let events = stream::unfold(Some(follower), |follower| async move {
            let mut follower = follower?;
            match follower.next().await {
                Some(Ok(event)) => Some((Ok(event), Some(follower))),
                Some(Err(error)) => Some((Err(error), None)),
                None => None,
            }
        });
        Ok(events.boxed())
    }
}

/// Somebody who follows a partition.
struct Follower<E: Engine> {
    shared: SharedWatches<E>,
    keyspace: Keyspace,
    partition: Bytes,
    /// Behind the last change that it was given, or where it began.
    after: Cursor,
    source: Source<E>,
}

/// Where a follower's changes come from.
enum Source<E: Engine> {
    /// The hub.
    Shared(Place<E>),
    /// A watch of its own.
    Own(Watch),
}

impl<E: Engine> Follower<E> {
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
                    if let Attached::At(place) = self.shared.hub.attach(self.keyspace, &self.partition, self.after) {
                        self.source = Source::Shared(place);
                    }
                    return Some(Ok(event));
                }
                Source::Shared(place) => {
                    let came = place.next().await;
                    match came {
                        Ok(Some(event)) if event.cursor > self.after => {
                            self.after = event.cursor;
                            return Some(Ok(event));
                        }
                        Ok(Some(_known)) => {}
                        Ok(None) => match self.again().await {
                            Ok(source) => self.source = source,
                            Err(error) => return Some(Err(error)),
                        },
                        Err(error) => return Some(Err(error)),
                    }
                }
            }
        }
    }

    /// Starts anew behind the last change: it was too slow, or the hub has begun anew.
    async fn again(&mut self) -> Result<Source<E>> {
        if let Attached::At(place) = self.shared.hub.attach(self.keyspace, &self.partition, self.after) {
            return Ok(Source::Shared(place));
        }
        let range =
            WatchRange::Partition { keyspace: self.keyspace, partition: self.partition.clone(), prefix: Bytes::new() };
        Ok(Source::Own(self.shared.engine.watch(range, WatchFrom::After(vec![self.after])).await?))
    }
}

#[cfg(test)]
mod tests;
