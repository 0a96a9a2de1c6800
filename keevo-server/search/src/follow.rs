//! Keeping the index: from the changes where they are all there, else from what is stored.
//!
//! ```text
//! open ──whole──> follow the changes from the place that was committed
//!   │ of no use: emptied          │ the changes from there are gone
//!   v                             v
//! follow from the first change    read all that is stored, page by page, and follow in between
//! ```
//!
//! Invariants: messages and the place that they stand for are committed in one step, so no change is missed and none is
//! taken in twice. While what is stored is read, each page is read after, and taken in before, any change that comes later
//! in the index: so an old version never replaces a newer one. The follower reads on demand: what it has not taken in
//! waits in the engine. While the disk has no room nothing is taken in, committed or purged: what is derived must not take
//! the last of the disk from what it is derived from.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::ReadyChunks;
use keevo_chat::{Chat, ChatOptions, KEYSPACE, MessageChange, StoredChange};
use keevo_core::{
    CommitEvent, Cursor, Engine, Error, ErrorKind, Keyspace, Result, Revision, Watch, WatchFrom, WatchRange,
};
use tokio_util::sync::CancellationToken;

use crate::index::{Inner, aside};
use crate::metrics::add;
use crate::saved::Saved;
use crate::store::{Op, Store};

/// How many changes are taken in together.
const CHUNK: usize = 512;
/// After how many full chunks in a row the index counts as behind.
const CHUNKS_BEHIND: u32 = 8;
/// How many messages, and channels, one page of what is stored has.
const PAGE: usize = 500;
/// How long the follower waits after it failed.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How long it waits where the disk did not read or write: opening the index again reads all of it.
const IO_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// How often it is looked whether there is a chat at all.
const KEYSPACE_EVERY: Duration = Duration::from_secs(1);
/// How long a search that failed keeps further ones from having the index verified again.
const SUSPECT_EVERY: Duration = Duration::from_mins(10);

/// What the next session begins with.
#[derive(Debug, Clone, Copy, Default)]
struct Begin {
    /// The index is thrown away.
    wipe: bool,
    /// What is stored is read, since the changes are gone.
    reread: bool,
}

/// Keeps the index until `stop`.
pub(crate) async fn run(inner: &Inner, stop: &CancellationToken) {
    let mut begin = Begin::default();
    // Whether it was opened after it had failed: what does not verify then is thrown away at once, what does is tried again.
    let mut doubted = false;
    while !stop.is_cancelled() {
        let commits = inner.counters.commits.load(Ordering::Relaxed);
        let ended = session(inner, begin, stop).await;
        doubted &= inner.counters.commits.load(Ordering::Relaxed) == commits;
        let mut pause = AGAIN_AFTER;
        inner.progress.lock().unwrap_or_else(PoisonError::into_inner).current = false;
        let Err(error) = ended else { return };
        begin = Begin::default();
        match error.kind() {
            ErrorKind::CursorCompacted | ErrorKind::WrongCluster => {
                tracing::info!(%error, "the search index is made anew from what is stored");
                begin.reread = true;
            }
            ErrorKind::Corrupt => {
                tracing::error!(%error, "the search index is verified, and made anew where it failed twice");
                begin.wipe = doubted;
                doubted = !doubted;
            }
            ErrorKind::Io => {
                tracing::warn!(%error, "the search index cannot be read or written, and is tried again later");
                pause = IO_AGAIN_AFTER;
            }
            _ => tracing::debug!(%error, "the search index is behind, and goes on in a moment"),
        }
        stop.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
}

/// An error of what the index is made from is none of the index, however damaged that is.
fn of_source(error: Error) -> Error {
    if error.kind() == ErrorKind::Corrupt {
        let message = format!("what the search index is made from cannot be read: {}", error.message());
        return Error::new(ErrorKind::Unavailable, message).with_source(error);
    }
    error
}

/// Opens the index and follows the changes, until `stop` or an error.
async fn session(inner: &Inner, begin: Begin, stop: &CancellationToken) -> Result<()> {
    let opened = open(inner, begin.wipe).await?;
    if let Some(why) = &opened.anew {
        tracing::error!(folder = %inner.options.folder.display(), why, "the search index is of no use and is made anew");
        add(&inner.counters.rebuilds, 1);
    }
    let mut feed = Feed::new(inner, opened.store, opened.saved);
    feed.publish();
    let followed = match stop.run_until_cancelled(feed.keyspace()).await {
        Some(Ok(keyspace)) => {
            feed.wait_for_room(stop).await;
            if stop.is_cancelled() { Ok(()) } else { feed.work(keyspace, begin.reread, stop).await }
        }
        Some(Err(error)) => Err(error),
        None => Ok(()),
    };
    // What is not committed is taken in again from the place that is.
    let committed = if feed.is_ahead() && feed.has_room() { feed.commit().await } else { Ok(()) };
    feed.close().await;
    followed.and(committed)
}

async fn open(inner: &Inner, wipe: bool) -> Result<crate::store::Opened> {
    let (folder, heap) = (inner.options.folder.clone(), inner.options.heap_bytes);
    let again = folder.clone();
    match aside(move || Store::open(&folder, heap, wipe)).await {
        // Even looking at it fails.
        Err(error) if error.kind() == ErrorKind::Corrupt && !wipe => {
            tracing::error!(%error, "the search index cannot be opened");
            aside(move || Store::open(&again, heap, true)).await
        }
        opened => opened,
    }
}

/// Takes changes in.
struct Feed<'a> {
    inner: &'a Inner,
    store: Arc<Mutex<Store>>,
    /// Up to where changes were taken in.
    saved: Saved,
    /// Messages wait for a commit, or the place has moved.
    waiting: bool,
    moved: bool,
    committed_at: Duration,
    purged_at: Duration,
    /// Something was removed that is to be gone for good.
    to_purge: bool,
    /// Full chunks in a row.
    full: u32,
}

