//! The stored verdicts, the texts that wait for one, and what people decided.
//!
//! ```text
//! hashed keyspace "moderation"
//! partition                 sort key                     value (JSON)
//! v app kind ‹text id›      v ‹hash›                     the verdict on a version; written once, with `absent`
//!                           d ‹hash›                     a person's decision on it; likewise
//!                           e                            the text is erased: nothing of it is stored any more
//! p bucket                  ‹time› ‹digest›              a version that waits for its verdict, or for what follows it
//! q app                     ‹judged› ‹digest›            a verdict that a person is to look at
//! l app                     ‹decided› ‹digest›           a decision as labelled data
//! c                         ‹source›, lease              where the pipeline is in each source; who runs it (expires)
//! s bucket, r bucket        ‹partition›                  a text whose rows the store does not have yet, or could not take
//! t bucket                  ‹partition›                  the catalogue: a text that was judged, where a store is fed
//! u app ‹author›            ‹partition›                  a text of an author that may stand nowhere; author as a digest
//! n app ‹channel›           ‹partition›                  a text of a channel that may stand nowhere; channel as a digest
//!                           e                            the channel is erased: nothing of it is noted any more
//! ```
//!
//! # Why every version ends with exactly one verdict
//!
//! * At most one: the verdict's key is the version, and it is written with `absent`. Whoever loses reads the winner's.
//! * At least one: whoever takes a text in either stores its verdict or leaves a row in `p` before it answers. The row
//!   goes only after the verdict, its place in the queue and its effects are there; each of these may be repeated.
//!
//! Numbers in keys are big-endian, so the oldest sorts first. A digest names a version among those of all texts.

pub(crate) mod catalogue;
mod erase;
mod keys;
mod review;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use keevo_core::{
    Batch, Check, Clock, Consistency, Engine, Error, ErrorKind, Key, Keyspace, KeyspaceKind, Record, Result, Scan,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::text::{self, TextKind, TextVersion};
use crate::verdict::Verdict;
pub(crate) use keys::{BUCKETS, VERDICT, row_of};
pub use review::{
    DECIDED_LABELS_MAX, Decided, Decision, Label, LabelPage, QUEUE_PAGE_MAX, QueuePage, QueuedVerdict, Ruling,
};

/// The keyspace of all verdicts.
pub const KEYSPACE: &str = "moderation";
/// How often a write whose fate is unknown is tried again.
const ATTEMPTS: usize = 16;
/// How many reads one call keeps in flight.
const CONCURRENCY: usize = 16;

/// The verdicts of all apps over an engine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Verdicts<E> {
    pub(crate) engine: E,
    pub(crate) keyspace: Keyspace,
    pub(crate) clock: Arc<dyn Clock>,
    /// Whether texts are put into the catalogue.
    catalogued: Arc<AtomicBool>,
}

/// A version that waits, and where.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Waiting {
    pub(crate) version: TextVersion,
    pub(crate) key: Key,
}

impl<E: Engine> Verdicts<E> {
    /// Opens the verdicts; the keyspace is created when it is new.
    pub async fn open(engine: E, clock: Arc<dyn Clock>) -> Result<Self> {
        let keyspace = engine.keyspace(KEYSPACE, KeyspaceKind::Hashed).await?;
        Ok(Self { engine, keyspace, clock, catalogued: Arc::default() })
    }

    /// The same, which keep a catalogue of their texts once `catalogued` says so.
    pub(crate) fn catalogued(self, catalogued: Arc<AtomicBool>) -> Self {
        Self { catalogued, ..self }
    }

    /// The verdict on a version, once there is one.
    pub async fn of_version(&self, version: &TextVersion) -> Result<Option<Verdict>> {
        let record = self.get(self.verdict_key(version)).await?;
        record.map(|record| decode(&record.value, "a verdict")).transpose()
    }

    /// The verdicts on all versions of a text, in no order; at most `limit`.
    pub async fn of_text(&self, app: u32, kind: TextKind, id: &str, limit: usize) -> Result<Vec<Verdict>> {
        let scan = Scan::prefix(self.keyspace, text::partition(app, kind, id), VERDICT, limit);
        let page = self.engine.scan(scan).await?;
        page.records.iter().map(|(_, record)| decode(&record.value, "a verdict")).collect()
    }

    /// How many texts wait, up to `max` of each of the partitions that they lie in.
    pub async fn count_waiting(&self, max: usize) -> Result<usize> {
        let mut count = 0;
        for bucket in 0..BUCKETS {
            count += self.waiting(bucket, max).await?.len();
        }
        Ok(count)
    }

    /// The verdicts on these versions, in their order.
    pub async fn of_versions(&self, versions: &[TextVersion]) -> Result<Vec<Option<Verdict>>> {
        let reads = versions.iter().map(|version| Box::pin(self.of_version(version)));
        let mut found = futures::stream::iter(reads.collect::<Vec<_>>()).buffered(CONCURRENCY);
        let mut verdicts = Vec::with_capacity(versions.len());
        while let Some(verdict) = found.next().await {
            verdicts.push(verdict?);
        }
        Ok(verdicts)
    }

