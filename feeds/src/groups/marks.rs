//! What was seen and read in a notification feed.
//!
//! A mark says up to which arrival it holds, by the revisions of the feed's rows. So a group to which something comes
//! afterwards is unseen and unread again, and what came between an answer and its mark is not marked unseen by anybody.
//!
//! Invariant: a mark only grows.

use std::collections::BTreeMap;

use bytes::Bytes;
use keevo_core::{Batch, Check, Consistency, Engine, Error, ErrorKind, Key, Result};

use super::window::Gathered;
use super::{GroupId, GroupKind};
use crate::feed_id::FeedId;
use crate::feeds::{ATTEMPTS, Feeds, contended};
use crate::keys::{self, MARK};
use crate::rows::{MarkRow, decode, encode};

/// The most groups marked by one call.
pub const MARK_GROUPS_MAX: usize = 1_000;
/// How long the mark of a single group is kept, in milliseconds: 400 days.
const MARK_TTL_MS: u64 = 400 * 24 * 3_600_000;
const PAGE: usize = 2_000;

/// Which groups to mark.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Mark {
    /// None.
    #[default]
    Nothing,
    /// All that are there.
    All,
    /// These, up to 1,000.
    Groups(Vec<GroupId>),
}

/// What to mark as seen and as read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Marks {
    /// As seen.
    pub seen: Mark,
    /// As read.
    pub read: Mark,
}

/// The marks of a feed.
#[derive(Debug, Default)]
pub(super) struct Marked {
    all: MarkRow,
    groups: BTreeMap<GroupId, MarkRow>,
}

impl Marked {
    /// Whether a group is seen, and whether it is read.
    pub(super) fn of(&self, group: &Gathered) -> (bool, bool) {
        let own = self.groups.get(&group.id).copied().unwrap_or_default();
        (group.arrived <= self.all.seen.max(own.seen), group.arrived <= self.all.read.max(own.read))
    }
}

impl<E: Engine> Feeds<E> {
    /// Marks groups of a notification feed as seen and read, as far as the answer that gave `seen_to` showed them.
    /// `Invalid` for a feed of another kind, or for more than 1,000 groups.
    pub async fn mark(&self, feed: &FeedId, marks: &Marks, seen_to: u64) -> Result<()> {
        if self.groups().kind(feed.slug()) != GroupKind::Notification {
            return Err(Error::invalid(format!("{feed} is no notification feed: nothing in it is seen or read")));
        }
        let wanted = Self::wanted(marks, seen_to)?;
        if wanted.is_empty() {
            return Ok(());
        }
        let partition = self.layout().feed(feed);
        for _ in 0..ATTEMPTS {
            let keys = wanted.keys().map(|sort| self.layout().key(partition.clone(), sort.clone()));
            let keys: Vec<Key> = keys.collect();
            let found = self.engine().multi_get(keys.clone(), Consistency::Linearizable).await?;
            let mut batch = Batch::new();
            let mut changes = false;
            for ((key, mark), record) in keys.iter().zip(wanted.values()).zip(&found) {
                let before: MarkRow = record.as_ref().map(decode).transpose()?.unwrap_or_default();
                let after = MarkRow { seen: before.seen.max(mark.seen), read: before.read.max(mark.read) };
                if after == before {
                    continue;
                }
                changes = true;
                let check = record.as_ref().map_or(Check::Absent, |record| Check::RevisionIs(record.revision));
                batch = batch.require(key.clone(), check);
                batch = if key.sort == MARK {
                    batch.put(key.clone(), encode(&after))
                } else {
                    batch.put_ttl(key.clone(), encode(&after), MARK_TTL_MS)
                };
            }
            if !changes {
                return Ok(());
            }
            match self.engine().write(batch).await {
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                written => return written.map(drop),
            }
        }
        Err(contended("the marks of the feed"))
    }

    /// The mark rows to be reached, by sort key.
    fn wanted(marks: &Marks, seen_to: u64) -> Result<BTreeMap<Bytes, MarkRow>> {
        let mut wanted: BTreeMap<Bytes, MarkRow> = BTreeMap::new();
        for (mark, is_seen) in [(&marks.seen, true), (&marks.read, false)] {
            let sorts: Vec<Bytes> = match mark {
                Mark::Nothing => continue,
                Mark::All => vec![Bytes::from_static(MARK)],
                Mark::Groups(ids) if ids.len() <= MARK_GROUPS_MAX => {
                    ids.iter().map(|id| keys::join(MARK, id.as_bytes())).collect()
                }
                Mark::Groups(_) => {
                    return Err(Error::invalid(format!("at most {MARK_GROUPS_MAX} groups are marked by one call")));
                }
            };
            for sort in sorts {
                let row = wanted.entry(sort).or_default();
                *(if is_seen { &mut row.seen } else { &mut row.read }) = seen_to;
            }
        }
        Ok(wanted)
    }

    /// The marks of a feed; none where it is no notification feed.
    pub(super) async fn marks(&self, feed: &FeedId, consistency: Consistency) -> Result<Marked> {
        let mut marked = Marked::default();
        if self.groups().kind(feed.slug()) != GroupKind::Notification {
            return Ok(marked);
        }
        let mut token = None;
        loop {
            let scan = self.layout().scan(self.layout().feed(feed), MARK, Bytes::from_static(MARK), PAGE);
            let scan = keevo_core::Scan { consistency, ..scan.after(token) };
            let page = self.engine().scan(scan).await?;
            for (key, record) in &page.records {
                let row = decode(record)?;
                match key.sort.strip_prefix(MARK).unwrap_or_default() {
                    [] => marked.all = row,
                    id => drop(marked.groups.insert(GroupId::from_stored(id)?, row)),
                }
            }
            token = page.next;
            if token.is_none() {
                return Ok(marked);
            }
        }
    }
}
