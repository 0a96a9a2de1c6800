//! Lists of reactions: of an activity, of a reaction, of a user; by kind and by user.
//!
//! A page is a scan of one list, and one `multi_get` of the reactions on it. A reaction that is hidden, or whose
//! list entry is left over, is passed by; so a page may be short and still have a next one.

use bytes::Bytes;
use keevo_core::{Consistency, Engine, Error, Result, Scan, ScanRange, prefix_end};

use super::change::same_spelling;
use super::{Reaction, ReactionRow, State, Subject, no_reaction};
use crate::feeds::Feeds;
use crate::keys;
use crate::names::{check_count, check_name};
use crate::rows::decode;

/// The most reactions of one page.
pub const REACTIONS_PAGE_MAX: usize = 25;
/// The most reactions that one call reads by their ids.
const BY_IDS_MAX: usize = 100;
/// How many places of a list one page looks at.
const LOOKED_AT_MAX: usize = 1_000;

/// Whose reactions to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReactionsOf {
    /// Those on an activity itself, by the text of its id.
    Activity(String),
    /// Those of a user.
    User(String),
    /// The children of a reaction.
    Parent(String),
}

/// Which reactions to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReactionQuery {
    /// Whose.
    pub of: ReactionsOf,
    /// Only those of this kind.
    pub kind: Option<String>,
    /// Only those of this user.
    pub user_id: Option<String>,
    /// The most to return, 1 to 25.
    pub limit: usize,
    /// Only older ones.
    pub id_lt: Option<String>,
    /// This one and older ones.
    pub id_lte: Option<String>,
    /// Only newer ones; the page then begins with the oldest of them.
    pub id_gt: Option<String>,
    /// This one and newer ones; the page then begins with the oldest of them.
    pub id_gte: Option<String>,
}

impl ReactionQuery {
    /// The ten newest.
    pub fn of(of: ReactionsOf) -> Self {
        Self { of, kind: None, user_id: None, limit: 10, id_lt: None, id_lte: None, id_gt: None, id_gte: None }
    }

    /// Whether the page begins with the oldest.
    fn is_upward(&self) -> bool {
        self.id_gt.is_some() || self.id_gte.is_some()
    }

    fn check(&self) -> Result<()> {
        if self.limit == 0 || self.limit > REACTIONS_PAGE_MAX {
            return Err(Error::invalid(format!("a page has 1 to {REACTIONS_PAGE_MAX} reactions, not {}", self.limit)));
        }
        let (ReactionsOf::Activity(id) | ReactionsOf::User(id) | ReactionsOf::Parent(id)) = &self.of;
        check_name("an id", id)?;
        self.kind.as_ref().map_or(Ok(()), |kind| check_name("a reaction's kind", kind))?;
        self.user_id.as_ref().map_or(Ok(()), |user| check_name("a user's id", user))
    }
}

/// A page of reactions.
#[derive(Debug, Clone, PartialEq)]
pub struct ReactionPage {
    /// Newest first; oldest first where `id_gt` or `id_gte` was asked for.
    pub reactions: Vec<Reaction>,
    /// Where to read on: as `id_lt`, or as `id_gt` where the page begins with the oldest. `None` at the end.
    pub next: Option<String>,
}

impl<E: Engine> Feeds<E> {
    /// The reaction with that id; `NotFound` when there is none, or when it is hidden.
    pub async fn reaction(&self, id: &str) -> Result<Reaction> {
        check_name("a reaction's id", id)?;
        let record = self.engine().get(self.reaction_key(id), Consistency::Linearizable).await?;
        let row: Option<ReactionRow> = record.as_ref().map(decode).transpose()?;
        Reaction::from_row(id, &row.filter(ReactionRow::is_live).ok_or_else(|| no_reaction(id))?)
    }

    /// The reactions with these ids, up to 100, in their order; unknown ones are left out, and hidden ones too
    /// unless `include_deleted`.
    pub async fn reactions_by_ids(&self, ids: &[String], include_deleted: bool) -> Result<Vec<Reaction>> {
        check_count("reactions", ids.len(), BY_IDS_MAX)?;
        ids.iter().try_for_each(|id| check_name("a reaction's id", id))?;
        let rows = self.reaction_rows(ids).await?;
        let shown = |row: &ReactionRow| row.is_live() || (include_deleted && row.state() == State::Hidden);
        let found = ids.iter().zip(rows).filter_map(|(id, row)| Some((id, row.filter(|row| shown(row))?)));
        found.map(|(id, row)| Reaction::from_row(id, &row)).collect()
    }

