//! Subjects: what reactions are on, with their tally and their lists.
//!
//! All of a subject is one partition. What it has *seen* of a reaction says up to which version it was counted, so
//! that each change of a reaction is counted once, and one that comes late not at all.

use bytes::Bytes;
use keevo_core::{Batch, Check, Consistency, Engine, ErrorKind, Key, Record, Result};
use prost::Message;

use super::tally::{RefRow, TallyRow};
use super::{ReactionRow, State};
use crate::change::{Change, unchanged};
use crate::feeds::{ATTEMPTS, Feeds, contended};
use crate::keys::{self, Layout, TALLY};
use crate::rows::{decode, encode};

/// How many of the newest reactions of each kind a subject's tally holds.
pub(crate) const LATEST_KEPT: usize = 25;
/// How many of each kind the tally of a user on a subject holds.
pub(crate) const OWN_KEPT: usize = 5;

/// What a reaction is on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Activity(String),
    Reaction(String),
}

impl Subject {
    pub(crate) fn partition(&self, layout: Layout) -> Bytes {
        match self {
            Self::Activity(id) => layout.subject(b'a', id),
            Self::Reaction(id) => layout.subject(b'r', id),
        }
    }

    /// The key of its tally.
    pub(crate) fn tally(&self, layout: Layout) -> Key {
        layout.key(self.partition(layout), TALLY)
    }

    /// The key of the tally of a user's reactions on it.
    pub(crate) fn own_tally(&self, layout: Layout, user: &str) -> Key {
        layout.key(self.partition(layout), keys::own_tally(user))
    }

    fn name(&self) -> &str {
        match self {
            Self::Activity(id) | Self::Reaction(id) => id,
        }
    }
}

impl ReactionRow {
    /// What it is on.
    pub(crate) fn subject(&self) -> Subject {
        if self.parent.is_empty() {
            Subject::Activity(self.activity.clone())
        } else {
            Subject::Reaction(self.parent.clone())
        }
    }
}

/// Up to which version a subject has counted a reaction, and how.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct SeenRow {
    #[prost(uint64, tag = "1")]
    version: u64,
    #[prost(bool, tag = "2")]
    live: bool,
}

/// What became of a version of a reaction at its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    /// It is counted, as it or a later version says.
    Yes,
    /// The subject is closed to it: the parent was deleted.
    Closed,
}

/// The records of a subject that a count reads and replaces.
struct Read {
    seen: Option<Record>,
    tally: Option<Record>,
    own: Option<Record>,
}