    /// Stores a verdict where its version has none; answers with the one that is stored, and whether it was made here.
    /// `None` where the text is erased: then none is.
    pub(crate) async fn record(&self, verdict: Verdict) -> Result<Option<(Verdict, bool)>> {
        if verdict.stands_nowhere() && !self.note(&verdict.version).await? {
            return Ok(None);
        }
        if self.catalogued.load(Ordering::Relaxed) {
            let key = catalogue::key(self.keyspace, &verdict.version.partition());
            self.repeat(Batch::new().put(key, Bytes::new())).await?;
        }
        // The masked version's goes first: where the original has a verdict, so has what came of it.
        if let Some(masked) = verdict.of_masked()? {
            self.put_once(self.verdict_key(&masked.version), encode(&masked)?).await?;
        }
        let Some((stored, first)) = self.put_once(self.verdict_key(&verdict.version), encode(&verdict)?).await? else {
            return Ok(None);
        };
        Ok(Some((if first { verdict } else { decode(&stored, "a verdict")? }, first)))
    }

    /// Leaves a version that may stand nowhere to the pipeline, unless its channel is erased. Repeatable.
    pub(crate) async fn leave(&self, version: &TextVersion) -> Result<()> {
        if self.note(version).await? { self.leave_standing(version).await } else { Ok(()) }
    }

    /// Leaves a version that stands somewhere to the pipeline. Repeatable.
    pub(crate) async fn leave_standing(&self, version: &TextVersion) -> Result<()> {
        let key = keys::waiting(self.keyspace, version);
        self.repeat(Batch::new().put(key, encode(version)?)).await
    }

    /// Takes a version that was left under its own time out of those that wait. Repeatable.
    pub(crate) async fn settle_version(&self, version: &TextVersion) -> Result<()> {
        self.settle(keys::waiting(self.keyspace, version)).await
    }

    /// Takes a row out of those that wait. Repeatable.
    pub(crate) async fn settle(&self, key: Key) -> Result<()> {
        self.repeat(Batch::new().delete(key)).await
    }

    /// The versions that wait longest in one bucket, oldest first.
    pub(crate) async fn waiting(&self, bucket: u8, limit: usize) -> Result<Vec<Waiting>> {
        let mut scan = Scan::partition(self.keyspace, keys::bucket(bucket), limit);
        let mut waiting = Vec::new();
        loop {
            let page = self.engine.scan(scan.clone()).await?;
            for (key, record) in page.records {
                waiting.push(Waiting { version: decode(&record.value, "a text that waits")?, key });
            }
            if waiting.len() >= limit || page.next.is_none() {
                waiting.truncate(limit);
                return Ok(waiting);
            }
            scan.after = page.next;
        }
    }

    fn verdict_key(&self, version: &TextVersion) -> Key {
        keys::of_version(self.keyspace, VERDICT, version)
    }

    pub(crate) async fn get(&self, key: Key) -> Result<Option<Record>> {
        self.engine.get(key, Consistency::Linearizable).await
    }

    /// Writes `value`, of a text, where there is nothing yet; answers with what is there then, and whether that is it.
    /// `None` where the text is erased.
    async fn put_once(&self, key: Key, value: Bytes) -> Result<Option<(Bytes, bool)>> {
        let mut unsure = false;
        let erased = self.mark_of(key.partition.to_vec());
        for _ in 0..ATTEMPTS {
            let batch = Batch::new().require(erased.clone(), Check::Absent);
            let batch = batch.require(key.clone(), Check::Absent).put(key.clone(), value.clone());
            match self.engine.write(batch).await {
                Ok(_) => return Ok(Some((value, true))),
                Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::OutcomeUnknown) => {
                    unsure |= error.kind() == ErrorKind::OutcomeUnknown;
                    if let Some(record) = self.get(key.clone()).await? {
                        let first = unsure && record.value == value;
                        return Ok(Some((record.value, first)));
                    }
                    if self.get(erased.clone()).await?.is_some() {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(unsettled())
    }

    /// Makes a write that may be repeated.
    pub(crate) async fn repeat(&self, batch: Batch) -> Result<()> {
        for _ in 0..ATTEMPTS {
            match self.engine.write(batch.clone()).await {
                Err(error) if error.kind() == ErrorKind::OutcomeUnknown => {}
                written => return written.map(drop),
            }
        }
        Err(unsettled())
    }
}

fn unsettled() -> Error {
    Error::new(ErrorKind::Unavailable, "the store did not say whether the verdict was written; try again")
}

pub(crate) fn encode(value: &impl Serialize) -> Result<Bytes> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| Error::invalid("a verdict cannot be written as JSON").with_source(error))
}

pub(crate) fn decode<T: DeserializeOwned>(value: &[u8], what: &str) -> Result<T> {
    serde_json::from_slice(value)
        .map_err(|error| Error::corrupt(format!("the row of {what} is malformed")).with_source(error))
}

/// A row of the pipeline's own.
pub(crate) fn pipeline_key(keyspace: Keyspace, name: &str) -> Key {
    keys::pipeline(keyspace, name)
}
