//! Activities: reading a request's, adding, updating, removing.

use keevo_feeds::{ActivityId, ActivityTime, FeedId, Identity, NewActivity, TO_MAX};
use serde_json::{Map, Value, json};

use super::read;
use crate::auth::rights::{self, FeedUse};
use crate::call::{self, Call, bounded, flag, needed, scalar, text, texts};
use crate::error::{ApiError, ApiResult};
use crate::render;
use crate::reply::Reply;

/// The most activities of one request.
pub(super) const ACTIVITIES_MAX: usize = 100;
/// The most feeds of one `add_to_many`.
const FEEDS_MAX: usize = keevo_feeds::ADD_TO_MANY_MAX;
/// Members of an activity that are no custom fields. Some of them are the server's own: what a client that sends back
/// what it has read says there is dropped.
const OWN_FIELDS: &[&str] = &[
    "id",
    "actor",
    "verb",
    "object",
    "target",
    "foreign_id",
    "time",
    "to",
    "origin",
    "duration",
    "own_reactions",
    "latest_reactions",
    "latest_reactions_extra",
    "reaction_counts",
    "score",
    "is_seen",
    "is_read",
];

/// The activity that a request describes.
pub(super) fn parse(call: &Call, value: &Value) -> ApiResult<NewActivity> {
    let Value::Object(map) = value else { return Err(ApiError::input("an activity is a JSON object")) };
    for name in ["actor", "verb", "object"] {
        if scalar(map, name)?.is_empty() {
            return Err(ApiError::field(name, "is missing"));
        }
    }
    let to = match map.get("to") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(list)) if list.len() > TO_MAX => {
            return Err(ApiError::field("to", format!("has at most {TO_MAX} entries, not {}", list.len())));
        }
        Some(Value::Array(list)) => list.iter().map(|one| target(call, one)).collect::<ApiResult<_>>()?,
        Some(_) => return Err(ApiError::field("to", "is a list of feeds such as \"notification:ann\"")),
    };
    let custom: Map<String, Value> = map
        .iter()
        .filter(|(name, _)| !OWN_FIELDS.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    Ok(NewActivity {
        actor: scalar(map, "actor")?,
        verb: scalar(map, "verb")?,
        object: scalar(map, "object")?,
        target: scalar(map, "target")?,
        foreign_id: scalar(map, "foreign_id")?,
        time: call::time(map, "time")?,
        to,
        custom,
    })
}

/// One `to` target. Old clients send `[feed, token]` or `feed token`.
fn target(call: &Call, value: &Value) -> ApiResult<FeedId> {
    let name = match value {
        Value::String(name) => Some(name.as_str()),
        Value::Array(pair) => pair.first().and_then(Value::as_str),
        _ => None,
    };
    call.feed_named(name.ok_or_else(|| ApiError::field("to", "is a list of feeds such as \"notification:ann\""))?)
}

/// Checks that the caller may publish an activity.
fn may_publish(call: &Call, new: &NewActivity) -> ApiResult<()> {
    rights::actor(&call.principal, &new.actor)?;
    new.to.iter().try_for_each(|feed| call.may(feed, FeedUse::Target))
}

/// Adds one activity, or a list of them.
pub(super) async fn add(call: &Call) -> ApiResult<Reply> {
    let feed = call.feed()?;
    call.may(&feed, FeedUse::Own)?;
    let body = call.object()?;
    let many = body.get("activities").filter(|_| !body.contains_key("actor"));
    let new: Vec<NewActivity> = match many {
        Some(Value::Array(list)) => bounded(list.iter().collect(), "activities", ACTIVITIES_MAX)?
            .into_iter()
            .map(|one| parse(call, one))
            .collect::<ApiResult<_>>()?,
        Some(_) => return Err(ApiError::field("activities", "is a list")),
        None => vec![parse(call, &Value::Object(body.clone()))?],
    };
    new.iter().try_for_each(|one| may_publish(call, one))?;
    own_already(call, identified(call, &new)).await?;
    let added = call.feeds.add_activities(&feed, new).await?;
    let mut shown = added.iter().map(|one| Value::Object(render::activity(one)));
    match many {
        Some(_) => Ok(Reply::created(json!({ "activities": shown.collect::<Vec<_>>() }))),
        None => Ok(Reply::created(shown.next().ok_or_else(ApiError::internal)?)),
    }
}

