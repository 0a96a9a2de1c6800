//! The review queue: what people look at, what they decide, and what is kept of it for the next training.
//!
//! Invariant: a decision is written once, in the partition of its text; the labelled row, the effects and the end of the
//! queue entry follow, and whoever finds the entry again finishes them.

use keevo_core::{Batch, Engine, Error, ErrorKind, PageToken, Result, Scan};
use serde::{Deserialize, Serialize};

use super::{Verdicts, decode, encode, keys};
use crate::policy::{Action, check_name};
use crate::text::{TextKind, TextVersion, hex, unhex};
use crate::verdict::{Effects, Verdict};

/// The most entries on a page of the queue, and rows on a page of labels.
pub const QUEUE_PAGE_MAX: usize = 1_000;
/// The most labels of a decision.
pub const DECIDED_LABELS_MAX: usize = 32;
/// The longest note of a decision, in bytes.
const NOTE_BYTES_MAX: usize = 4_096;
/// The bytes of a row's place in the queue: a time and a digest.
const PLACE_BYTES: usize = 24;

/// What a person says of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ruling {
    /// It may stand.
    Allow,
    /// It is taken away.
    Remove,
    /// It is taken away, and its author is kept out of where it stood.
    Ban,
}

impl Ruling {
    /// The ruling of that name.
    pub fn from_name(name: &str) -> Result<Self> {
        match name {
            "allow" => Ok(Self::Allow),
            "remove" => Ok(Self::Remove),
            "ban" => Ok(Self::Ban),
            _ => Err(Error::invalid(format!("a decision is allow, remove or ban, not '{}'", name.escape_debug()))),
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Remove => "remove",
            Self::Ban => "ban",
        }
    }
}

/// A person's decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// What.
    pub ruling: Ruling,
    /// By whom.
    pub reviewer: String,
    /// The labels that hold of the text, as the next training is to learn them; empty where it may stand.
    pub labels: Vec<String>,
    /// Why, for people.
    pub note: String,
}

impl Decision {
    fn check(&self) -> Result<()> {
        check_name("a reviewer", &self.reviewer)?;
        if self.labels.len() > DECIDED_LABELS_MAX {
            return Err(Error::invalid(format!("a decision has at most {DECIDED_LABELS_MAX} labels")));
        }
        if self.note.len() > NOTE_BYTES_MAX {
            return Err(Error::invalid(format!("a note has at most {NOTE_BYTES_MAX} bytes")));
        }
        self.labels.iter().try_for_each(|label| check_name("a label", label))
    }
}

/// A decision and when it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// What was decided.
    #[serde(flatten)]
    pub decision: Decision,
    /// When, in milliseconds since the epoch.
    pub decided_ms: u64,
}

/// An entry of the queue.
#[derive(Debug, Clone, PartialEq)]
pub struct QueuedVerdict {
    /// Names it in [`Verdicts::decide`].
    pub id: String,
    /// The verdict.
    pub verdict: Verdict,
}

/// A page of the queue, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct QueuePage {
    /// The entries; there may be fewer than asked for and still a next page.
    pub entries: Vec<QueuedVerdict>,
    /// The id after which the next page begins; `None` = there is no more.
    pub next: Option<String>,
}

/// A decided text, as labelled data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Label {
    /// The verdict that led to the review.
    pub verdict: Verdict,
    /// What a person decided.
    pub decided: Decided,
}

/// A page of labelled data, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelPage {
    /// The rows.
    pub labels: Vec<Label>,
    /// Where the next page begins; `None` = there is no more.
    pub next: Option<String>,
}

impl<E: Engine> Verdicts<E> {
    /// Puts a verdict before a person, unless one has decided on it. Repeatable.
    pub(crate) async fn enqueue(&self, verdict: &Verdict) -> Result<()> {
        if self.decision(&verdict.version).await?.is_some() {
            return Ok(());
        }
        let place = keys::timed(verdict.judged_ms, &verdict.version.digest());
        let key = self.keyspace.key(keys::queue(verdict.version.app), place);
        self.repeat(Batch::new().put(key.clone(), encode(verdict)?)).await?;
        if self.is_erased(&verdict.version).await? { self.settle(key).await } else { Ok(()) }
    }

    /// What a person decided on a version.
    pub async fn decision(&self, version: &TextVersion) -> Result<Option<Decided>> {
        let record = self.get(keys::of_version(self.keyspace, keys::DECISION, version)).await?;
        record.map(|record| decode(&record.value, "a decision")).transpose()
    }

    /// A page of an app's queue, oldest first, after the entry `after`. Entries that were decided on meanwhile are left
    /// out.
    pub async fn queue(&self, app: u32, limit: usize, after: Option<&str>) -> Result<QueuePage> {
        let (rows, next) = self.rows(keys::queue(app), limit, after).await?;
        let mut entries = Vec::with_capacity(rows.len());
        for (id, value) in rows {
            let verdict: Verdict = decode(&value, "an entry of the queue")?;
            if self.decision(&verdict.version).await?.is_none() {
                entries.push(QueuedVerdict { id, verdict });
            }
        }
        Ok(QueuePage { entries, next })
    }

