//! What the store does not have yet while it cannot be reached: the names of texts whose rows have changed.
//!
//! ```text
//! partition  sort key                             value
//! s bucket   ‹partition of the text's verdicts›   when it was marked, 8 bytes
//! r bucket   likewise                             a text that could not be read or held, to be tried by the next who feeds
//! ```
//!
//! Invariant: a mark goes only after the store has what Keevo held of the text when it was looked at, and only if it was
//! not made anew since. So an outage of any length costs disk, not memory, and loses nothing.

use bytes::Bytes;
use keevo_core::{Batch, Check, Engine, ErrorKind, Key, Result, Revision, Scan};

use super::rows::{VersionRow, Work, put, text_of};
use crate::verdicts::{BUCKETS, Verdicts, row_of};

/// The most texts that are looked at together.
const PAGE: usize = 64;
/// The most rows of a text that are read together.
const ROWS: usize = 256;

/// The tag of texts that are to be brought.
const MARKED: u8 = b's';
/// The tag of texts that were set aside.
const REFUSED: u8 = b'r';

/// When a row of a text was made, as the row says.
fn noted_ms(value: &[u8]) -> u64 {
    value.first_chunk().copied().map(u64::from_be_bytes).unwrap_or_default()
}

/// The mark of a text.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    key: Key,
    revision: Revision,
    /// The partition of the text's verdicts.
    pub(super) partition: Bytes,
    /// When it was first marked, in milliseconds since the epoch.
    pub(super) at_ms: u64,
}

/// The marks of all texts.
pub(super) struct Spool<E> {
    verdicts: Verdicts<E>,
}

impl<E: Engine> Spool<E> {
    pub(super) fn new(verdicts: &Verdicts<E>) -> Self {
        Self { verdicts: verdicts.clone() }
    }

    fn key(&self, tag: u8, partition: &[u8]) -> Key {
        let bucket = partition.iter().fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(*byte)) % BUCKETS;
        self.verdicts.keyspace.key(vec![tag, bucket], partition.to_vec())
    }

    /// Sets a text aside that cannot be read, or that PostgreSQL cannot hold: a later version of Keevo may. Repeatable.
    pub(super) async fn set_aside(&self, partition: &[u8], at_ms: u64) -> Result<()> {
        self.verdicts.repeat(Batch::new().put(self.key(REFUSED, partition), at_ms.to_be_bytes().to_vec())).await
    }

    /// Marks all texts that were set aside before; how many. Repeatable.
    pub(super) async fn try_again(&self) -> Result<usize> {
        let mut count = 0;
        for bucket in 0..BUCKETS {
            let mut scan = Scan::partition(self.verdicts.keyspace, vec![REFUSED, bucket], PAGE);
            loop {
                let page = self.verdicts.engine.scan(scan.clone()).await?;
                for (key, record) in page.records {
                    self.mark(&key.sort, noted_ms(&record.value)).await?;
                    self.verdicts.settle(key).await?;
                    count += 1;
                }
                if page.next.is_none() {
                    break;
                }
                scan = scan.after(page.next);
            }
        }
        Ok(count)
    }

    /// Marks a text, whose row was made at `at_ms`.
    pub(super) async fn mark(&self, partition: &[u8], at_ms: u64) -> Result<()> {
        self.verdicts.repeat(Batch::new().put(self.key(MARKED, partition), at_ms.to_be_bytes().to_vec())).await
    }

    /// Some marks; none = there are none.
    pub(super) async fn marks(&self) -> Result<Vec<Mark>> {
        let mut marks = Vec::new();
        for bucket in 0..BUCKETS {
            let scan = Scan::partition(self.verdicts.keyspace, vec![MARKED, bucket], PAGE);
            let page = self.verdicts.engine.scan(scan).await?;
            marks.extend(page.records.into_iter().map(|(key, record)| {
                let at_ms = noted_ms(&record.value);
                Mark { partition: key.sort.clone(), key, revision: record.revision, at_ms }
            }));
            if marks.len() >= PAGE {
                break;
            }
        }
        Ok(marks)
    }

    /// Takes a mark away, unless it was made anew.
    pub(super) async fn clear(&self, mark: &Mark) -> Result<()> {
        let same = Check::RevisionIs(mark.revision);
        let batch = Batch::new().require(mark.key.clone(), same).delete(mark.key.clone());
        match self.verdicts.engine.write(batch).await {
            // What is left is looked at again.
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::OutcomeUnknown) => Ok(()),
            written => written.map(drop),
        }
    }

    /// All that Keevo holds of a text, in the place of what the store does, and how many of its rows cannot be read: these
    /// stay as they are, and hold nothing up.
    pub(super) async fn all_of(&self, partition: &Bytes) -> Result<(Work, u64)> {
        let (mut work, mut unreadable) = (Work::default(), 0);
        let Some(text) = text_of(partition) else { return Ok((work, unreadable)) };
        work.anew.push(text.clone());
        let mut scan = Scan::partition(self.verdicts.keyspace, partition.clone(), ROWS);
        loop {
            let page = self.verdicts.engine.scan(scan.clone()).await?;
            for (key, record) in page.records {
                let Some((is_verdict, hash)) = row_of(&key.sort) else { continue };
                if let Err(error) = put(&mut work, VersionRow { text: text.clone(), hash }, is_verdict, &record.value) {
                    tracing::error!(%error, "a row of verdicts cannot be read");
                    unreadable += 1;
                }
            }
            match page.next {
                Some(next) => scan.after = Some(next),
                None => return Ok((work, unreadable)),
            }
        }
    }
}
