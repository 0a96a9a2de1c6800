//! `Feeds`: the handle, its options, and what all operations share.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use keevo_core::{
    Clock, Engine, Error, ErrorKind, KeyspaceKind, Random, Result, Scan, ScanPage, SeededRandom, SystemClock, call,
};

use crate::apart::Apart;
use crate::groups::Groups;
use crate::ids::AppId;
use crate::keys::Layout;
use crate::lanes::Lanes;
use crate::metrics::{Counters, FeedsMetrics};
use crate::outbox::Done;
use crate::pace::Step;
use crate::turns::Turns;

/// The keyspace that holds the feeds of all apps.
pub const KEYSPACE: &str = "feeds";
/// How often a compare-and-set is tried again before its caller hears of the contention.
pub(crate) const ATTEMPTS: usize = 32;
/// Waits between the attempts of a call that failed for the moment, in milliseconds.
const RETRY_MS: [u64; 3] = [20, 100, 400];

/// How feeds behave. The defaults suit production.
#[derive(Debug, Clone)]
pub struct FeedsOptions {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where randomness comes from.
    pub random: Arc<dyn Random>,
    /// The largest activity, in bytes of its texts and custom fields.
    pub activity_bytes_max: usize,
    /// How many followers a post is fanned out to before it is answered; the worker does the rest.
    pub inline_targets_max: usize,
    /// How many followers more a worker fans a post out to before it counts as large, and makes way for smaller ones.
    pub prompt_targets_max: usize,
    /// How many followers a second one post is fanned out to at most: one that took all that the machine has would keep
    /// everybody waiting who reads meanwhile. A caller's first thousand is not held back.
    pub job_targets_per_s_max: u64,
    /// How long a removal keeps late writes of the same entry out, in milliseconds.
    pub tombstone_ttl_ms: u64,
    /// How long a removed activity keeps its number of generations, in milliseconds.
    pub removed_ttl_ms: u64,
    /// How old a pointer must be before a worker takes its job over from the call that made it, in milliseconds.
    pub pickup_after_ms: u64,
    /// How old a pointer without a job must be before it is dropped, in milliseconds. Far longer than any call takes.
    pub pointer_grace_ms: u64,
    /// How long a job belongs to the instance that saved its progress last, in milliseconds.
    pub claim_ms: u64,
    /// How far the clocks of two instances may be apart, in milliseconds. Must not be too small: a follow that is
    /// dated this much after a post was placed is taken to have seen it.
    pub clock_skew_ms_max: u64,
    /// How long a step of a fan-out, and a job of the outbox, waits for its shards before it goes on without those that do
    /// not answer, in milliseconds. These are asked again later, with more patience.
    pub patience_ms: u64,
    /// How many engine calls one operation keeps in flight.
    pub concurrency: usize,
}

impl Default for FeedsOptions {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SeededRandom::from_os()),
            activity_bytes_max: 10 * 1024,
            inline_targets_max: 1_000,
            prompt_targets_max: 4_096,
            job_targets_per_s_max: 100_000,
            tombstone_ttl_ms: 3_600_000,
            removed_ttl_ms: 7 * 24 * 3_600_000,
            pickup_after_ms: 2_000,
            pointer_grace_ms: 600_000,
            claim_ms: 30_000,
            clock_skew_ms_max: 5_000,
            patience_ms: 2_000,
            concurrency: 64,
        }
    }
}

/// The feeds of one app, over any engine. Cheap to clone; clones share everything.
///
/// ```
/// # use keevo_core::MemoryEngine;
/// # use keevo_feeds::{AppId, FeedId, Feeds, FeedsOptions, NewActivity, PageRequest};
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let feeds = Feeds::open(MemoryEngine::new(), AppId(1), FeedsOptions::default()).await.unwrap();
/// let (alice, bob): (FeedId, FeedId) = ("user:alice".parse().unwrap(), "timeline:bob".parse().unwrap());
/// feeds.follow(&bob, &alice, None).await.unwrap();
/// let posted = feeds.add_activity(&alice, NewActivity::new("alice", "post", "picture:1")).await.unwrap();
/// let page = feeds.page(&bob, PageRequest::default()).await.unwrap();
/// assert_eq!(page.activities[0].id, posted.id);
/// assert_eq!(page.activities[0].origin, Some(alice));
/// # });
/// ```
pub struct Feeds<E> {
    pub(crate) inner: Arc<Inner<E>>,
}

pub(crate) struct Inner<E> {
    pub(crate) engine: E,
    pub(crate) layout: Layout,
    pub(crate) options: FeedsOptions,
    /// Names this instance in claims.
    pub(crate) instance: u64,
    pub(crate) counters: Counters,
    pub(crate) lanes: Lanes,
    /// What does not answer, and waits.
    pub(crate) apart: Apart,
    /// By how many targets fan-outs go.
    pub(crate) step: Step,
    /// Held while finished work is taken out of the outbox.
    pub(crate) flushing: tokio::sync::Mutex<()>,
    /// Orders the changes of one subject of reactions within this instance.
    pub(crate) turns: Turns,
    pub(crate) groups: RwLock<Arc<Groups>>,
    /// Whether the groups are the application's own, and not those that stand in until it has said.
    pub(crate) knows_groups: AtomicBool,
    last_stamp_us: AtomicU64,
    finished: Mutex<Vec<Done>>,
}

