//! Removing activities from a feed, and with it from everywhere the feed brought them.
//!
//! Order of writes: a pointer; then the activity's row without the entries and the job that takes them out, in
//! one batch. From that batch on no reader shows it, since readers look at the activity; the job cleans up.

use futures::{StreamExt, TryStreamExt};
use keevo_core::{Batch, Check, Consistency, Engine, ErrorKind, Result};

use crate::audit::Action;
use crate::deliver::ActivityJob;
use crate::feed_id::FeedId;
use crate::feeds::{ATTEMPTS, Feeds, contended, is_certain, unfinished};
use crate::ids::ActivityId;
use crate::keys;
use crate::metrics::add;
use crate::outbox::{JobAt, Pointer};
use crate::rows::{ActivityRow, EntryRow, JobRow, decode, encode};

/// How many activities of one foreign id are looked up at once.
const FOREIGN_PAGE: usize = 256;

impl<E: Engine> Feeds<E> {
    /// Removes an activity from `feed` and its followers. If it was added to this feed, it also leaves the `to`
    /// targets of that add and their followers; if only a `to` brought it here, it stays elsewhere.
    /// True when it was there; one that is not is no error.
    pub async fn remove_activity(&self, feed: &FeedId, id: ActivityId) -> Result<bool> {
        self.remove_from(Some(feed), id).await
    }

    /// Removes an activity from all feeds. True when it was in any.
    pub(crate) async fn remove_everywhere(&self, id: ActivityId) -> Result<bool> {
        self.remove_from(None, id).await
    }

    /// Removes an activity from `feed` and what it brought it to, or from everywhere.
    async fn remove_from(&self, feed: Option<&FeedId>, id: ActivityId) -> Result<bool> {
        let mut unused = None;
        let removed = self.remove_one(feed, id, &mut unused).await;
        // A pointer that is still here leads to no job, unless the write of one had no clear end.
        if removed.as_ref().err().is_none_or(is_certain) {
            self.end(unused).await;
        }
        removed
    }

    /// Removes an activity; `unused` holds the pointer until its job is written.
    async fn remove_one(&self, feed: Option<&FeedId>, id: ActivityId, unused: &mut Option<Pointer>) -> Result<bool> {
        let home = self.layout().activity(id);
        for _ in 0..ATTEMPTS {
            let Some(record) = self.engine().get(home.clone(), Consistency::Linearizable).await? else {
                return Ok(false);
            };
            let mut row: ActivityRow = decode(&record)?;
            let taken = take_out(&mut row, feed);
            // One that an update made is there though no feed has it.
            let is_kept = feed.is_none() && std::mem::take(&mut row.kept);
            if taken.is_empty() && !is_kept {
                return Ok(false);
            }
            if unused.is_none() {
                *unused = self.point_at([JobAt::Activity(id)]).await?.pop();
            }
            let Some(pointer) = unused.clone() else { break };
            let job = JobRow {
                remove: true,
                entries: taken,
                began_us: self.stamp_us(),
                foreign_id: row.foreign_id.clone(),
                actor: if row.is_removed() { row.actor_user().to_owned() } else { String::new() },
                ..JobRow::default()
            };
            let mut batch = Batch::new()
                .require(home.clone(), Check::RevisionIs(record.revision))
                .put(self.layout().activity_job(id, pointer.number), encode(&job));
            batch = self.audited(batch, &home.partition, Action::Delete, row.actor_user(), job.began_us);
            batch = if row.is_removed() {
                let emptied = row.emptied();
                batch.put_ttl(home.clone(), encode(&emptied), self.options().removed_ttl_ms)
            } else {
                batch.put(home.clone(), encode(&row))
            };
            match self.engine().write(batch).await {
                Ok(_) => *unused = None,
                Err(error) if error.kind() == ErrorKind::Conflict => continue,
                Err(error) => return Err(error),
            }
            add(&self.counters().activities_removed, 1);
            let after = |error| unfinished("the removal", error);
            if let Err(error) = self.renew_pointers(std::slice::from_ref(&pointer)).await {
                self.leave(pointer);
                return Err(after(error));
            }
            self.drive_first(vec![ActivityJob { id, row: job, pointer: Some(pointer) }]).await.map_err(after)?;
            return Ok(true);
        }
        Err(contended("the activity"))
    }

    /// Removes all activities of `feed` with that foreign id, whatever their time. Returns how many there were.
    pub async fn remove_by_foreign_id(&self, feed: &FeedId, foreign_id: &str) -> Result<usize> {
        let prefix = keys::foreign_prefix(foreign_id);
        let partition = self.layout().feed(feed);
        let mut token = None;
        let mut removed = 0;
        loop {
            let scan = self.layout().scan(partition.clone(), &prefix, prefix.clone(), FOREIGN_PAGE).after(token);
            let page = self.engine().scan(scan).await?;
            let found = page.records.iter().map(|(key, _)| keys::parse_foreign(&key.sort, &prefix));
            let mut found: Vec<ActivityId> = found.collect::<Result<_>>()?;
            // A feed that holds an activity in two ways has two rows of it, side by side.
            found.dedup();
            removed += futures::stream::iter(found.into_iter().map(|id| self.remove_activity(feed, id)))
                .buffer_unordered(8)
                .try_fold(0, |count, removed| async move { Ok(count + usize::from(removed)) })
                .await?;
            match page.next {
                Some(next) => token = Some(next),
                None => return Ok(removed),
            }
        }
    }
}

/// Takes out of `row` all that `feed` holds or has brought elsewhere, or everything, and returns it.
fn take_out(row: &mut ActivityRow, feed: Option<&FeedId>) -> Vec<EntryRow> {
    let is_taken = |entry: &EntryRow| feed.is_none_or(|feed| entry.feed == feed.as_str() || entry.via == feed.as_str());
    let (taken, kept) = std::mem::take(&mut row.entries).into_iter().partition(is_taken);
    row.entries = kept;
    taken
}
