//! Changing the `to` targets of activities.

use keevo_feeds::{ActivityId, FeedId, Identity, Targets};
use serde_json::{Map, Value, json};

use super::activities::ACTIVITIES_MAX;
use crate::auth::rights::FeedUse;
use crate::call::{self, Call, bounded, needed, texts};
use crate::error::{ApiError, ApiResult};
use crate::render;
use crate::reply::Reply;

/// Changes the targets that the feed of the path gave one activity, or several.
pub(super) async fn change(call: &Call) -> ApiResult<Reply> {
    let feed = call.feed()?;
    call.may(&feed, FeedUse::Own)?;
    let (list, many) = match call.json()? {
        Value::Array(list) => (bounded(list, "activities", ACTIVITIES_MAX)?, true),
        one => (vec![one], false),
    };
    let asked = list.iter().map(|one| parse(call, one)).collect::<ApiResult<Vec<_>>>()?;
    let mut answers = Vec::new();
    for (id, targets) in asked {
        let changed = call.feeds.change_targets(&feed, id, &targets).await?;
        let mut activity = render::activity(&changed.activity);
        // Here the key is there also when no target is left.
        activity.entry("to").or_insert_with(|| json!([]));
        let names = |feeds: &[FeedId]| feeds.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (added, removed) = (names(&changed.added), names(&changed.removed));
        answers.push(json!({ "activity": activity, "added": added, "removed": removed }));
    }
    if many {
        return Ok(Reply::created(json!({ "activities": answers })));
    }
    Ok(Reply::created(answers.into_iter().next().ok_or_else(ApiError::internal)?))
}

fn parse(call: &Call, value: &Value) -> ApiResult<(ActivityId, Targets)> {
    let Value::Object(map) = value else { return Err(ApiError::input("a change of targets is a JSON object")) };
    let foreign_id = needed(map, "foreign_id")?;
    let time = call::time(map, "time")?.ok_or_else(|| ApiError::field("time", "is missing"))?;
    let id = ActivityId::compute(call.feeds.app(), time, Identity::ForeignId(foreign_id));
    let (new, added, removed) =
        (feeds(call, map, "new_targets")?, feeds(call, map, "added_targets")?, feeds(call, map, "removed_targets")?);
    let targets = match (new, added, removed) {
        (Some(new), None, None) => Targets::Replace(new),
        (None, None, None) => return Err(ApiError::input("give new_targets, or added_targets and removed_targets")),
        (None, added, removed) => {
            Targets::Change { added: added.unwrap_or_default(), removed: removed.unwrap_or_default() }
        }
        (Some(_), ..) => return Err(ApiError::input("give new_targets alone, or added_targets and removed_targets")),
    };
    let (Targets::Replace(coming) | Targets::Change { added: coming, .. }) = &targets;
    coming.iter().try_for_each(|feed| call.may(feed, FeedUse::Target))?;
    Ok((id, targets))
}

fn feeds(call: &Call, map: &Map<String, Value>, name: &str) -> ApiResult<Option<Vec<FeedId>>> {
    let Some(names) = texts(map, name, keevo_feeds::TO_MAX)? else { return Ok(None) };
    names.iter().map(|name| call.feed_named(name)).collect::<ApiResult<_>>().map(Some)
}
