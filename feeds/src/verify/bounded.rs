//! Verification in steps: a call reads so much and no more.
//!
//! What is verified is the same. A meter between feeds and engine counts the rows that are read, and ends it.
//!
//! Invariant: a step gets at least one feed further, or says why it cannot.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use keevo_core::{
    Batch, Consistency, Engine, Error, ErrorKind, FanOut, FannedOut, Key, Keyspace, KeyspaceKind, Record, Result, Scan,
    ScanPage, Watch, WatchFrom, WatchRange, Written,
};

use super::VerifyReport;
use crate::feed_id::FeedId;
use crate::feeds::Feeds;

/// The most rows that [`Feeds::verify_within`] reads for one feed, some 100 MB of memory.
pub const VERIFY_ROWS_MAX: usize = 1_000_000;
/// How many feeds are verified side by side.
const AT_ONCE: usize = 8;

/// An engine that reads up to so many rows.
#[derive(Debug, Clone)]
struct Metered<E> {
    inner: E,
    read: Arc<AtomicUsize>,
    most: usize,
}

impl<E> Metered<E> {
    fn count(&self, rows: usize) -> Result<()> {
        let read = self.read.fetch_add(rows, Ordering::Relaxed).saturating_add(rows);
        if read <= self.most {
            return Ok(());
        }
        let message = format!("to verify it takes more than {} rows: do it in a program that links feeds", self.most);
        Err(Error::new(ErrorKind::BatchTooLarge, message))
    }
}

impl<E: Engine> Feeds<E> {
    /// Verifies the first of `feeds`, until about `rows` rows were read, and says how many of them these are: at least one.
    /// `BatchTooLarge`: the first alone takes more than [`VERIFY_ROWS_MAX`].
    pub async fn verify_within(&self, feeds: &[FeedId], rows: usize) -> Result<(VerifyReport, usize)> {
        self.verify_metered(feeds, rows, VERIFY_ROWS_MAX).await
    }

    /// The same, with another bound on one feed.
    pub(crate) async fn verify_metered(
        &self,
        feeds: &[FeedId],
        rows: usize,
        most: usize,
    ) -> Result<(VerifyReport, usize)> {
        let (mut report, mut done, mut read, mut at_once) = (VerifyReport::default(), 0, 0, AT_ONCE);
        while let Some(rest) = feeds.get(done..).filter(|rest| !rest.is_empty() && (done == 0 || read < rows)) {
            let (some, _) = rest.split_at(at_once.min(rest.len()));
            let meter = Metered { inner: self.engine().clone(), read: Arc::default(), most };
            let found = Box::pin(self.over(meter.clone()).verify(some.to_vec())).await;
            read += meter.read.load(Ordering::Relaxed);
            match found {
                Ok(found) => {
                    report = report.plus(found);
                    done += some.len();
                }
                // Together they take too much; each alone may not.
                Err(error) if error.kind() == ErrorKind::BatchTooLarge && some.len() > 1 => at_once = 1,
                // What is done is told first: the next step begins with this one.
                Err(error) if error.kind() == ErrorKind::BatchTooLarge && done > 0 => break,
                Err(error) => {
                    let names: Vec<&str> = some.iter().map(FeedId::as_str).collect();
                    let message = format!("{}: {}", names.join(", "), error.message());
                    return Err(Error::new(error.kind(), message).with_source(error));
                }
            }
        }
        Ok((report, done))
    }
}

impl<E: Engine> Engine for Metered<E> {
    async fn keyspace(&self, name: &str, kind: KeyspaceKind) -> Result<Keyspace> {
        self.inner.keyspace(name, kind).await
    }

    async fn find_keyspace(&self, name: &str) -> Result<Keyspace> {
        self.inner.find_keyspace(name).await
    }

    async fn get(&self, key: Key, consistency: Consistency) -> Result<Option<Record>> {
        self.count(1)?;
        self.inner.get(key, consistency).await
    }

    async fn multi_get(&self, keys: Vec<Key>, consistency: Consistency) -> Result<Vec<Option<Record>>> {
        self.count(keys.len())?;
        self.inner.multi_get(keys, consistency).await
    }

    async fn scan(&self, scan: Scan) -> Result<ScanPage> {
        let page = self.inner.scan(scan).await?;
        self.count(1 + page.records.len())?;
        Ok(page)
    }

    async fn write(&self, batch: Batch) -> Result<Written> {
        self.inner.write(batch).await
    }

    async fn fan_out(&self, fan_out: FanOut) -> Result<FannedOut> {
        self.inner.fan_out(fan_out).await
    }

    async fn watch(&self, range: WatchRange, from: WatchFrom) -> Result<Watch> {
        self.inner.watch(range, from).await
    }
}