/// Adds one activity to many feeds, and to none of their followers.
pub(super) async fn add_to_many(call: &Call) -> ApiResult<Reply> {
    rights::server_only(&call.principal)?;
    let body = call.object()?;
    let activity = body.get("activity").ok_or_else(|| ApiError::field("activity", "is missing"))?;
    let new = parse(call, activity)?;
    if !new.to.is_empty() {
        return Err(ApiError::field("to", "has no place here: name the feeds in `feeds`"));
    }
    let names = texts(&body, "feeds", FEEDS_MAX)?.ok_or_else(|| ApiError::field("feeds", "is missing"))?;
    let feeds: Vec<FeedId> = names.iter().map(|name| call.feed_named(name)).collect::<ApiResult<_>>()?;
    call.feeds.add_to_many(new, feeds).await?;
    Ok(Reply::created(json!({})))
}

/// Removes an activity by its id, or all of a foreign id. What is not there is no error.
pub(super) async fn remove(call: &Call) -> ApiResult<Reply> {
    let feed = call.feed()?;
    call.may(&feed, FeedUse::Own)?;
    let name = call.found.part("activity").to_owned();
    if call.query.flag("foreign_id")? {
        call.feeds.remove_by_foreign_id(&feed, &name).await?;
        return Ok(Reply::ok(json!({ "removed": name })));
    }
    let id: uuid::Uuid =
        name.parse().map_err(|_no_uuid| ApiError::field("id", format!("{name:?} is no activity id")))?;
    // A UUID of another kind is the id of no activity: it is unknown, which is no error.
    if let Ok(id) = ActivityId::from_bytes(id.as_bytes()) {
        call.feeds.remove_activity(&feed, id).await?;
    }
    Ok(Reply::ok(json!({ "removed": name })))
}

/// The ids that a request names by `ids`, or by `foreign_ids` and `timestamps`.
pub(super) fn named(call: &Call) -> ApiResult<Vec<ActivityId>> {
    let ids = call.query.list("ids");
    let (foreign_ids, times) = (call.query.list("foreign_ids"), call.query.list("timestamps"));
    if ids.is_empty() == foreign_ids.is_empty() {
        return Err(ApiError::input("name activities by ids, or by foreign_ids and timestamps"));
    }
    if foreign_ids.len() != times.len() {
        return Err(ApiError::field("timestamps", "has one time for each of foreign_ids"));
    }
    if !ids.is_empty() {
        let ids = bounded(ids, "ids", ACTIVITIES_MAX)?;
        return ids.iter().map(|id| activity_id(id).map_err(|error| ApiError::field("ids", error.detail()))).collect();
    }
    let pairs = bounded(foreign_ids, "foreign_ids", ACTIVITIES_MAX)?.into_iter().zip(times);
    pairs.map(|(foreign_id, time)| Ok(computed(call, &foreign_id, time.parse()?))).collect()
}

/// An activity's id; a UUID of another kind is one that no activity has.
pub(super) fn activity_id(text: &str) -> ApiResult<ActivityId> {
    Ok(text.parse::<ActivityId>()?)
}

fn computed(call: &Call, foreign_id: &str, time: ActivityTime) -> ActivityId {
    ActivityId::compute(call.feeds.app(), time, Identity::ForeignId(foreign_id))
}

/// The id that an object names, by `id` or by `foreign_id` and `time`.
pub(super) fn id_in(call: &Call, map: &Map<String, Value>) -> ApiResult<ActivityId> {
    if let Some(id) = text(map, "id")? {
        return activity_id(id);
    }
    let foreign_id = needed(map, "foreign_id")?;
    let time = call::time(map, "time")?.ok_or_else(|| ApiError::field("time", "is missing"))?;
    Ok(computed(call, foreign_id, time))
}