    pub(crate) async fn reaction_rows(&self, ids: &[String]) -> Result<Vec<Option<ReactionRow>>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let keys = ids.iter().map(|id| self.reaction_key(id)).collect();
        let records = self.engine().multi_get(keys, Consistency::Linearizable).await?;
        records.iter().map(|record| record.as_ref().map(decode).transpose()).collect()
    }

    /// A page of reactions. `Invalid` for an unknown id in a bound.
    pub async fn list_reactions(&self, query: &ReactionQuery) -> Result<ReactionPage> {
        query.check()?;
        let (partition, list) = self.list_of(query);
        let (start, end) = self.bounds(query, &list).await?;
        let mut page = ReactionPage { reactions: Vec::new(), next: None };
        if start >= end {
            return Ok(page);
        }
        let range = ScanRange::Partition { keyspace: self.layout().keyspace, partition, start, end };
        let mut token = None;
        let mut looked_at = 0;
        loop {
            let wanted = query.limit - page.reactions.len() + 1;
            let scan = Scan { range: range.clone(), ..Scan::partition(self.layout().keyspace, Bytes::new(), wanted) };
            let scan = if query.is_upward() { scan.backward() } else { scan };
            let found = self.engine().scan(scan.after(token)).await?;
            let places = found.records.iter().map(|(key, _)| keys::parse_reaction_place(&key.sort, &list));
            let places: Vec<(u64, String)> = places.collect::<Result<_>>()?;
            looked_at += places.len();
            let ids: Vec<String> = places.iter().map(|(_, id)| id.clone()).collect();
            for ((created_us, id), row) in places.into_iter().zip(self.reaction_rows(&ids).await?) {
                if page.reactions.len() == query.limit {
                    return Ok(page);
                }
                page.next = Some(id.clone());
                if let Some(row) = row.filter(|row| row.created_us == created_us && is_wanted(row, query)) {
                    page.reactions.push(Reaction::from_row(&id, &row)?);
                }
            }
            token = found.next;
            if token.is_none() {
                page.next = None;
                return Ok(page);
            }
            if looked_at >= LOOKED_AT_MAX {
                return Ok(page);
            }
        }
    }

    /// The partition and the start of the list that holds what is asked for and least besides.
    fn list_of(&self, query: &ReactionQuery) -> (Bytes, Bytes) {
        let subject = match &query.of {
            ReactionsOf::User(user) => {
                let start = query.kind.as_deref().map_or(Bytes::from_static(keys::LEFT), keys::left_of_kind);
                return (self.layout().user(user), start);
            }
            ReactionsOf::Activity(id) => Subject::Activity(same_spelling(id)),
            ReactionsOf::Parent(id) => Subject::Reaction(id.clone()),
        };
        let start = match (query.user_id.as_deref(), query.kind.as_deref()) {
            (None, None) => Bytes::from_static(keys::REACTIONS),
            (None, Some(kind)) => keys::of_kind(kind),
            (Some(user), None) => keys::of_user(user),
            (Some(user), Some(kind)) => keys::of_user_and_kind(user, kind),
        };
        (subject.partition(self.layout()), start)
    }

    /// The range of a list within the bounds of a query: newest first, so the upper bounds give its start.
    async fn bounds(&self, query: &ReactionQuery, list: &Bytes) -> Result<(Bytes, Bytes)> {
        let (mut start, mut end) = (list.clone(), prefix_end(list));
        for (bound, is_upper, excluded) in [
            (&query.id_lt, true, true),
            (&query.id_lte, true, false),
            (&query.id_gt, false, true),
            (&query.id_gte, false, false),
        ] {
            let Some(id) = bound else { continue };
            let at = keys::reaction_place(list, self.created_us(id).await?, id);
            let after = keys::right_after(&at);
            if is_upper {
                start = start.max(if excluded { after } else { at });
            } else {
                end = end.min(if excluded { at } else { after });
            }
        }
        Ok((start, end))
    }

    /// When a reaction was added, as the reaction says, or, if it is long gone or was never here, the time in its id.
    async fn created_us(&self, id: &str) -> Result<u64> {
        check_name("a reaction's id", id)?;
        let record = self.engine().get(self.reaction_key(id), Consistency::Linearizable).await?;
        let row: Option<ReactionRow> = record.as_ref().map(decode).transpose()?;
        row.map(|row| row.created_us)
            .or_else(|| super::change::made_us(id))
            .or_else(|| super::change::named_us(id))
            .ok_or_else(|| Error::invalid(format!("there is no reaction {id:?} to read on from")))
    }
}

/// Whether a reaction belongs on the page: lists may hold ones that are hidden, or of an earlier life of an id.
fn is_wanted(row: &ReactionRow, query: &ReactionQuery) -> bool {
    let of = match &query.of {
        ReactionsOf::Activity(id) => row.parent.is_empty() && row.activity == same_spelling(id),
        ReactionsOf::User(user) => row.user == *user,
        ReactionsOf::Parent(parent) => row.parent == *parent,
    };
    let kind = query.kind.as_ref().is_none_or(|kind| row.kind == *kind);
    row.is_live() && of && kind && query.user_id.as_ref().is_none_or(|user| row.user == *user)
}
