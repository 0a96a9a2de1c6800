//! What a page is rendered from: everything fetched so far, by what was wanted.

use std::collections::{BTreeMap, BTreeSet};

use keevo_core::limits::MULTI_GET_KEYS_MAX;
use keevo_core::{Consistency, Engine, Key, Record, Result};

use crate::activity::Activity;
use crate::collections::Entry;
use crate::feeds::Feeds;
use crate::ids::ActivityId;
use crate::reactions::{Reaction, ReactionRow, Subject, TallyRow};
use crate::rows::{ActivityRow, decode};
use crate::users::User;

/// Something that a page needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Want {
    User(String),
    /// Collection and id.
    Entry(String, String),
    Activity(ActivityId),
    Reaction(String),
    /// The reactions on something.
    Tally(Subject),
    /// A user's reactions on something.
    Own(Subject, String),
}

/// What was found.
#[derive(Debug, Clone)]
pub(super) enum Found {
    User(User),
    Entry(Entry),
    Activity(Activity),
    Reaction(Reaction),
    Tally(TallyRow),
}

/// Everything fetched so far; `None` = it is not there.
#[derive(Debug, Default)]
pub(super) struct Store(pub(super) BTreeMap<Want, Option<Found>>);

impl<E: Engine> Feeds<E> {
    /// Fetches what is wanted into the store.
    pub(super) async fn fetch(&self, wanted: BTreeSet<Want>, store: &mut Store) -> Result<()> {
        let wanted: Vec<Want> = wanted.into_iter().collect();
        for chunk in wanted.chunks(MULTI_GET_KEYS_MAX) {
            let keys = chunk.iter().map(|want| self.key_of(want)).collect();
            let records = self.engine().multi_get(keys, Consistency::Linearizable).await?;
            for (want, record) in chunk.iter().zip(records) {
                let found = record.map(|record| found(want, &record)).transpose()?.flatten();
                store.0.insert(want.clone(), found);
            }
        }
        Ok(())
    }

    fn key_of(&self, want: &Want) -> Key {
        match want {
            Want::User(id) => self.user_key(id),
            Want::Entry(collection, id) => self.entry_key(collection, id),
            Want::Activity(id) => self.layout().activity(*id),
            Want::Reaction(id) => self.reaction_key(id),
            Want::Tally(subject) => subject.tally(self.layout()),
            Want::Own(subject, user) => subject.own_tally(self.layout(), user),
        }
    }
}

/// What a record is; `None` for what was removed or is hidden.
fn found(want: &Want, record: &Record) -> Result<Option<Found>> {
    Ok(Some(match want {
        Want::User(id) => Found::User(User::from_record(id, record)?),
        Want::Entry(collection, id) => Found::Entry(Entry::from_record(collection, id, record)?),
        Want::Activity(id) => {
            let row: ActivityRow = decode(record)?;
            if row.is_removed() {
                return Ok(None);
            }
            Found::Activity(Activity::from_row(*id, &row, None)?)
        }
        Want::Reaction(id) => {
            let row: ReactionRow = decode(record)?;
            if !row.is_live() {
                return Ok(None);
            }
            Found::Reaction(Reaction::from_row(id, &row)?)
        }
        Want::Tally(_) | Want::Own(..) => Found::Tally(decode(record)?),
    }))
}
