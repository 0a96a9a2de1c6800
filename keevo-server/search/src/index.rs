//! `SearchIndex`: the handle, its options, and what searches and the follower share.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures::future::BoxFuture;
use keevo_chat::AppId;
use keevo_core::{AnyEngine, Clock, Cursor, Error, ErrorKind, Keyspace, Result};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::find::{Ask, Hits, find};
use crate::follow;
use crate::metrics::{Counters, IndexState, SearchMetrics, add};
use crate::store::Readable;

/// Gives the present end of the changes of each shard that holds a part of a keyspace.
pub type Heads = Arc<dyn Fn(Keyspace) -> BoxFuture<'static, Result<Vec<Cursor>>> + Send + Sync>;
/// Gives the apps whose messages are read where the index cannot be made from the changes alone.
pub type AppsOf = Arc<dyn Fn() -> BoxFuture<'static, Result<Vec<AppId>>> + Send + Sync>;

/// Whether the disk has room for the index to grow. Cheap.
pub type Room = Arc<dyn Fn() -> bool + Send + Sync>;

/// How an index works. The defaults suit production.
#[derive(Debug, Clone)]
pub struct SearchOptions {
    /// Its folder, which it alone uses, and may empty.
    pub folder: PathBuf,
    /// The memory for messages that are not on disk yet, in bytes; 16 MiB at least.
    pub heap_bytes: usize,
    /// How long what was taken in may wait until it is found.
    pub commit_every: Duration,
    /// How often the place in the changes is saved where they bring no messages.
    pub save_every: Duration,
    /// How long the changes have nothing new until the index counts as up to date.
    pub quiet: Duration,
    /// How often files that hold what was replaced or removed are written anew.
    pub purge_every: Duration,
    /// How often it is looked whether the disk has room again.
    pub room_every: Duration,
    /// How many searches run at once; half as many of one app.
    pub concurrency: usize,
    /// How many more may wait; half as many of one app.
    pub waiting_max: usize,
}

impl SearchOptions {
    /// The defaults, in a folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            heap_bytes: 64 << 20,
            commit_every: Duration::from_secs(1),
            save_every: Duration::from_secs(30),
            quiet: Duration::from_millis(250),
            purge_every: Duration::from_hours(1),
            room_every: Duration::from_secs(5),
            concurrency: 4,
            waiting_max: 64,
        }
    }
}

/// What an index is made from.
#[derive(Clone)]
pub struct SearchParts {
    /// Where the messages are.
    pub engine: AnyEngine,
    /// Where their changes end now.
    pub heads: Heads,
    /// The apps that there are.
    pub apps: AppsOf,
    /// Whether there is room: without it nothing is taken in.
    pub room: Room,
    /// Gives the time.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for SearchParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SearchParts")
    }
}

/// A node's index over the messages of chat. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct SearchIndex {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) parts: SearchParts,
    pub(crate) options: SearchOptions,
    pub(crate) counters: Counters,
    pub(crate) progress: Mutex<Progress>,
    /// What searches ask; nothing before the index is open.
    pub(crate) readable: RwLock<Option<Readable>>,
    /// Is told when a search has met something that should not be.
    pub(crate) suspect: Notify,
    slots: Slots,
    /// What each app may have of them: so one app leaves room for all others.
    of_apps: Mutex<BTreeMap<u32, Arc<Slots>>>,
}

/// Room for searches.
struct Slots {
    running: Semaphore,
    /// One permit for each search that runs or waits.
    admitted: Semaphore,
}

impl Slots {
    fn new(running: usize, waiting: usize) -> Self {
        Self { running: Semaphore::new(running), admitted: Semaphore::new(running + waiting) }
    }
}

/// How far the follower has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) current: bool,
    /// Whether nothing is taken in, for want of room.
    pub(crate) paused: bool,
    pub(crate) applied: Vec<(u64, u64)>,
    /// When the oldest change was taken in that is not found yet.
    pub(crate) waiting_since: Option<Duration>,
}

impl fmt::Debug for SearchIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SearchIndex").field("folder", &self.inner.options.folder).finish_non_exhaustive()
    }
}

