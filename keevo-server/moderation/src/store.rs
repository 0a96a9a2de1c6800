//! The store: verdicts and decisions, copied to PostgreSQL as they are made.
//!
//! ```text
//! changes of the keyspace of verdicts ──> work ──> one transaction in PostgreSQL ──> the place is saved
//!                                          │ PostgreSQL is down or slow
//!                                          v
//!                                   marks of texts, on disk ──> read anew once it is back
//! ```
//!
//! Where changes were dropped before they were read, `refill` marks what they may have been about.
//!
//! Invariant: the saved place in the changes never runs ahead of what the store has or of the marks, so it ends with
//! every row that Keevo has, whatever stops in between; what is done twice changes nothing. Memory holds one chunk of
//! changes, however long PostgreSQL is away. One node feeds it, by a lease; a second one that still believes so is
//! stopped by the lock in PostgreSQL.

mod refill;
mod rows;
mod session;
mod spool;
#[cfg(test)]
mod tests;
mod tls;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use keevo_core::{Clock, CommitEvent, Engine, Error, ErrorKind, Random, Result, WatchFrom, WatchRange};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_util::sync::CancellationToken;

use crate::lease::Lease;
use crate::moderator::Moderator;
use crate::places::Places;
use crate::verdicts::Verdicts;
use refill::Refill;
use rows::{Touched, Work, take_in};
use session::{Failed, Session};
use spool::{Mark, Spool};
use tls::Tls;

/// Under which the place in the changes, and the lease, are kept.
const NAME: &str = "postgres";
/// The most changes that are taken together.
const CHUNK: usize = 64;
/// How many changes that say nothing to the store pass before the place is saved for them alone.
const OTHERS: usize = 1_000;
/// How long the feed waits after the changes broke off.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// How the store is fed. The defaults suit production.
#[derive(Debug, Clone, Copy)]
pub struct StoreOptions {
    /// The first pause after PostgreSQL failed; pauses double.
    pub pause_min: Duration,
    /// The longest pause.
    pub pause_max: Duration,
    /// How long a node that fell silent keeps others from feeding.
    pub lease: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        let (pause_min, pause_max) = (Duration::from_millis(250), Duration::from_secs(30));
        Self { pause_min, pause_max, lease: Duration::from_secs(10) }
    }
}

/// What the feed of one node has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreMetrics {
    /// Rows written to PostgreSQL, or taken away there.
    pub rows: u64,
    /// Times that PostgreSQL failed, or could not be reached.
    pub failures: u64,
    /// Texts marked on disk while it could not be.
    pub marked: u64,
    /// Texts that PostgreSQL cannot hold, and rows that cannot be read: they are not there.
    pub refused: u64,
    /// Times that changes were dropped before they were read.
    pub gaps: u64,
    /// Texts that were marked to fill such gaps.
    pub refilled: u64,
    /// The age of the oldest row that PostgreSQL does not have yet, in milliseconds; 0 = it has all.
    pub lag_ms: u64,
}

#[derive(Debug, Default)]
struct Counters {
    rows: AtomicU64,
    failures: AtomicU64,
    marked: AtomicU64,
    refused: AtomicU64,
    gaps: AtomicU64,
    refilled: AtomicU64,
    /// When the oldest row was made that is not stored yet, in milliseconds since the epoch; 0 = there is none.
    since_ms: AtomicU64,
}

/// The PostgreSQL that verdicts are copied to. Cheap to clone; clones share the counters.
#[derive(Clone)]
pub struct Store {
    config: Arc<Config>,
    tls: Tls,
    options: StoreOptions,
    counters: Arc<Counters>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.write_str("Store")
    }
}

impl Store {
    /// The store at `url` (`postgresql://user:password@host/database?sslmode=require`). Does no I/O.
    ///
    /// # Errors
    /// `Config` for a URL that is none; the error does not show it.
    pub fn new(url: &str, options: StoreOptions, clock: Arc<dyn Clock>) -> Result<Self> {
        let mut config: Config = url.trim().parse().map_err(|_hidden: tokio_postgres::Error| {
            Error::new(ErrorKind::Config, "the URL of PostgreSQL must be like postgresql://user:password@host/database")
        })?;
        config.application_name("keevo").connect_timeout(Duration::from_secs(5));
        // Whoever stands between could say that a remote server has no TLS, and read password and texts.
        if config.get_ssl_mode() == SslMode::Prefer && !is_local(&config) {
            config.ssl_mode(SslMode::Require);
        }
        config.keepalives_idle(Duration::from_secs(10));
        let (tls, counters) = (Tls::new()?, Arc::default());
        Ok(Self { config: Arc::new(config), tls, options, counters, clock })
    }

    /// What was counted here.
    pub fn metrics(&self) -> StoreMetrics {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let since = of(&self.counters.since_ms);
        StoreMetrics {
            rows: of(&self.counters.rows),
            failures: of(&self.counters.failures),
            marked: of(&self.counters.marked),
            refused: of(&self.counters.refused),
            gaps: of(&self.counters.gaps),
            refilled: of(&self.counters.refilled),
            lag_ms: if since == 0 { 0 } else { self.clock.now_ms().saturating_sub(since) },
        }
    }