impl<E: Engine> Feeds<E> {
    /// Brings a subject to what a version of a reaction on it says.
    pub(crate) async fn count(&self, id: &str, row: &ReactionRow) -> Result<Counted> {
        let subject = row.subject();
        let partition = subject.partition(self.layout());
        let key = |sort: Bytes| self.layout().key(partition.clone(), sort);
        let wanted = [key(keys::seen(id)), subject.tally(self.layout()), key(keys::own_tally(&row.user))];
        let _turn = self.inner.turns.of(subject.name()).await;
        for _ in 0..ATTEMPTS {
            let mut read = self.engine().multi_get(wanted.to_vec(), Consistency::Linearizable).await?.into_iter();
            let mut next = || read.next().flatten();
            let read = Read { seen: next(), tally: next(), own: next() };
            let seen: SeenRow = read.seen.as_ref().map(decode).transpose()?.unwrap_or_default();
            if seen.version >= row.version {
                return Ok(Counted::Yes);
            }
            let tally: TallyRow = read.tally.as_ref().map(decode).transpose()?.unwrap_or_default();
            if row.is_live() && !row.parent.is_empty() && tally.closed >= row.parent_version {
                return Ok(Counted::Closed);
            }
            let mut batch = Batch::new();
            for (key, record) in wanted.iter().zip([&read.seen, &read.tally, &read.own]) {
                batch = batch.require(key.clone(), unchanged(record.as_ref()));
            }
            let now = SeenRow { version: row.version, live: row.is_live() };
            let [seen_key, ..] = &wanted;
            batch = if now.live {
                batch.put(seen_key.clone(), encode(&now))
            } else {
                batch.put_ttl(seen_key.clone(), encode(&now), self.options().removed_ttl_ms)
            };
            if now.live != seen.live {
                batch = self.recount(batch, id, row, tally, read.own.as_ref()).await?;
            }
            match self.engine().write(batch).await {
                Ok(_) => return Ok(Counted::Yes),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended("the tally of reactions"))
    }

    /// Adds to `batch` that a reaction comes to its subject, or leaves it.
    async fn recount(
        &self,
        mut batch: Batch,
        id: &str,
        row: &ReactionRow,
        mut tally: TallyRow,
        own: Option<&Record>,
    ) -> Result<Batch> {
        let partition = row.subject().partition(self.layout());
        let key = |sort: Bytes| self.layout().key(partition.clone(), sort);
        let mut own: TallyRow = own.map(decode).transpose()?.unwrap_or_default();
        let lists = [
            Bytes::from_static(keys::REACTIONS),
            keys::of_kind(&row.kind),
            keys::of_user(&row.user),
            keys::of_user_and_kind(&row.user, &row.kind),
        ];
        for start in &lists {
            let place = key(keys::reaction_place(start, row.created_us, id));
            batch = if row.is_live() { batch.put(place, "") } else { batch.delete(place) };
        }
        let [_, kind_list, _, own_list] = &lists;
        for (tally, list, keep) in [(&mut tally, kind_list, LATEST_KEPT), (&mut own, own_list, OWN_KEPT)] {
            if row.is_live() {
                tally.add(&row.kind, RefRow { created_us: row.created_us, id: id.to_owned() }, keep);
            } else if tally.remove(&row.kind, id) {
                let newest = self.newest_in(&partition, list, keep + 1).await?;
                tally.refill(&row.kind, newest.into_iter().filter(|one| one.id != id).take(keep).collect());
            }
        }
        let own_key = key(keys::own_tally(&row.user));
        batch = if own.is_empty() { batch.delete(own_key) } else { batch.put(own_key, encode(&own)) };
        Ok(self.put_tally(batch, key(Bytes::from_static(TALLY)), &tally))
    }

    /// Puts a tally; one that is closed and empty expires.
    fn put_tally(&self, batch: Batch, key: Key, tally: &TallyRow) -> Batch {
        if tally.closed > 0 && tally.is_empty() {
            batch.put_ttl(key, encode(tally), self.options().removed_ttl_ms)
        } else {
            batch.put(key, encode(tally))
        }
    }

    /// Closes a reaction as a subject: nothing is added any more to what it was up to `version`.
    pub(crate) async fn close_subject(&self, id: &str, version: u64) -> Result<()> {
        let key = Subject::Reaction(id.to_owned()).tally(self.layout());
        let _turn = self.inner.turns.of(id).await;
        self.change(&key, "the tally of reactions", |record| {
            let mut tally: TallyRow = record.map(decode).transpose()?.unwrap_or_default();
            if tally.closed >= version {
                return Ok(Change::Keep(()));
            }
            tally.closed = version;
            Ok(Change::Write(self.put_tally(Batch::new(), key.clone(), &tally), ()))
        })
        .await
    }

    /// The first reactions of a list, up to `limit`.
    pub(crate) async fn newest_in(&self, partition: &Bytes, start: &Bytes, limit: usize) -> Result<Vec<RefRow>> {
        let mut found = Vec::new();
        let mut token = None;
        loop {
            let scan = self.layout().scan(partition.clone(), start, start.clone(), limit - found.len());
            let page = self.engine().scan(scan.after(token)).await?;
            for (key, _) in &page.records {
                let (created_us, id) = keys::parse_reaction_place(&key.sort, start)?;
                found.push(RefRow { created_us, id });
            }
            token = page.next;
            if token.is_none() || found.len() >= limit {
                return Ok(found);
            }
        }
    }

    /// Takes a place in a list away whose reaction is not known any more.
    pub(crate) async fn drop_place(&self, partition: &Bytes, start: &[u8], one: &RefRow) -> Result<()> {
        let place = self.layout().key(partition.clone(), keys::reaction_place(start, one.created_us, &one.id));
        let batch = Batch::new().require(place.clone(), Check::Exists).delete(place);
        match self.engine().write(batch).await {
            Err(error) if error.kind() != ErrorKind::Conflict => Err(error),
            _ => Ok(()),
        }
    }

    /// The index of what a reaction's user left. Hidden ones stay in it: readers look at the reaction.
    pub(crate) async fn index_user(&self, id: &str, row: &ReactionRow) -> Result<()> {
        let partition = self.layout().user(&row.user);
        let mut batch = Batch::new();
        for start in [Bytes::from_static(keys::LEFT), keys::left_of_kind(&row.kind)] {
            let place = self.layout().key(partition.clone(), keys::reaction_place(&start, row.created_us, id));
            batch = if row.state() == State::Gone { batch.delete(place) } else { batch.put(place, "") };
        }
        crate::feeds::retry(|| self.engine().write(batch.clone())).await.map(|_| ())
    }
}
