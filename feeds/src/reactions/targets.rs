//! The activity of a reaction in its target feeds.
//!
//! Its identity follows from the reaction, so it is the same activity whatever changes. Its row keeps the version
//! of the reaction that it was last brought to; a step of an older version is refused there. So a late step neither
//! brings it back to a feed nor takes it out of one.

use keevo_core::{Batch, Consistency, Engine, ErrorKind, Record, Result};
use serde_json::{Map, Value};

use super::ReactionRow;
use crate::activity::NewActivity;
use crate::change::unchanged;
use crate::deliver::ActivityJob;
use crate::feeds::{ATTEMPTS, Feeds, contended, is_certain, unfinished};
use crate::ids::ActivityId;
use crate::json::{decode_object, encode_object};
use crate::outbox::{JobAt, Pointer};
use crate::rows::{ActivityRow, EntryRow, JobRow, decode, encode};
use crate::time::time_of_us;

/// What a version of a reaction makes of its activity.
struct Placing {
    row: ActivityRow,
    fresh: Vec<EntryRow>,
    taken: Vec<EntryRow>,
}

impl<E: Engine> Feeds<E> {
    /// Brings the reaction's activity into its target feeds, out of others, and to what it says.
    pub(crate) async fn place_reaction(&self, id: &str, row: &ReactionRow) -> Result<()> {
        if !row.had_targets {
            return Ok(());
        }
        let new = activity_of(id, row)?;
        let activity = self.target_activity(id, row)?;
        let home = self.layout().activity(activity);
        for _ in 0..ATTEMPTS {
            let record: Option<Record> = self.engine().get(home.clone(), Consistency::Linearizable).await?;
            let current: ActivityRow = record.as_ref().map(decode).transpose()?.unwrap_or_default();
            if current.source_version >= row.version {
                // Another driver was first; what it has placed must be visible to this one's caller too.
                return self.drive_pending(activity).await;
            }
            let placing = self.placing(activity, &new, row, &current)?;
            match self.write_placing(activity, placing, record.as_ref()).await {
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                written => return written,
            }
        }
        Err(contended("the activity of a reaction"))
    }

    /// The activity that tells of a reaction in its target feeds.
    pub(crate) fn target_activity(&self, id: &str, row: &ReactionRow) -> Result<ActivityId> {
        let time = time_of_us(row.created_us)?;
        Ok(ActivityId::compute(self.app(), time, activity_of(id, row)?.identity()))
    }

    fn placing(&self, id: ActivityId, new: &NewActivity, row: &ReactionRow, current: &ActivityRow) -> Result<Placing> {
        let wanted: &[String] = if row.is_live() { &row.target_feeds } else { &[] };
        let (mut entries, taken): (Vec<EntryRow>, Vec<EntryRow>) =
            current.entries.iter().cloned().partition(|entry| wanted.contains(&entry.feed));
        let generation = (current.last_gen + 1).max(self.call_ms());
        let missing = wanted.iter().filter(|feed| entries.iter().all(|entry| entry.feed != **feed));
        let fresh: Vec<EntryRow> =
            missing.map(|feed| EntryRow { feed: feed.clone(), via: String::new(), generation }).collect();
        entries.extend(fresh.iter().cloned());
        let last_gen = if fresh.is_empty() { current.last_gen } else { generation };
        let foreign_id = new.foreign_id.clone();
        let kept = ActivityRow { last_gen, source_version: row.version, foreign_id, ..ActivityRow::default() };
        let row = if entries.is_empty() {
            kept
        } else {
            ActivityRow {
                time_us: id.time().micros(),
                actor: new.actor.clone(),
                verb: new.verb.clone(),
                object: new.object.clone(),
                custom: encode_object(&new.custom)?,
                entries,
                ..kept
            }
        };
        Ok(Placing { row, fresh, taken })
    }

    /// Writes the activity with the jobs that bring it in and take it out, and drives these.
    async fn write_placing(&self, id: ActivityId, placing: Placing, record: Option<&Record>) -> Result<()> {
        let began_us = self.stamp_us();
        let foreign_id =
            if placing.row.foreign_id.is_empty() { foreign_id_of(record)? } else { placing.row.foreign_id.clone() };
        let job = |entries: Vec<EntryRow>, remove| JobRow {
            remove,
            entries,
            began_us,
            foreign_id: foreign_id.clone(),
            ..JobRow::default()
        };
        let mut jobs = vec![job(placing.taken, true), job(placing.fresh, false)];
        jobs.retain(|job| !job.entries.is_empty());
        let pointers: Vec<Pointer> =
            if jobs.is_empty() { Vec::new() } else { self.point_at(jobs.iter().map(|_| JobAt::Activity(id))).await? };
        let home = self.layout().activity(id);
        let mut batch = Batch::new().require(home.clone(), unchanged(record));
        batch = if placing.row.is_removed() {
            batch.put_ttl(home, encode(&placing.row), self.options().removed_ttl_ms)
        } else {
            batch.put(home, encode(&placing.row))
        };
        for (job, pointer) in jobs.iter().zip(&pointers) {
            batch = batch.put(self.layout().activity_job(id, pointer.number), encode(job));
        }
        if let Err(error) = self.engine().write(batch).await {
            if is_certain(&error) {
                self.end(pointers).await;
            }
            return Err(error);
        }
        if let Err(error) = self.renew_pointers(&pointers).await {
            for pointer in pointers {
                self.leave(pointer);
            }
            return Err(unfinished("the activity of a reaction", error));
        }
        let jobs = jobs.into_iter().zip(pointers).map(|(row, pointer)| ActivityJob { id, row, pointer: Some(pointer) });
        self.drive_first(jobs.collect()).await
    }
}

/// The foreign id in the row that is replaced.
fn foreign_id_of(record: Option<&Record>) -> Result<String> {
    Ok(record.map(decode::<ActivityRow>).transpose()?.unwrap_or_default().foreign_id)
}

/// The activity that tells of a reaction.
fn activity_of(id: &str, row: &ReactionRow) -> Result<NewActivity> {
    let mut custom: Map<String, Value> = decode_object(&row.extra)?;
    for fixed in ["actor", "verb", "object", "target", "foreign_id", "time", "id", "to", "origin"] {
        custom.remove(fixed);
    }
    custom.insert("reaction".to_owned(), format!("SR:{id}").into());
    Ok(NewActivity {
        actor: format!("SU:{}", row.user),
        verb: row.kind.clone(),
        object: format!("SA:{}", row.activity),
        foreign_id: format!("reaction:{id}"),
        custom,
        ..NewActivity::default()
    })
}