impl<'a> Feed<'a> {
    fn new(inner: &'a Inner, store: Store, saved: Saved) -> Self {
        let now = inner.parts.clock.monotonic();
        let to_purge = store.holds_removed();
        let store = Arc::new(Mutex::new(store));
        Self { inner, store, saved, waiting: false, moved: false, committed_at: now, purged_at: now, to_purge, full: 0 }
    }

    /// The keyspace of chat. As long as nobody has made it there is nothing to find.
    async fn keyspace(&self) -> Result<Keyspace> {
        loop {
            match self.inner.parts.engine.find_keyspace(KEYSPACE).await {
                Err(error) if error.kind() == ErrorKind::UnknownKeyspace => self.set_current(true),
                found => return found.map_err(of_source),
            }
            tokio::time::sleep(KEYSPACE_EVERY).await;
        }
    }

    async fn work(&mut self, keyspace: Keyspace, reread: bool, stop: &CancellationToken) -> Result<()> {
        let heads = (self.inner.parts.heads)(keyspace).await.map_err(of_source)?;
        if reread {
            let places = heads.iter().map(|head| (head.shard.0, *head)).collect();
            self.empty(Saved { places, partial: true }).await?;
            let mut changes = self.watch(keyspace).await?;
            let reading = self.read_stored(&mut changes, stop);
            return match stop.run_until_cancelled(reading).await {
                Some(read) => {
                    read?;
                    self.follow(changes, stop).await
                }
                None => Ok(()),
            };
        }
        for head in heads {
            // A shard that is new here is read from its first change.
            let first = Cursor { revision: Revision(0), offset: 0, ..head };
            self.saved.places.entry(head.shard.0).or_insert(first);
        }
        self.publish();
        let changes = self.watch(keyspace).await?;
        self.follow(changes, stop).await
    }

    async fn watch(&self, keyspace: Keyspace) -> Result<ReadyChunks<Watch>> {
        let after = self.saved.places.values().copied().collect();
        let watch = self.inner.parts.engine.watch(WatchRange::Keyspace(keyspace), WatchFrom::After(after)).await;
        Ok(watch.map_err(of_source)?.ready_chunks(CHUNK))
    }

