//! Privacy: what belongs to a user, and taking it away.
//!
//! A user's partition lists the activities whose actor it is (`SU:‹id›`) and the reactions it left. The lists may
//! hold more than there is, where something was removed; readers look at the things themselves.
//!
//! Invariant: an activity is listed by the job of its add, so it is in the list when the add is answered, or when the
//! outbox was worked off. It leaves the list only if it was removed and not added again meanwhile: the row is read
//! before the activity is, and deleted only if it is still the same.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use keevo_core::{Batch, Check, Consistency, Engine, Error, ErrorKind, Result};

use crate::deliver::ActivityJob;
use crate::feeds::{Feeds, retry};
use crate::ids::ActivityId;
use crate::keys::{self, ACTED, LEFT};
use crate::names::{check_count, check_name};
use crate::rows::{ActivityRow, decode};
use crate::users::GET_MANY_MAX;

/// The most ids of one page of an export.
pub const EXPORT_PAGE_MAX: usize = 1_000;

/// A page of what belongs to a user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExportPage {
    /// Activities whose actor it is, newest first.
    pub activities: Vec<ActivityId>,
    /// Reactions that it left, hidden ones too, newest first.
    pub reactions: Vec<String>,
    /// Pass it as `after` to read on; `None` at the end.
    pub next: Option<String>,
}

impl<E: Engine> Feeds<E> {
    /// A page of the ids of a user's activities, and then of its reactions: up to `limit`, 1 to 1,000.
    pub async fn export_ids(&self, user: &str, limit: usize, after: Option<&str>) -> Result<ExportPage> {
        check_name("a user's id", user)?;
        if limit == 0 || limit > EXPORT_PAGE_MAX {
            return Err(Error::invalid(format!("a page of an export has 1 to {EXPORT_PAGE_MAX} ids, not {limit}")));
        }
        let mut page = ExportPage::default();
        let (list, after) = match after {
            None => (ACTED, Bytes::new()),
            Some(after) => parse_place(after)?,
        };
        let mut start = if after.is_empty() { Bytes::from_static(list) } else { keys::right_after(&after) };
        if list == ACTED {
            page.next = self.export_activities(user, &mut page.activities, start, limit).await?;
            if page.next.is_some() {
                return Ok(page);
            }
            start = Bytes::from_static(LEFT);
        }
        let room = limit - page.activities.len();
        page.next = if room == 0 {
            Some(place(LEFT, &[]))
        } else {
            self.export_reactions(user, &mut page.reactions, start, room).await?
        };
        Ok(page)
    }

    async fn export_activities(
        &self,
        user: &str,
        found: &mut Vec<ActivityId>,
        start: Bytes,
        limit: usize,
    ) -> Result<Option<String>> {
        let page = self.scan_on(self.layout().scan(self.layout().user(user), ACTED, start, limit)).await?;
        let ids: Vec<ActivityId> =
            page.records.iter().map(|(key, _)| keys::parse_acted(&key.sort)).collect::<Result<_>>()?;
        let rows = self.rows(ids.iter().copied(), Consistency::Linearizable).await?;
        let is_by =
            |id: &&ActivityId| rows.get(*id).and_then(Option::as_ref).is_some_and(|row| row.actor_user() == user);
        found.extend(ids.iter().filter(is_by));
        Ok(page.next.and_then(|_| page.records.last()).map(|(key, _)| place(ACTED, &key.sort)))
    }

    async fn export_reactions(
        &self,
        user: &str,
        found: &mut Vec<String>,
        start: Bytes,
        limit: usize,
    ) -> Result<Option<String>> {
        let page = self.scan_on(self.layout().scan(self.layout().user(user), LEFT, start, limit)).await?;
        let places = page.records.iter().map(|(key, _)| keys::parse_reaction_place(&key.sort, LEFT));
        let places: Vec<(u64, String)> = places.collect::<Result<_>>()?;
        let ids: Vec<String> = places.iter().map(|(_, id)| id.clone()).collect();
        for ((created_us, id), row) in places.into_iter().zip(self.reaction_rows(&ids).await?) {
            let is_by = |row: &crate::reactions::ReactionRow| row.user == user && row.created_us == created_us;
            if row.is_some_and(|row| is_by(&row) && row.state() != crate::reactions::State::Gone) {
                found.push(id);
            }
        }
        Ok(page.next.and_then(|_| page.records.last()).map(|(key, _)| place(LEFT, &key.sort)))
    }

    /// Removes up to 1,000 activities from all feeds and returns how many there were.
    pub async fn delete_activities(&self, ids: &[ActivityId]) -> Result<usize> {
        check_count("activities", ids.len(), GET_MANY_MAX)?;
        let mut count = 0;
        for id in ids {
            count += usize::from(self.remove_everywhere(*id).await?);
        }
        Ok(count)
    }

