//! Filling a gap: what was judged, renamed or erased while nobody read the changes is read anew, text by text.
//!
//! ```text
//! gap ──> a row says so ──> the place is moved to now ──> texts that PostgreSQL has ──> texts of the catalogue ──> the row goes
//!                                                          │ gone in Keevo, or in no catalogue     │ all
//!                                                          └───────────> marks, one page <─────────┘
//! ```
//!
//! Invariants: the row is there before the place is moved, and says that a page is done only after its texts are marked; so a
//! stop anywhere repeats a page at most, and marks that are brought twice change nothing. The next page is looked at only when
//! no mark is left: while PostgreSQL is away nothing heaps up.

use std::sync::atomic::Ordering;

use keevo_core::{Batch, Engine, Key, Result, Scan, ScanRange};
use serde::{Deserialize, Serialize};

use super::Feed;
use super::rows::partition_of;
use super::session::Failed;
use crate::text::{hex, unhex};
use crate::verdicts::{VERDICT, Verdicts, catalogue, decode, encode, pipeline_key};

/// Under which it is kept how far the filling is.
const NAME: &str = "postgres refill";
/// How many texts one page has.
const PAGE: usize = 64;

/// A text of PostgreSQL, as its tables name it: app, kind, channel, id.
pub(super) type HeldText = (i64, String, String, String);

/// How far the filling of a gap is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refill {
    /// When the gap was found, in milliseconds since the epoch.
    began_ms: u64,
    /// The last text of PostgreSQL that was looked at.
    #[serde(default)]
    looked_at: Option<HeldText>,
    /// Whether all of PostgreSQL's were.
    #[serde(default)]
    looked: bool,
    /// The bucket of the catalogue that is read, and the last text of it that was, in hexadecimal.
    #[serde(default)]
    bucket: u16,
    #[serde(default)]
    after: String,
    /// How many texts were marked.
    #[serde(default)]
    texts: u64,
}

fn key<E: Engine>(verdicts: &Verdicts<E>) -> Key {
    pipeline_key(verdicts.keyspace, NAME)
}

/// Notes a gap that is to be filled, from the beginning. Repeatable.
pub(super) async fn begin<E: Engine>(verdicts: &Verdicts<E>) -> Result<()> {
    let before = load(verdicts).await?.map(|refill| refill.began_ms);
    let refill = Refill { began_ms: before.unwrap_or_else(|| verdicts.clock.now_ms()), ..Refill::default() };
    verdicts.repeat(Batch::new().put(key(verdicts), encode(&refill)?)).await
}

/// The filling that goes on, if there is one.
pub(super) async fn load<E: Engine>(verdicts: &Verdicts<E>) -> Result<Option<Refill>> {
    let record = verdicts.get(key(verdicts)).await?;
    record.map(|record| decode(&record.value, "the filling of a gap")).transpose()
}

impl<E: Engine> Feed<'_, E> {
    /// Looks at the next page of texts, where a gap is to be filled and all that was marked is brought.
    pub(super) async fn refill(&mut self) -> Result<()> {
        if self.marked || self.session.is_none() {
            return Ok(());
        }
        let Some(mut refill) = self.refill.clone() else { return Ok(()) };
        if !refill.looked {
            if !self.look_at_held(&mut refill).await? {
                return Ok(());
            }
        } else if refill.bucket < catalogue::BUCKETS {
            self.read_catalogue(&mut refill).await?;
        } else {
            self.verdicts.settle(key(self.verdicts)).await?;
            tracing::info!(texts = refill.texts, "the gap in the verdicts of PostgreSQL is filled");
            self.refill = None;
            return Ok(());
        }
        self.verdicts.repeat(Batch::new().put(key(self.verdicts), encode(&refill)?)).await?;
        self.refill = Some(refill);
        Ok(())
    }

    /// Marks those of a page of PostgreSQL's texts that are gone in Keevo, and those that the catalogue does not have; false
    /// where PostgreSQL does not answer.
    async fn look_at_held(&mut self, refill: &mut Refill) -> Result<bool> {
        let Some(session) = &mut self.session else { return Ok(false) };
        let held = match session.texts_after(refill.looked_at.as_ref(), PAGE).await {
            Ok(held) => held,
            Err(Failed::Data(error) | Failed::Store(error)) => {
                self.failed(&error);
                return Ok(false);
            }
        };
        refill.looked = held.len() < PAGE;
        for (app, kind, channel, id) in held {
            // One whose name PostgreSQL could not hold can't be looked up.
            if let Some(partition) = partition_of(app, &kind, &channel, &id)
                && !is_listed(self.verdicts, &partition).await?
            {
                self.mark(refill, &partition).await?;
            }
            refill.looked_at = Some((app, kind, channel, id));
        }
        Ok(true)
    }

    /// Marks a page of the catalogue's texts.
    async fn read_catalogue(&mut self, refill: &mut Refill) -> Result<()> {
        let keyspace = self.verdicts.keyspace;
        let mut scan = Scan::partition(keyspace, catalogue::bucket(refill.bucket), PAGE);
        let after = unhex(&refill.after).unwrap_or_default();
        if let (ScanRange::Partition { start, .. }, false) = (&mut scan.range, after.is_empty()) {
            *start = [after.as_slice(), &[0]].concat().into();
        }
        loop {
            let page = self.verdicts.engine.scan(scan.clone()).await?;
            for (key, _) in &page.records {
                self.mark(refill, &key.sort).await?;
                refill.after = hex(&key.sort);
            }
            if page.next.is_none() {
                (refill.bucket, refill.after) = (refill.bucket + 1, String::new());
                return Ok(());
            }
            if !page.records.is_empty() {
                return Ok(());
            }
            scan = scan.after(page.next);
        }
    }

    async fn mark(&mut self, refill: &mut Refill, partition: &[u8]) -> Result<()> {
        self.spool.mark(partition, refill.began_ms).await?;
        self.marked = true;
        refill.texts += 1;
        self.store.counters.refilled.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Whether the catalogue has a text, and Keevo a verdict on it.
async fn is_listed<E: Engine>(verdicts: &Verdicts<E>, partition: &[u8]) -> Result<bool> {
    if verdicts.get(catalogue::key(verdicts.keyspace, partition)).await?.is_none() {
        return Ok(false);
    }
    let scan = Scan::prefix(verdicts.keyspace, partition.to_vec(), VERDICT, 1);
    Ok(!verdicts.engine.scan(scan).await?.records.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::rows::{TextRow, text_of};
    use super::*;
    use crate::text::{TextKind, TextVersion};

    #[test]
    fn texts_of_the_tables_are_found_again_unless_their_names_were_changed() {
        for (kind, id) in [
            (TextKind::Message, "team:x\0m1"),
            (TextKind::Message, "m1"),
            (TextKind::Reaction, "r1"),
            (TextKind::Text, "é"),
        ] {
            let partition = TextVersion::new(7, kind, id, "x").expect("valid").partition();
            let TextRow { app, kind, channel, id } = text_of(&partition).expect("a text's");
            assert_eq!(partition_of(app, kind, &channel, &id), Some(partition));
        }
        for (app, kind, channel, id) in
            [(-1, "text", "", "a"), (1, "poem", "", "a"), (1, "message", "team:x", "m\u{fffd}1"), (1, "text", "", "")]
        {
            assert_eq!(partition_of(app, kind, channel, id), None, "{kind} {id}");
        }
    }
}