    /// Feeds the store with the verdicts of `moderator` until `stop`, while this node has the lease.
    pub async fn run<E: Engine>(self, moderator: Moderator<E>, random: &dyn Random, stop: CancellationToken) {
        let instance = random.next_u64();
        let work = async {
            loop {
                if let Err(error) = self.take_and_feed(&moderator, instance).await {
                    tracing::debug!(%error, "the lease of the store cannot be taken yet");
                }
                tokio::time::sleep(self.options.lease / 3).await;
            }
        };
        if stop.run_until_cancelled(work).await.is_none()
            && let Ok(verdicts) = moderator.verdicts().await
            && let Err(error) = Lease::new(verdicts, LEASE, instance, self.options.lease).give_back().await
        {
            tracing::debug!(%error, "the lease of the store runs out by itself");
        }
    }

    async fn take_and_feed<E: Engine>(&self, moderator: &Moderator<E>, instance: u64) -> Result<()> {
        let verdicts = moderator.verdicts().await?;
        let lease = Lease::new(verdicts, LEASE, instance, self.options.lease);
        if lease.take().await? {
            let tried = Spool::new(verdicts).try_again().await?;
            if tried > 0 {
                tracing::info!(texts = tried, "texts that PostgreSQL could not be given are tried again");
            }
            tokio::select! {
                () = self.feed_for_ever(verdicts) => {}
                () = lease.hold() => tracing::info!("another node feeds PostgreSQL now"),
            }
            // What is not stored yet is the other node's to tell.
            self.counters.since_ms.store(0, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn feed_for_ever<E: Engine>(&self, verdicts: &Verdicts<E>) {
        loop {
            if let Err(error) = Feed::new(self, verdicts).run().await {
                if error.kind() == ErrorKind::CursorCompacted {
                    tracing::error!(%error, "changes of verdicts were dropped before PostgreSQL had them");
                    self.counters.gaps.fetch_add(1, Ordering::Relaxed);
                    if let Err(error) = skip(verdicts).await {
                        tracing::warn!(%error, "the place in the changes could not be moved");
                    }
                } else {
                    tracing::debug!(%error, "the changes of verdicts broke off");
                }
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }
}

/// Goes on from now, with a gap to be filled.
async fn skip<E: Engine>(verdicts: &Verdicts<E>) -> Result<()> {
    refill::begin(verdicts).await?;
    Places::skip(verdicts, NAME, verdicts.keyspace).await
}

/// Whether a server is reached without a network.
fn is_local(config: &Config) -> bool {
    let local = |host: &Host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    };
    config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback) && config.get_hosts().iter().all(local)
}

/// The name of the lease.
const LEASE: &str = "lease postgres";

/// One run of the feed, from the saved place until the changes break off.
struct Feed<'a, E> {
    store: &'a Store,
    verdicts: &'a Verdicts<E>,
    spool: Spool<E>,
    session: Option<Session>,
    /// Whether there may be marks.
    marked: bool,
    /// How far the filling of a gap is, if there is one.
    refill: Option<Refill>,
    pause: Duration,
    /// When PostgreSQL is tried again, by the monotonic clock.
    again_at: Duration,
}

impl<'a, E: Engine> Feed<'a, E> {
    fn new(store: &'a Store, verdicts: &'a Verdicts<E>) -> Self {
        let (spool, pause) = (Spool::new(verdicts), store.options.pause_min);
        // A run before this one may have left marks.
        let (session, refill, again_at) = (None, None, Duration::ZERO);
        Self { store, verdicts, spool, session, marked: true, refill, pause, again_at }
    }

    async fn run(mut self) -> Result<()> {
        let keyspace = self.verdicts.keyspace;
        let mut places = Places::load(self.verdicts, NAME, keyspace).await?;
        let from = WatchFrom::After(places.cursors());
        let watch = self.verdicts.engine.watch(WatchRange::Keyspace(keyspace), from).await?;
        let mut chunks = watch.ready_chunks(CHUNK);
        if let Some(oldest) = self.spool.marks().await?.iter().map(|mark| mark.at_ms).min() {
            self.behind_since(oldest);
        }
        self.refill = refill::load(self.verdicts).await?;
        let mut others = 0;
        loop {
            self.catch_up().await?;
            let behind = self.marked || self.session.is_none() || self.refill.is_some();
            let wait = self.again_at.saturating_sub(self.store.clock.monotonic());
            let next = tokio::select! {
                // Changes first: filling a gap makes some too, and must not fall behind them.
                biased;
                next = chunks.next() => next,
                () = tokio::time::sleep(wait), if behind => {
                    self.refill().await?;
                    continue;
                }
            };
            let Some(chunk) = next else { return Ok(()) };
            let events = chunk.into_iter().collect::<Result<Vec<_>>>()?;
            if self.store_events(&events).await? {
                others = 0;
                places.pass(&events);
                places.save().await?;
            } else {
                // Saving the place is a change too: it must not lead to the next saving.
                places.pass(&events);
                others += events.len();
                if others >= OTHERS {
                    others = 0;
                    places.save().await?;
                }
            }
        }
    }

    /// Brings changes into the store, or marks their texts; whether they said anything to it.
    async fn store_events(&mut self, events: &[CommitEvent]) -> Result<bool> {
        let (mut work, mut touched) = (Work::default(), Vec::new());
        for event in events {
            match take_in(event, &mut work) {
                Ok(one) => touched.extend(one),
                // It stays in Keevo as it is, and holds nothing up here.
                Err(error) => {
                    tracing::error!(%error, "a row of verdicts cannot be read");
                    self.store.counters.refused.fetch_add(1, Ordering::Relaxed);
                    self.spool.set_aside(&event.key.partition, self.store.clock.now_ms()).await?;
                }
            }
        }
        if work.is_empty() {
            return Ok(false);
        }
        let now_ms = self.store.clock.now_ms();
        let oldest = touched.iter().filter_map(|one| one.at_ms).min().unwrap_or(now_ms);
        self.behind_since(oldest);
        // What replaces all rows of a text is read anew, and marks come before what is newer than they.
        if work.anew.is_empty() && !self.marked && self.apply(&work).await {
            self.store.counters.since_ms.store(0, Ordering::Relaxed);
            return Ok(true);
        }
        for Touched { partition, at_ms } in touched {
            self.spool.mark(&partition, at_ms.unwrap_or(now_ms)).await?;
            self.store.counters.marked.fetch_add(1, Ordering::Relaxed);
        }
        self.marked = true;
        Ok(true)
    }

    /// Brings some of the marked texts into the store, once it is time to try.
    async fn catch_up(&mut self) -> Result<()> {
        let due = self.store.clock.monotonic() >= self.again_at && (self.marked || self.session.is_none());
        if !due || !self.connected().await {
            return Ok(());
        }
        let marks = self.spool.marks().await?;
        let Some(oldest) = marks.iter().map(|mark| mark.at_ms).min() else {
            self.marked = false;
            self.store.counters.since_ms.store(0, Ordering::Relaxed);
            return Ok(());
        };
        self.store.counters.since_ms.store(oldest.max(1), Ordering::Relaxed);
        for mark in &marks {
            if !self.bring(mark).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Brings one marked text into the store; false where that is not there.
    async fn bring(&mut self, mark: &Mark) -> Result<bool> {
        let (work, unreadable) = self.spool.all_of(&mark.partition).await?;
        self.store.counters.refused.fetch_add(unreadable, Ordering::Relaxed);
        if unreadable > 0 {
            self.spool.set_aside(&mark.partition, mark.at_ms).await?;
        }
        let Some(session) = &mut self.session else { return Ok(false) };
        match session.apply(&work).await {
            Ok(()) => self.count(&work),
            Err(Failed::Data(error)) => {
                tracing::error!(%error, "PostgreSQL cannot hold the verdicts of a text");
                self.store.counters.refused.fetch_add(1, Ordering::Relaxed);
                self.spool.set_aside(&mark.partition, mark.at_ms).await?;
            }
            Err(Failed::Store(error)) => {
                self.failed(&error);
                return Ok(false);
            }
        }
        self.spool.clear(mark).await?;
        Ok(true)
    }

    /// Does the work at once; false where it is to be marked.
    async fn apply(&mut self, work: &Work) -> bool {
        if self.store.clock.monotonic() < self.again_at || !self.connected().await {
            return false;
        }
        let Some(session) = &mut self.session else { return false };
        match session.apply(work).await {
            Ok(()) => {
                self.count(work);
                true
            }
            // One of the texts is at fault: each is looked at by itself.
            Err(Failed::Data(_)) => false,
            Err(Failed::Store(error)) => {
                self.failed(&error);
                false
            }
        }
    }

    /// Connects where there is no connection; false where none can be had.
    async fn connected(&mut self) -> bool {
        if self.session.is_some() {
            return true;
        }
        match Session::open(&self.store.config, &self.store.tls).await {
            Ok(session) => {
                tracing::info!("verdicts are copied to PostgreSQL");
                self.session = Some(session);
                true
            }
            Err(Failed::Data(error) | Failed::Store(error)) => {
                self.failed(&error);
                false
            }
        }
    }

    /// PostgreSQL failed: it is left alone for a while, longer each time.
    fn failed(&mut self, error: &Error) {
        let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        tracing::warn!(%error, source, "PostgreSQL cannot take verdicts; it is tried again");
        self.store.counters.failures.fetch_add(1, Ordering::Relaxed);
        self.session = None;
        self.again_at = self.store.clock.monotonic() + self.pause;
        self.pause = (self.pause * 2).min(self.store.options.pause_max);
    }

    fn count(&mut self, work: &Work) {
        self.pause = self.store.options.pause_min;
        self.store.counters.rows.fetch_add(u64::try_from(work.rows()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The store lacks a row that was made then.
    fn behind_since(&self, at_ms: u64) {
        let (since, at_ms) = (self.store.counters.since_ms.load(Ordering::Relaxed), at_ms.max(1));
        let earliest = if since == 0 { at_ms } else { since.min(at_ms) };
        self.store.counters.since_ms.store(earliest, Ordering::Relaxed);
    }
}