    /// Decides on an entry of the queue. `NotFound` where there is none of that id, `Conflict` where somebody decided
    /// otherwise before. The same decision again finishes what was left half done.
    pub async fn decide(&self, app: u32, id: &str, decision: Decision, effects: &dyn Effects) -> Result<Decided> {
        decision.check()?;
        let key = self.keyspace.key(keys::queue(app), place(id)?);
        let record = self.get(key.clone()).await?;
        let gone = || Error::new(ErrorKind::NotFound, format!("app {app} has no {id} in its queue, or not any more"));
        let verdict: Verdict = decode(&record.ok_or_else(gone)?.value, "an entry of the queue")?;
        if decision.ruling == Ruling::Ban && verdict.version.kind != TextKind::Message {
            return Err(Error::invalid("only authors of messages can be kept out: decide remove"));
        }
        let decided = Decided { decision, decided_ms: self.clock.now_ms() };
        let row = keys::of_version(self.keyspace, keys::DECISION, &verdict.version);
        let Some((stored, _)) = self.put_once(row, encode(&decided)?).await? else {
            self.settle(key).await?;
            return Err(gone());
        };
        let stored: Decided = decode(&stored, "a decision")?;
        let label = Label { verdict, decided: stored.clone() };
        let place = keys::timed(stored.decided_ms, &label.verdict.version.digest());
        let labelled = self.keyspace.key(keys::labels(app), place);
        self.repeat(Batch::new().put(labelled.clone(), encode(&label)?)).await?;
        if self.is_erased(&label.verdict.version).await? {
            self.settle(labelled).await?;
            self.settle(key).await?;
            return Err(gone());
        }
        self.follow(&label.verdict, stored.decision.ruling, effects).await?;
        self.settle(key).await?;
        if stored.decision != decided.decision {
            let message = format!("{} decided before: {}", stored.decision.reviewer, stored.decision.ruling.name());
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        Ok(stored)
    }

    /// Does what a person has decided. Repeatable.
    pub(crate) async fn follow(&self, verdict: &Verdict, ruling: Ruling, effects: &dyn Effects) -> Result<()> {
        match ruling {
            Ruling::Allow if verdict.action == Action::Hold => effects.release(verdict, None).await,
            Ruling::Allow => Ok(()),
            Ruling::Remove => self.take_back(verdict, effects).await,
            Ruling::Ban => {
                self.take_back(verdict, effects).await?;
                effects.ban(&verdict.version).await
            }
        }
    }

    /// Takes a text back, as it was written, masked or hidden.
    async fn take_back(&self, verdict: &Verdict, effects: &dyn Effects) -> Result<()> {
        effects.take_back(&verdict.version).await?;
        if let Some(hidden) = verdict.of_hidden()? {
            effects.take_back(&hidden).await?;
        }
        match verdict.of_masked()? {
            Some(masked) => effects.take_back(&masked.version).await,
            None => Ok(()),
        }
    }

    /// A page of an app's labelled data, in the order of the decisions.
    pub async fn labels(&self, app: u32, limit: usize, after: Option<&str>) -> Result<LabelPage> {
        let (rows, next) = self.rows(keys::labels(app), limit, after).await?;
        let labels = rows.iter().map(|(_, value)| decode(value, "a labelled text")).collect::<Result<_>>()?;
        Ok(LabelPage { labels, next })
    }

    /// Rows by time, after the place `after`; each with its place.
    async fn rows(
        &self,
        partition: Vec<u8>,
        limit: usize,
        after: Option<&str>,
    ) -> Result<(Vec<(String, bytes::Bytes)>, Option<String>)> {
        if limit == 0 || limit > QUEUE_PAGE_MAX {
            return Err(Error::invalid(format!("a page has 1 to {QUEUE_PAGE_MAX} entries, not {limit}")));
        }
        let start = after.map(place).transpose()?.map(|mut last| {
            last.push(0);
            last
        });
        let mut scan = Scan::partition(self.keyspace, partition, limit);
        if let keevo_core::ScanRange::Partition { start: from, .. } = &mut scan.range {
            *from = start.unwrap_or_default().into();
        }
        let mut rows = Vec::new();
        let mut token: Option<PageToken> = None;
        loop {
            let page = self.engine.scan(scan.clone().after(token)).await?;
            rows.extend(page.records.into_iter().map(|(key, record)| (hex(&key.sort), record.value)));
            token = page.next;
            if rows.len() >= limit || token.is_none() {
                break;
            }
        }
        let more = token.is_some() || rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|(place, _)| place.clone());
        Ok((rows, next))
    }
}

/// The place that an id names.
fn place(id: &str) -> Result<Vec<u8>> {
    let bad = || {
        let message = format!("'{}' is no id of an entry: take one from the list", id.escape_debug());
        Error::invalid(message)
    };
    unhex(id).filter(|bytes| bytes.len() == PLACE_BYTES).ok_or_else(bad)
}