impl SearchIndex {
    /// An index in `options.folder`. Does no I/O: [`SearchIndex::run`] does it all.
    pub fn new(parts: SearchParts, options: SearchOptions) -> Self {
        let slots = Slots::new(options.concurrency.max(1), options.waiting_max);
        let inner = Inner {
            parts,
            options,
            counters: Counters::default(),
            progress: Mutex::default(),
            readable: RwLock::default(),
            suspect: Notify::new(),
            slots,
            of_apps: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Keeps the index: opens it, makes it anew where it is of no use, and takes in what changes, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        follow::run(&self.inner, &stop).await;
        *self.inner.readable.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Asks the index. Hits are what it knows: what they say, and who may read them, is for the caller to look at.
    ///
    /// # Errors
    /// `Unavailable` before the index is open, `ResourceExhausted` where too many searches are under way.
    pub async fn ask(&self, ask: Ask) -> Result<Hits> {
        let began = self.inner.parts.clock.monotonic();
        let answer = self.answer(ask).await;
        let counters = &self.inner.counters;
        match &answer {
            Ok(hits) => {
                let took = self.inner.parts.clock.monotonic().saturating_sub(began);
                add(&counters.queries, 1);
                add(&counters.query_micros, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
                add(&counters.partial, u64::from(hits.partial));
            }
            Err(_) => add(&counters.query_failures, 1),
        }
        answer
    }

    fn slots_of(&self, app: AppId) -> Arc<Slots> {
        let options = &self.inner.options;
        let mut of_apps = self.inner.of_apps.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Slots::new(options.concurrency.div_ceil(2).max(1), options.waiting_max.div_ceil(2)));
        Arc::clone(of_apps.entry(app.0).or_insert_with(new))
    }

    async fn answer(&self, ask: Ask) -> Result<Hits> {
        let full = |error| {
            Error::new(ErrorKind::ResourceExhausted, "too many searches are under way: try again in a moment")
                .with_source(error)
        };
        let (of_app, slots) = (self.slots_of(ask.app), &self.inner.slots);
        let _admitted = (of_app.admitted.try_acquire().map_err(full)?, slots.admitted.try_acquire().map_err(full)?);
        let closed = |error| Error::new(ErrorKind::Closed, "the search index is closed").with_source(error);
        // The app's first: whoever waits for it holds up nobody else.
        let _of_app = of_app.running.acquire().await.map_err(closed)?;
        let _running = slots.running.acquire().await.map_err(closed)?;
        let readable = self.inner.readable.read().unwrap_or_else(PoisonError::into_inner).clone();
        let readable = readable.ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, "the search index is not open yet: try again in a moment")
        })?;
        let clock = Arc::clone(&self.inner.parts.clock);
        let answer = aside(move || find(&readable, &ask, &clock)).await;
        if answer.as_ref().is_err_and(|error| matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Io)) {
            self.inner.suspect.notify_one();
        }
        answer
    }

    /// How far the index has come.
    pub fn state(&self) -> IndexState {
        let progress = self.inner.progress.lock().unwrap_or_else(PoisonError::into_inner);
        IndexState { catching_up: !progress.current, paused: progress.paused, applied: progress.applied.clone() }
    }

    /// What was counted here.
    pub fn metrics(&self) -> SearchMetrics {
        let state = self.state();
        let since = self.inner.progress.lock().unwrap_or_else(PoisonError::into_inner).waiting_since;
        let lag = since.map_or(Duration::ZERO, |since| self.inner.parts.clock.monotonic().saturating_sub(since));
        let lag_ms = u64::try_from(lag.as_millis()).unwrap_or(u64::MAX);
        SearchMetrics { lag_ms, state, ..self.inner.counters.read() }
    }
}

/// Runs what blocks aside. A panic in there is `Corrupt`: the index is read by code that trusts its files.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Error::corrupt("the search index failed while it was used").with_source(error)),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use keevo_core::{MemoryEngine, SystemClock};

    use super::*;
    use crate::TextQuery;
    use crate::find::Sort;

    /// One app could once take all slots, and nobody else's search came in.
    #[tokio::test]
    async fn one_app_takes_half_of_the_slots_at_most() {
        let parts = SearchParts {
            engine: AnyEngine::new(MemoryEngine::new()),
            heads: Arc::new(|_| futures::future::ready(Ok(Vec::new())).boxed()),
            apps: Arc::new(|| futures::future::ready(Ok(Vec::new())).boxed()),
            room: Arc::new(|| true),
            clock: Arc::new(SystemClock::new()),
        };
        let options = SearchOptions { concurrency: 4, waiting_max: 6, ..SearchOptions::new("unused") };
        let index = SearchIndex::new(parts, options);
        let of_one = index.slots_of(AppId(1));
        let held: Vec<_> = std::iter::from_fn(|| of_one.admitted.try_acquire().ok()).collect();
        assert_eq!((held.len(), of_one.running.available_permits()), (5, 2));
        let kind = async |app| {
            let ask = Ask {
                app: AppId(app),
                query: TextQuery::parse("word").expect("a query"),
                channels: None,
                author: None,
                mentions: None,
                attachments: false,
                after_ms: None,
                before_ms: None,
                sort: Sort::Newest,
                from: None,
                limit: 1,
            };
            index.ask(ask).await.expect_err("it is not open").kind()
        };
        assert_eq!(kind(1).await, ErrorKind::ResourceExhausted);
        assert_eq!(kind(2).await, ErrorKind::Unavailable, "it comes in, and finds no index here");
        drop(held);
        assert_eq!(kind(1).await, ErrorKind::Unavailable);
    }
}
