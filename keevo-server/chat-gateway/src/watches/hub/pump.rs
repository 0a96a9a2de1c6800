//! The task that reads a shard and gives out what it reads.
//!
//! Invariant: a watch that broke is opened anew behind the last change that was read, so those who follow see no gap; where
//! that is not kept any more they start anew.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use keevo_core::{
    CommitEvent, Cursor, Engine, Error, ErrorKind, Keyspace, Result, ShardId, Watch, WatchFrom, WatchRange,
};
use tokio::time::Instant;

use super::{At, Hub, Recent};

/// How often it looks whether anybody follows.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How long a watch rests after it broke.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How long nothing can be read before those who follow hear of it.
const BROKEN_MAX: Duration = Duration::from_secs(10);

impl<E: Engine> Hub<E> {
    /// Reads a shard until nobody follows any of it.
    pub(super) async fn run(self: Arc<Self>, keyspace: Keyspace, shard: ShardId) {
        let at = (keyspace.id, shard);
        let mut broken_since: Option<Instant> = None;
        while let Some(from) = self.from(at) {
            let opened = self.engine.watch(WatchRange::Keyspace(keyspace), WatchFrom::Only(vec![from])).await;
            let broke = match opened {
                Ok(watch) => {
                    broken_since = None;
                    self.begin(at, from);
                    match self.read(at, watch).await {
                        Ok(()) => return,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            tracing::debug!(%shard, error = %broke, "the changes of a shard are read again");
            let since = *broken_since.get_or_insert_with(Instant::now);
            if !self.goes_on(at, from, &broke, since.elapsed() >= BROKEN_MAX) {
                return;
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// Behind what to read.
    fn from(&self, at: At) -> Option<Cursor> {
        let shards = self.lock();
        let reading = shards.get(&at)?;
        Some(reading.recent.as_ref().map_or(reading.wanted.floor, |recent| recent.at))
    }

    /// Notes that the shard is read, from there on if it was not read before.
    fn begin(&self, at: At, from: Cursor) {
        self.opened.fetch_add(1, Ordering::Relaxed);
        if let Some(reading) = self.lock().get_mut(&at) {
            reading.recent.get_or_insert_with(|| Recent::new(from));
            reading.live.send_replace(());
        }
    }

    /// Gives out what a watch gives, until it breaks or nobody follows.
    async fn read(&self, at: At, mut watch: Watch) -> Result<()> {
        let mut look = tokio::time::interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        let mut was_idle = false;
        loop {
            tokio::select! {
                event = watch.next() => self.take(at, event)?,
                _ = look.tick() => {
                    let idle = self.lock().get(&at).is_none_or(|reading| reading.followers.is_empty());
                    if idle && was_idle && self.retire(at) {
                        return Ok(());
                    }
                    was_idle = idle;
                }
            }
        }
    }

    fn take(&self, at: At, event: Option<Result<CommitEvent>>) -> Result<()> {
        let event = event.ok_or_else(|| Error::new(ErrorKind::Unavailable, "the engine ended the watch"))??;
        if let Some(reading) = self.lock().get_mut(&at) {
            reading.take(&event);
        }
        Ok(())
    }

    /// After a watch from a cursor broke or could not be opened: whether it is to be tried again. Where changes are missing, those
    /// who follow begin anew, unless nothing was read since: then from there on nothing ever will be, and they hear of it. So
    /// they do where nothing could be read for too long.
    fn goes_on(&self, at: At, from: Cursor, error: &Error, for_long: bool) -> bool {
        let mut shards = self.lock();
        let Some(reading) = shards.get_mut(&at) else { return false };
        let missing = matches!(error.kind(), ErrorKind::CursorCompacted | ErrorKind::WrongCluster | ErrorKind::Invalid);
        if !missing {
            if for_long {
                reading.followers.end_all(Some(error), None);
            }
            return true;
        }
        if let (None, Some(now)) = (&reading.recent, reading.wanted.now.filter(|now| *now != from)) {
            // Whoever came first came from too long ago.
            reading.wanted.floor = now;
            return true;
        }
        if let Some(mut over) = shards.remove(&at) {
            let at = over.recent.map(|recent| recent.at);
            // For those of whom nothing has happened for long, most of what is missing is nothing that they miss.
            let missed = if at == Some(from) { Some(error) } else { None };
            over.followers.end_all(missed, at);
        }
        false
    }

    /// Forgets a shard where nobody follows any of it.
    fn retire(&self, at: At) -> bool {
        let mut shards = self.lock();
        let over = shards.get(&at).is_none_or(|reading| reading.followers.is_empty());
        if over {
            shards.remove(&at);
        }
        over
    }
}