    /// As [`Self::delete_activities`], and whoever keeps copies of what they said, such as moderation, is told to erase these. So
    /// are those told that are deleted already. Repeatable.
    pub async fn erase_activities(&self, ids: &[ActivityId]) -> Result<usize> {
        let count = self.delete_activities(ids).await?;
        self.tell_erased(ids.iter().map(|id| self.layout().home(*id)).collect()).await?;
        Ok(count)
    }

    /// As [`Self::delete_reactions`], and whoever keeps copies of what they said is told to erase these, likewise.
    pub async fn erase_reactions(&self, ids: &[String]) -> Result<usize> {
        let count = self.delete_reactions(ids).await?;
        self.tell_erased(ids.iter().map(|id| self.layout().reaction(id)).collect()).await?;
        Ok(count)
    }

    /// Leaves a mark in each home, behind what it says of the end: a change that tells the erasure.
    async fn tell_erased(&self, homes: Vec<Bytes>) -> Result<()> {
        let (now_us, ttl_ms) = (self.stamp_us(), self.options().removed_ttl_ms);
        let mark = |home| Batch::new().put_ttl(self.layout().erased(home), now_us.to_be_bytes().to_vec(), ttl_ms);
        futures::stream::iter(homes.into_iter().map(|home| self.list(mark(home))))
            .buffer_unordered(self.options().concurrency)
            .try_collect::<Vec<()>>()
            .await
            .map(drop)
    }

    /// Puts the activities of jobs into the lists of their actors, or takes them out.
    pub(crate) async fn list_by_actor(&self, jobs: &[ActivityJob]) -> Result<()> {
        let mut added: BTreeMap<String, Batch> = BTreeMap::new();
        let mut removed = Vec::new();
        for job in jobs.iter().filter(|job| !job.row.placed && !job.row.actor.is_empty()) {
            let actor = job.row.actor.clone();
            if job.row.remove {
                removed.push((actor, job.id));
            } else {
                let listed = self.layout().acted(&actor, job.id);
                let batch = added.remove(&actor).unwrap_or_default();
                added.insert(actor, batch.put(listed, ""));
            }
        }
        futures::stream::iter(added.into_values().map(|batch| self.list(batch)))
            .buffer_unordered(self.options().concurrency)
            .try_collect::<Vec<()>>()
            .await?;
        for (actor, id) in removed {
            self.unlist(&actor, id).await?;
        }
        Ok(())
    }

    /// Puts an activity into the list of its actor, if that is a user. Too many entries do no harm.
    pub(crate) async fn list_activity(&self, actor: &str, id: ActivityId) -> Result<()> {
        let user = user_of(actor);
        if user.is_empty() {
            return Ok(());
        }
        self.list(Batch::new().put(self.layout().acted(user, id), "")).await
    }

    async fn list(&self, batch: Batch) -> Result<()> {
        retry(|| self.engine().write(batch.clone())).await.map(|_| ())
    }

    async fn unlist(&self, user: &str, id: ActivityId) -> Result<()> {
        let listed = self.layout().acted(user, id);
        let Some(record) = self.engine().get(listed.clone(), Consistency::Linearizable).await? else { return Ok(()) };
        let home = self.engine().get(self.layout().activity(id), Consistency::Linearizable).await?;
        let row: ActivityRow = home.as_ref().map(decode).transpose()?.unwrap_or_default();
        if !row.is_removed() {
            return Ok(());
        }
        let batch = Batch::new().require(listed.clone(), Check::RevisionIs(record.revision)).delete(listed);
        match self.engine().write(batch).await {
            Err(error) if error.kind() != ErrorKind::Conflict => Err(error),
            _ => Ok(()),
        }
    }
}

/// The user that an actor is; empty where it is no reference to one.
pub(crate) fn user_of(actor: &str) -> &str {
    let user = actor.strip_prefix("SU:").unwrap_or_default();
    if check_name("a user's id", user).is_ok() { user } else { "" }
}

/// Where a page ended: the list, and the last sort key of it.
fn place(list: &[u8], sort: &[u8]) -> String {
    let digits = |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from_digit(u32::from(digit), 16).unwrap_or('0'));
    let hex = |bytes: &[u8]| bytes.iter().flat_map(digits).collect::<String>();
    format!("{}-{}", hex(list), hex(sort))
}

fn parse_place(text: &str) -> Result<(&'static [u8], Bytes)> {
    let bad = || Error::invalid(format!("{text:?} is no place in an export: pass what `next` said"));
    let (list, sort) = text.split_once('-').ok_or_else(bad)?;
    let list = [ACTED, LEFT].into_iter().find(|one| place(one, &[]) == format!("{list}-")).ok_or_else(bad)?;
    let byte = |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let sort: Option<Vec<u8>> = sort.as_bytes().chunks(2).map(byte).collect();
    let sort = sort.filter(|sort| sort.is_empty() || sort.starts_with(list)).ok_or_else(bad)?;
    Ok((list, sort.into()))
}