impl<E> Clone for Feeds<E> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<E> fmt::Debug for Feeds<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feeds").field("app", &self.inner.layout.app).finish_non_exhaustive()
    }
}

impl<E: Engine> Feeds<E> {
    /// Opens the feeds of `app`; the keyspace is created when it is new.
    pub async fn open(engine: E, app: AppId, options: FeedsOptions) -> Result<Self> {
        let keyspace = engine.keyspace(KEYSPACE, KeyspaceKind::Hashed).await?;
        Ok(Self::new(engine, Layout { keyspace, app }, options))
    }

    fn new(engine: E, layout: Layout, options: FeedsOptions) -> Self {
        let inner = Inner {
            engine,
            layout,
            instance: options.random.next_u64() | 1,
            options,
            counters: Counters::default(),
            lanes: Lanes::default(),
            apart: Apart::default(),
            step: Step::default(),
            flushing: tokio::sync::Mutex::default(),
            turns: Turns::default(),
            groups: RwLock::default(),
            knows_groups: AtomicBool::new(false),
            last_stamp_us: AtomicU64::new(0),
            finished: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The same feeds, with the same groups, over another way to their engine.
    pub(crate) fn over<O: Engine>(&self, engine: O) -> Feeds<O> {
        let feeds = Feeds::new(engine, self.layout(), self.options().clone());
        if self.knows_groups() {
            feeds.set_groups((*self.groups()).clone());
        }
        feeds
    }

    /// The app.
    pub fn app(&self) -> AppId {
        self.inner.layout.app
    }

    /// What this instance has counted.
    pub fn metrics(&self) -> FeedsMetrics {
        self.inner.counters.read()
    }

    pub(crate) fn engine(&self) -> &E {
        &self.inner.engine
    }

    /// The next page of a scan that holds anything, or its last. A page may be empty and still not be the last,
    /// where many rows have expired.
    pub(crate) async fn scan_on(&self, mut scan: Scan) -> Result<ScanPage> {
        loop {
            let page = self.engine().scan(scan.clone()).await?;
            if !page.records.is_empty() || page.next.is_none() {
                return Ok(page);
            }
            scan.after = page.next;
        }
    }

    pub(crate) fn layout(&self) -> Layout {
        self.inner.layout
    }

    pub(crate) fn options(&self) -> &FeedsOptions {
        &self.inner.options
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.options().clock.now_ms()
    }

    /// Now, in milliseconds since the epoch; within an API call the time of the call.
    pub(crate) fn call_ms(&self) -> u64 {
        call::now_ms(self.options().clock.as_ref())
    }

    /// The time in microseconds, within an API call that of the call; every one is later than the one before.
    pub(crate) fn stamp_us(&self) -> u64 {
        if let Some(stamp_us) = call::stamp_us() {
            return stamp_us;
        }
        let now_us = self.now_ms().saturating_mul(1_000);
        let last = self
            .inner
            .last_stamp_us
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(now_us.max(last + 1)))
            .unwrap_or_default();
        now_us.max(last + 1)
    }

    pub(crate) fn finished(&self) -> MutexGuard<'_, Vec<Done>> {
        self.inner.finished.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a call that may be repeated should be.
pub(crate) fn is_passing(kind: ErrorKind) -> bool {
    kind.is_retryable() || matches!(kind, ErrorKind::OutcomeUnknown | ErrorKind::DeadlineExceeded)
}

/// Whether a write that failed so was not applied and never will be.
pub(crate) fn is_certain(error: &Error) -> bool {
    let unsure = [ErrorKind::OutcomeUnknown, ErrorKind::DeadlineExceeded, ErrorKind::Closed, ErrorKind::Io];
    !unsure.contains(&error.kind())
}

/// Repeats a call that may be repeated, with growing waits, while it fails for the moment only.
pub(crate) async fn retry<T, F: Future<Output = Result<T>>>(call: impl Fn() -> F) -> Result<T> {
    for wait_ms in RETRY_MS {
        match call().await {
            Err(error) if is_passing(error.kind()) => tokio::time::sleep(Duration::from_millis(wait_ms)).await,
            answer => return answer,
        }
    }
    call().await
}

/// The error of an operation whose record is durable but whose effect is not yet everywhere.
pub(crate) fn unfinished(what: &str, error: Error) -> Error {
    let message = format!("{what} is recorded but not yet visible everywhere; the outbox finishes it");
    Error::new(ErrorKind::OutcomeUnknown, message).with_source(error)
}

/// The error of an operation that others kept overtaking.
pub(crate) fn contended(what: &str) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{what} was changed by others {ATTEMPTS} times in a row"))
}