/// Activities by ids; resolved where the path or a reaction option says so.
pub(super) async fn get(call: &Call) -> ApiResult<Reply> {
    read::may_read_by_ids(call)?;
    let found = call.feeds.activities(&named(call)?).await?;
    let results = read::shown(call, &found).await?;
    Ok(Reply::ok(json!({ "results": results })))
}

/// Replaces activities, or adds them where they are new; each has a foreign id and a time.
pub(super) async fn update(call: &Call) -> ApiResult<Reply> {
    let body = call.object()?;
    let Some(Value::Array(list)) = body.get("activities") else {
        return Err(ApiError::field("activities", "is a list"));
    };
    let list = bounded(list.iter().collect(), "activities", ACTIVITIES_MAX)?;
    let mut new = Vec::with_capacity(list.len());
    for value in list {
        let one = parse(call, value)?;
        if one.foreign_id.is_empty() {
            return Err(ApiError::field("foreign_id", "is missing"));
        }
        if one.time.is_none() {
            return Err(ApiError::field("time", "is missing"));
        }
        may_publish(call, &one)?;
        new.push(one);
    }
    own_already(call, identified(call, &new)).await?;
    call.feeds.update_activities(new).await?;
    Ok(Reply::created(json!({})))
}

/// The ids of those that are named by a foreign id and a time: one that is there already is overwritten, wherever it lies.
fn identified(call: &Call, new: &[NewActivity]) -> Vec<ActivityId> {
    let named = new.iter().filter(|one| !one.foreign_id.is_empty());
    named.filter_map(|one| Some(computed(call, &one.foreign_id, one.time?))).collect()
}

/// Refuses a user who would change another's activities.
async fn own_already(call: &Call, ids: Vec<ActivityId>) -> ApiResult<()> {
    if matches!(call.principal, crate::auth::Principal::User(_)) {
        for one in call.feeds.activities(&ids).await? {
            rights::actor(&call.principal, &one.actor)?;
        }
    }
    Ok(())
}

/// Sets and unsets fields.
pub(super) async fn partial(call: &Call) -> ApiResult<Reply> {
    let body = call.object()?;
    let (changes, bare) = match body.get("changes") {
        Some(Value::Array(list)) => (bounded(list.iter().collect(), "changes", ACTIVITIES_MAX)?, false),
        Some(_) => return Err(ApiError::field("changes", "is a list")),
        None => (Vec::new(), true),
    };
    let bare_body = Value::Object(body.clone());
    let changes = if bare { vec![&bare_body] } else { changes };
    let mut parsed = Vec::with_capacity(changes.len());
    for change in changes {
        let Value::Object(map) = change else { return Err(ApiError::field("changes", "is a list of objects")) };
        let id = id_in(call, map)?;
        let set = call::object(map, "set")?.cloned().unwrap_or_default();
        if set.contains_key("actor") {
            rights::actor(&call.principal, &scalar(&set, "actor")?)?;
        }
        let unset = texts(map, "unset", 1_000)?.unwrap_or_default();
        parsed.push(keevo_feeds::PartialUpdate { id, set, unset });
    }
    own_already(call, parsed.iter().map(|one| one.id).collect()).await?;
    let changed = call.feeds.update_partially(parsed).await?;
    let mut shown = changed.iter().map(|one| Value::Object(render::activity(one)));
    if bare {
        return Ok(Reply::created(shown.next().ok_or_else(|| ApiError::not_found("there is no such activity"))?));
    }
    Ok(Reply::created(json!({ "activities": shown.collect::<Vec<_>>() })))
}

/// Whether a request asks for something by a flag in its body or its query.
pub(super) fn asked(call: &Call, body: &Map<String, Value>, name: &str) -> ApiResult<bool> {
    Ok(flag(body, name)? || call.query.flag(name)?)
}
