//! Updating activities: as a whole, by foreign id and time, or some of their fields.
//!
//! Feeds hold pointers, so an update is one write to the activity's home and is seen everywhere at once. It never
//! moves an activity: who has it is changed by [`Feeds::change_targets`].

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt};
use keevo_core::{Batch, Engine, Error, ErrorKind, Result};
use serde_json::{Map, Value};

use crate::activity::{Activity, NewActivity};
use crate::audit::Action;
use crate::change::Change;
use crate::dotted;
use crate::feed_id::FeedId;
use crate::feeds::Feeds;
use crate::ids::ActivityId;
use crate::json::{decode_object, encode_object};
use crate::rows::{ActivityRow, decode, encode};

/// Fields that an update of some fields leaves alone: they say which activity it is, or who has it.
const FIXED: &[&str] = &["id", "foreign_id", "time", "to", "origin", "score", "is_read", "is_seen"];
/// Fields that are no custom ones.
const TEXTS: &[&str] = &["actor", "verb", "object", "target"];

/// An update of some fields of an activity.
#[derive(Debug, Clone, PartialEq)]
pub struct PartialUpdate {
    /// The activity.
    pub id: ActivityId,
    /// Fields to set, by dotted names; what is missing on the way is made.
    pub set: Map<String, Value>,
    /// Fields to take away, by dotted names, before the others are set; one that is not there is no error.
    pub unset: Vec<String>,
}

impl<E: Engine> Feeds<E> {
    /// Replaces activities, each named by its foreign id and time. One that does not exist is made, and lies in no feed
    /// until it is added to one. All are checked before any is written; a failure midway leaves some of them written.
    ///
    /// `Invalid` without a foreign id or a time, or where `to` is given and differs from what the activity has.
    pub async fn update_activities(&self, new: Vec<NewActivity>) -> Result<Vec<Activity>> {
        for one in &new {
            one.check(self.options().activity_bytes_max)?;
            if one.foreign_id.is_empty() || one.time.is_none() {
                return Err(Error::invalid("an update names its activity by a foreign id and a time"));
            }
        }
        let distinct = new.iter().map(|one| (one.foreign_id.as_str(), one.time)).collect::<BTreeSet<_>>().len();
        let at_once = if distinct == new.len() { self.options().concurrency } else { 1 };
        futures::stream::iter(new.into_iter().map(|one| self.update_one(one))).buffered(at_once).try_collect().await
    }

    async fn update_one(&self, new: NewActivity) -> Result<Activity> {
        let time = new.time.ok_or_else(|| Error::invalid("an update names its activity by a time"))?;
        let id = ActivityId::compute(self.app(), time, new.identity());
        let custom = new.check(self.options().activity_bytes_max)?;
        let home = self.layout().activity(id);
        self.list_activity(&new.actor, id).await?;
        let (activity, is_listed) = self
            .change(&home, "the activity", |record| {
                let before: ActivityRow = record.map(decode).transpose()?.unwrap_or_default();
                let is_listed = before.actor == new.actor;
                let is_new = before.is_removed();
                if !is_new && !before.is_identified_by(new.identity()) {
                    let message = format!("another activity of the same time has the id {id}");
                    return Err(Error::new(ErrorKind::Conflict, message));
                }
                let now = Activity::from_row(id, &before, None)?.to;
                let (asked, has): (BTreeSet<&FeedId>, BTreeSet<&FeedId>) =
                    (new.to.iter().collect(), now.iter().collect());
                if !new.to.is_empty() && asked != has {
                    return Err(Error::invalid("an update does not change `to`; change the targets instead"));
                }
                let row = ActivityRow {
                    time_us: id.time().micros(),
                    actor: new.actor.clone(),
                    verb: new.verb.clone(),
                    object: new.object.clone(),
                    target: new.target.clone(),
                    foreign_id: new.foreign_id.clone(),
                    custom: custom.clone(),
                    kept: before.kept || is_new,
                    entries: before.entries,
                    last_gen: before.last_gen,
                    source_version: before.source_version,
                };
                let action = if is_new { Action::Create } else { Action::Update };
                Ok(Change::Write(self.written(id, &row, action), (Activity::from_row(id, &row, None)?, is_listed)))
            })
            .await?;
        self.list_again(&activity, is_listed).await?;
        Ok(activity)
    }

