//! The task that reads a keyspace and gives out what it reads.
//!
//! Invariant: a watch is replaced by one that reads more shards without a gap: the old one is read until the new one is
//! there, which begins where the old one was when it was asked for; what comes twice is passed over.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use keevo_core::{CommitEvent, Cursor, Engine, Error, ErrorKind, Keyspace, Result, Watch, WatchFrom, WatchRange};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Hub, Recent};

/// How often it looks whether anybody follows.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How long a watch rests after it broke.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How long nothing can be read before those who follow hear of it.
const BROKEN_MAX: Duration = Duration::from_secs(10);

impl<E: Engine> Hub<E> {
    /// Reads a keyspace until nobody follows any of it.
    pub(super) async fn run(self: Arc<Self>, keyspace: Keyspace, changed: Arc<Notify>) {
        let mut look = tokio::time::interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        let mut watch: Option<Watch> = None;
        let mut broken_since: Option<Instant> = None;
        let mut was_idle = false;
        loop {
            match self.open(keyspace, &mut watch).await {
                Ok(()) => broken_since = None,
                Err(error) => {
                    tracing::debug!(%error, "the changes of a keyspace cannot be read");
                    let since = *broken_since.get_or_insert_with(Instant::now);
                    self.failed(keyspace, &error, watch.is_none() && since.elapsed() >= BROKEN_MAX);
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            }
            while let Some(reading) = &mut watch {
                tokio::select! {
                    event = reading.next() => {
                        if let Err(error) = self.take(keyspace, event) {
                            tracing::debug!(%error, "the changes of a keyspace are read again");
                            watch = None;
                            self.failed(keyspace, &error, false);
                            tokio::time::sleep(AGAIN_AFTER).await;
                        }
                    }
                    () = changed.notified() => {
                        if self.wants_more(keyspace) {
                            break;
                        }
                    }
                    _ = look.tick() => {
                        let idle = self.is_idle(keyspace);
                        if idle && was_idle && self.retire(keyspace) {
                            return;
                        }
                        was_idle = idle;
                    }
                }
            }
        }
    }

    /// Opens a watch of all shards that are read and wanted; the old one is read meanwhile.
    async fn open(&self, keyspace: Keyspace, watch: &mut Option<Watch>) -> Result<()> {
        let (cursors, added) = {
            let keyspaces = self.lock();
            let reading = keyspaces.get(&keyspace.id);
            let added: Vec<Cursor> =
                reading.iter().flat_map(|reading| reading.wanted.values()).map(|wanted| wanted.floor).collect();
            let at = reading.iter().flat_map(|reading| reading.shards.values()).map(|recent| recent.at);
            (at.chain(added.iter().copied()).collect::<Vec<Cursor>>(), added)
        };
        let opening = self.engine.watch(WatchRange::Keyspace(keyspace), WatchFrom::After(cursors));
        tokio::pin!(opening);
        let opened = loop {
            let Some(old) = watch.as_mut() else { break opening.await };
            tokio::select! {
                opened = &mut opening => break opened,
                event = old.next() => {
                    if self.take(keyspace, event).is_err() {
                        *watch = None;
                    }
                }
            }
        };
        let opened = opened?;
        *watch = Some(opened);
        self.opened.fetch_add(1, Ordering::Relaxed);
        let mut keyspaces = self.lock();
        if let Some(reading) = keyspaces.get_mut(&keyspace.id) {
            for floor in added {
                reading.wanted.remove(&floor.shard);
                reading.shards.entry(floor.shard).or_insert_with(|| Recent::new(floor));
            }
            reading.live.send_replace(());
        }
        Ok(())
    }

    fn take(&self, keyspace: Keyspace, event: Option<Result<CommitEvent>>) -> Result<()> {
        let event = event.ok_or_else(|| Error::new(ErrorKind::Unavailable, "the engine ended the watch"))??;
        if let Some(reading) = self.lock().get_mut(&keyspace.id) {
            reading.take(&event);
        }
        Ok(())
    }

    /// Goes on after a watch broke or could not be opened. Where changes are missing, all begin anew; where nothing could
    /// be read for too long, those who follow hear of it.
    fn failed(&self, keyspace: Keyspace, error: &Error, for_long: bool) {
        let mut keyspaces = self.lock();
        let Some(reading) = keyspaces.get_mut(&keyspace.id) else { return };
        let missing = matches!(error.kind(), ErrorKind::CursorCompacted | ErrorKind::WrongCluster | ErrorKind::Invalid);
        if missing && !reading.wanted.is_empty() {
            // First of all those that were not read yet may be at fault.
            reading.wanted.retain(|_, wanted| std::mem::replace(&mut wanted.floor, wanted.now) != wanted.now);
        } else if missing {
            reading.shards.clear();
            reading.end_all(None);
        } else if for_long {
            reading.end_all(Some(error));
        }
    }

    fn wants_more(&self, keyspace: Keyspace) -> bool {
        self.lock().get(&keyspace.id).is_some_and(|reading| !reading.wanted.is_empty())
    }

    pub(in crate::watches) fn is_idle(&self, keyspace: Keyspace) -> bool {
        self.lock().get(&keyspace.id).is_none_or(|reading| reading.followers.is_empty())
    }

    /// Forgets the keyspace where nobody follows any of it, or wants to.
    fn retire(&self, keyspace: Keyspace) -> bool {
        let mut keyspaces = self.lock();
        let is_over = |reading: &super::Reading| reading.followers.is_empty() && reading.wanted.is_empty();
        let over = keyspaces.get(&keyspace.id).is_none_or(is_over);
        if over {
            keyspaces.remove(&keyspace.id);
        }
        over
    }
}