    /// Follows the changes until `stop` or an error.
    async fn follow(&mut self, mut changes: ReadyChunks<Watch>, stop: &CancellationToken) -> Result<()> {
        let mut suspected_at: Option<Duration> = None;
        loop {
            self.wait_for_room(stop).await;
            let wait = self.inner.options.quiet.min(self.inner.options.commit_every);
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                next = tokio::time::timeout(wait, changes.next()) => match next {
                    Ok(Some(chunk)) => {
                        self.full = if chunk.len() < CHUNK { 0 } else { self.full.saturating_add(1) };
                        if self.full >= CHUNKS_BEHIND {
                            self.set_current(false);
                        }
                        self.take_in(chunk).await?;
                    }
                    Ok(None) => return Err(Error::new(ErrorKind::Closed, "the changes ended")),
                    Err(_quiet) => self.set_current(true),
                },
                () = self.inner.suspect.notified() => {
                    let now = self.now();
                    if suspected_at.is_none_or(|at| now.saturating_sub(at) > SUSPECT_EVERY) {
                        suspected_at = Some(now);
                        self.verify().await?;
                    }
                }
            }
            self.commit_when_due().await?;
        }
    }

    /// Reads all that is stored; changes are followed in between.
    async fn read_stored(&mut self, changes: &mut ReadyChunks<Watch>, stop: &CancellationToken) -> Result<()> {
        for app in (self.inner.parts.apps)().await.map_err(of_source)? {
            let chat = Chat::new(self.inner.parts.engine.clone(), app, ChatOptions::default());
            let mut after = None;
            loop {
                let channels = chat.all_channels(None, after.as_ref(), PAGE).await.map_err(of_source)?;
                let Some(last) = channels.last().cloned() else { break };
                for channel in &channels {
                    let mut place = None;
                    loop {
                        self.wait_for_room(stop).await;
                        let page = chat.stored_messages(channel, place, PAGE).await.map_err(of_source)?;
                        let Some(last) = page.last() else { break };
                        place = Some(last.place);
                        let live = page.into_iter().filter(|message| message.deleted_at_ms.is_none());
                        let ops = live.map(|message| Op::Put(app, channel.clone(), Box::new(message))).collect();
                        self.apply(ops).await?;
                        while let Ok(Some(chunk)) = tokio::time::timeout(Duration::ZERO, changes.next()).await {
                            self.take_in(chunk).await?;
                        }
                        self.commit_when_due().await?;
                    }
                }
                after = Some(last);
            }
        }
        self.saved.partial = false;
        self.commit().await
    }

    /// Takes a chunk of changes in.
    async fn take_in(&mut self, chunk: Vec<Result<CommitEvent>>) -> Result<()> {
        let (mut ops, mut failed) = (Vec::new(), None);
        let mut places: BTreeMap<u64, Cursor> = BTreeMap::new();
        for event in chunk {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    failed = Some(of_source(error));
                    break;
                }
            };
            match StoredChange::of(&event) {
                Ok(change) => ops.extend(change.map(op_of)),
                // A row that cannot be read is somebody else's to mend, and holds nothing up here.
                Err(error) => tracing::error!(%error, "a change cannot be read for the search index"),
            }
            places.insert(event.cursor.shard.0, event.cursor);
        }
        self.apply(ops).await?;
        self.moved |= !places.is_empty();
        self.saved.places.extend(places);
        failed.map_or(Ok(()), Err)
    }

    async fn apply(&mut self, ops: Vec<Op>) -> Result<()> {
        if ops.is_empty() {
            return Ok(());
        }
        let puts = ops.iter().filter(|op| matches!(op, Op::Put(..))).count();
        let (puts, removed) = (wide(puts), wide(ops.len() - puts));
        self.to_purge |= removed > 0;
        let store = Arc::clone(&self.store);
        aside(move || locked(&store).apply(ops)).await?;
        add(&self.inner.counters.indexed, puts);
        add(&self.inner.counters.removed, removed);
        if !self.waiting {
            self.waiting = true;
            let now = self.now();
            self.progress(|progress| progress.waiting_since = Some(now));
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        (self.inner.parts.room)()
    }

    /// Waits until the disk has room, or `stop`.
    async fn wait_for_room(&self, stop: &CancellationToken) {
        if self.has_room() {
            return;
        }
        tracing::warn!(
            "the disk is nearly full: the search index takes nothing in until there is room; searches go on"
        );
        self.progress(|progress| (progress.paused, progress.current) = (true, false));
        while !stop.is_cancelled() && !self.has_room() {
            stop.run_until_cancelled(tokio::time::sleep(self.inner.options.room_every)).await;
        }
        self.progress(|progress| progress.paused = false);
        tracing::info!("the search index goes on");
    }

    fn is_ahead(&self) -> bool {
        self.waiting || self.moved
    }

    async fn commit_when_due(&mut self) -> Result<()> {
        let since = self.now().saturating_sub(self.committed_at);
        let options = &self.inner.options;
        if (self.waiting && since >= options.commit_every) || (self.moved && since >= options.save_every) {
            self.commit().await?;
        }
        if self.to_purge && self.now().saturating_sub(self.purged_at) >= options.purge_every {
            self.purged_at = self.now();
            let store = Arc::clone(&self.store);
            let purged = aside(move || locked(&store).purge()).await?;
            self.to_purge = !purged;
        }
        Ok(())
    }

    /// Makes what was taken in found, and durable with its place.
    async fn commit(&mut self) -> Result<()> {
        let (store, saved) = (Arc::clone(&self.store), self.saved.clone());
        aside(move || locked(&store).commit(&saved)).await?;
        add(&self.inner.counters.commits, 1);
        (self.waiting, self.moved) = (false, false);
        self.committed_at = self.now();
        self.publish();
        Ok(())
    }

    /// Removes everything, to begin anew at `saved`.
    async fn empty(&mut self, saved: Saved) -> Result<()> {
        self.saved = saved.clone();
        let store = Arc::clone(&self.store);
        aside(move || locked(&store).clear(&saved)).await?;
        add(&self.inner.counters.rebuilds, 1);
        self.publish();
        Ok(())
    }

    /// Verifies the files of the index: a search has met something that should not be.
    async fn verify(&mut self) -> Result<()> {
        let store = Arc::clone(&self.store);
        aside(move || locked(&store).verify()).await
    }

    /// Lets searches see what is committed, and tells how far that is.
    fn publish(&self) {
        let store = locked(&self.store);
        let readable = store.readable();
        self.inner.counters.documents.store(store.documents(), Ordering::Relaxed);
        drop(store);
        *self.inner.readable.write().unwrap_or_else(PoisonError::into_inner) = Some(readable);
        let applied = self.saved.places.values().map(|place| (place.shard.0, place.revision.0)).collect();
        self.progress(|progress| {
            progress.applied = applied;
            progress.waiting_since = None;
        });
    }

    /// Lets go of the files.
    async fn close(self) {
        let Self { store, .. } = self;
        let dropped = aside(move || {
            drop(store);
            Ok(())
        });
        if let Err(error) = dropped.await {
            tracing::warn!(%error, "the search index was not closed in order");
        }
    }

    fn set_current(&self, current: bool) {
        self.progress(|progress| progress.current = current);
    }

    fn progress(&self, change: impl FnOnce(&mut crate::index::Progress)) {
        change(&mut self.inner.progress.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn now(&self) -> Duration {
        self.inner.parts.clock.monotonic()
    }
}

/// What a change does to the index.
fn op_of(change: StoredChange) -> Op {
    match change {
        StoredChange::Message(change) => {
            let MessageChange { app, channel, message } = *change;
            match message.deleted_at_ms {
                Some(_) => Op::Remove(app, channel, message.place),
                None => Op::Put(app, channel, Box::new(message)),
            }
        }
        StoredChange::Truncated { app, channel, up_to } => Op::Truncate(app, channel, up_to),
    }
}

/// Whoever panicked while it held the store has failed its session, and the store is opened anew.
fn locked(store: &Mutex<Store>) -> std::sync::MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