    /// Lists an updated activity with its actor once more, if that is a new one: a removal that ended just before the
    /// update may have taken it off the list.
    async fn list_again(&self, activity: &Activity, is_listed: bool) -> Result<()> {
        if !is_listed {
            self.list_activity(&activity.actor, activity.id).await?;
        }
        Ok(())
    }

    /// The batch that writes an activity's row, with its audit row.
    fn written(&self, id: ActivityId, row: &ActivityRow, action: Action) -> Batch {
        let batch = Batch::new().put(self.layout().activity(id), encode(row));
        let actor = row.actor.strip_prefix("SU:").unwrap_or(&row.actor);
        self.audited(batch, &self.layout().home(id), action, actor, self.stamp_us())
    }

    /// Updates some fields of activities. All are checked against what is stored before any is written, and again as
    /// each is written; a failure midway leaves some of them written. Updates of one activity apply in their order.
    ///
    /// `NotFound` for one that does not exist; `Invalid` for names that are none, for fields that say which activity it
    /// is, and for what no activity can have.
    pub async fn update_partially(&self, updates: Vec<PartialUpdate>) -> Result<Vec<Activity>> {
        let ids: BTreeSet<ActivityId> = updates.iter().map(|one| one.id).collect();
        let found = self.rows(ids.iter().copied(), keevo_core::Consistency::Linearizable).await?;
        for one in &updates {
            let row = found.get(&one.id).and_then(Option::as_ref).ok_or_else(|| absent(one.id))?;
            self.updated(one, row)?;
        }
        let at_once = if ids.len() == updates.len() { self.options().concurrency } else { 1 };
        let write = |one: PartialUpdate| async move {
            let home = self.layout().activity(one.id);
            if let Some(actor) = one.set.get("actor").and_then(Value::as_str) {
                self.list_activity(actor, one.id).await?;
            }
            let (activity, is_listed) = self
                .change(&home, "the activity", |record| {
                    let before: ActivityRow = record.map(decode).transpose()?.unwrap_or_default();
                    if before.is_removed() {
                        return Err(absent(one.id));
                    }
                    let row = self.updated(&one, &before)?;
                    let activity = Activity::from_row(one.id, &row, None)?;
                    if row == before {
                        return Ok(Change::Keep((activity, true)));
                    }
                    let is_listed = before.actor == row.actor;
                    Ok(Change::Write(self.written(one.id, &row, Action::Update), (activity, is_listed)))
                })
                .await?;
            self.list_again(&activity, is_listed).await?;
            Ok(activity)
        };
        futures::stream::iter(updates.into_iter().map(write)).buffered(at_once).try_collect().await
    }

    /// An activity's row after an update of some fields.
    fn updated(&self, update: &PartialUpdate, before: &ActivityRow) -> Result<ActivityRow> {
        let mut fields = decode_object(&before.custom)?;
        let texts = [&before.actor, &before.verb, &before.object, &before.target];
        for (name, text) in TEXTS.iter().zip(texts) {
            fields.insert((*name).to_owned(), Value::String(text.clone()));
        }
        for name in update.unset.iter().chain(update.set.keys()) {
            let first = dotted::parts(name)?.first().copied().unwrap_or_default();
            if FIXED.contains(&first) {
                return Err(Error::invalid(format!("the field {first} of an activity cannot be updated")));
            }
        }
        for name in &update.unset {
            dotted::unset(&mut fields, name)?;
        }
        for (name, value) in &update.set {
            dotted::set(&mut fields, name, value.clone())?;
        }
        let mut text = |name: &str| match fields.remove(name) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text),
            Some(Value::Number(number)) => Ok(number.to_string()),
            Some(_) => Err(Error::invalid(format!("the field {name} of an activity is text"))),
        };
        let mut after = NewActivity {
            actor: text("actor")?,
            verb: text("verb")?,
            object: text("object")?,
            target: text("target")?,
            foreign_id: before.foreign_id.clone(),
            ..NewActivity::default()
        };
        after.custom = fields;
        after.check(self.options().activity_bytes_max)?;
        if !before.is_identified_by(after.identity()) {
            return Err(Error::invalid(
                "actor, verb, object and target of an activity without a foreign id say which it is and cannot be updated",
            ));
        }
        Ok(ActivityRow {
            actor: after.actor,
            verb: after.verb,
            object: after.object,
            target: after.target,
            custom: encode_object(&after.custom)?,
            ..before.clone()
        })
    }
}

fn absent(id: ActivityId) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no activity {id}"))
}
