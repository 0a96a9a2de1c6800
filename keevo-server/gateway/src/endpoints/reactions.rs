//! Reactions to activities and to other reactions.

use keevo_feeds::{EnrichOptions, FeedId, NewReaction, ReactTo, Reaction, ReactionChange, ReactionQuery, ReactionsOf};
use serde_json::{Map, Value, json};

use super::activities::{activity_id, asked};
use super::read;
use crate::auth::Principal;
use crate::auth::rights::{self, FeedUse};
use crate::call::{Call, bounded, needed, object, text};
use crate::error::{ApiError, ApiResult};
use crate::reply::Reply;

/// The most reactions of a page, and how many there are unless said otherwise.
const LIMIT_MAX: usize = 25;
const LIMIT_DEFAULT: usize = 10;
/// The most target feeds of a reaction.
const TARGETS_MAX: usize = 20;
/// The most reactions that are read by their ids at once.
const IDS_MAX: usize = 100;

/// A reaction as it is answered to whoever wrote it.
async fn written(call: &Call, reaction: &Reaction, extra_data: bool) -> ApiResult<Value> {
    let mut map = one(call, reaction).await?;
    if extra_data && !reaction.target_feeds_extra_data.is_empty() {
        map.insert("target_feeds_extra_data".to_owned(), Value::Object(reaction.target_feeds_extra_data.clone()));
    }
    Ok(Value::Object(map))
}

async fn one(call: &Call, reaction: &Reaction) -> ApiResult<Map<String, Value>> {
    let options = children_options(call)?;
    let shown = call.feeds.render_reactions(std::slice::from_ref(reaction), &options).await?;
    shown.into_iter().next().ok_or_else(ApiError::internal)
}

/// How reactions are shown: with whose own children, where that is asked for.
fn children_options(call: &Call) -> ApiResult<EnrichOptions> {
    let own_children = call.query.flag("with_own_children")? || call.query.flag("withOwnChildren")?;
    let named = call.query.get("children_user_id").or_else(|| call.query.get("user_id"));
    let user_id = if own_children { call.user(named)? } else { None };
    let activities = read::may_read_by_ids(call).is_ok();
    let link_base = read::link_base(call);
    Ok(EnrichOptions { own_children, user_id, link_base, activities, ..EnrichOptions::default() })
}

/// The target feeds that a body names; `None` = it says nothing of them.
fn targets(call: &Call, body: &Map<String, Value>) -> ApiResult<Option<Vec<FeedId>>> {
    let Some(names) = crate::call::texts(body, "target_feeds", TARGETS_MAX)? else { return Ok(None) };
    let feeds: Vec<FeedId> = names.iter().map(|name| call.feed_named(name)).collect::<ApiResult<_>>()?;
    feeds.iter().try_for_each(|feed| call.may(feed, FeedUse::Target))?;
    Ok(Some(feeds))
}

/// Adds a reaction.
pub(super) async fn add(call: &Call) -> ApiResult<Reply> {
    let body = call.object()?;
    let user_id = call.user(text(&body, "user_id")?)?.ok_or_else(ApiError::missing_user)?;
    let kind = needed(&body, "kind")?.to_owned();
    let on = match (text(&body, "parent")?, text(&body, "activity_id")?) {
        (Some(parent), _) => ReactTo::Parent(parent.to_owned()),
        (None, Some(activity)) => ReactTo::Activity(activity.to_owned()),
        (None, None) => return Err(ApiError::input("name what is reacted to, in activity_id or in parent")),
    };
    let new = NewReaction {
        id: text(&body, "id")?.map(str::to_owned),
        data: object(&body, "data")?.cloned().unwrap_or_default(),
        target_feeds: targets(call, &body)?.unwrap_or_default(),
        target_feeds_extra_data: object(&body, "target_feeds_extra_data")?.cloned().unwrap_or_default(),
        ..NewReaction::new(kind, on, user_id)
    };
    let added = call.feeds.add_reaction(new).await?;
    Ok(Reply::created(written(call, &added, true).await?))
}

/// Reads a reaction.
pub(super) async fn get(call: &Call) -> ApiResult<Reply> {
    let reaction = call.feeds.reaction(call.found.part("id")).await?;
    Ok(Reply::ok(Value::Object(one(call, &reaction).await?)))
}

/// Reads reactions by their ids. Of those that were softly deleted a user sees his own.
pub(super) async fn get_many(call: &Call) -> ApiResult<Reply> {
    let ids = bounded(call.query.list("ids"), "ids", IDS_MAX)?;
    let mut found = call.feeds.reactions_by_ids(&ids, call.query.flag("include_deleted")?).await?;
    if let Principal::User(user) = &call.principal {
        found.retain(|one| one.deleted_at.is_none() || one.user_id == *user);
    }
    let shown = call.feeds.render_reactions(&found, &children_options(call)?).await?;
    Ok(Reply::ok(json!({ "reactions": shown })))
}

/// The reaction of the path, if the caller may change it.
async fn own(call: &Call) -> ApiResult<&str> {
    let id = call.found.part("id");
    if matches!(call.principal, Principal::User(_)) {
        let found = call.feeds.reactions_by_ids(&[id.to_owned()], true).await?;
        let reaction = found.first().ok_or_else(|| ApiError::not_found(format!("there is no reaction {id}")))?;
        rights::user(&call.principal, &reaction.user_id)?;
    }
    Ok(id)
}

/// Changes a reaction's data and target feeds.
pub(super) async fn update(call: &Call) -> ApiResult<Reply> {
    let body = call.object()?;
    let change = ReactionChange {
        data: object(&body, "data")?.cloned(),
        target_feeds: targets(call, &body)?,
        target_feeds_extra_data: object(&body, "target_feeds_extra_data")?.cloned(),
    };
    let changed = call.feeds.update_reaction(own(call).await?, change).await?;
    Ok(Reply::created(written(call, &changed, true).await?))
}

/// Deletes a reaction, for good or so that it can be restored.
pub(super) async fn delete(call: &Call) -> ApiResult<Reply> {
    let soft = asked(call, &call.object().unwrap_or_default(), "soft")?;
    call.feeds.delete_reaction(own(call).await?, soft).await?;
    Ok(Reply::empty())
}

/// Restores a reaction that was softly deleted.
pub(super) async fn restore(call: &Call) -> ApiResult<Reply> {
    call.feeds.restore_reaction(own(call).await?).await?;
    Ok(Reply::created(json!({})))
}

/// Lists reactions of an activity, of a user, or to a reaction.
pub(super) async fn filter(call: &Call) -> ApiResult<Reply> {
    let value = call.found.part("value").to_owned();
    let by = call.found.part("by");
    let of = match by {
        "activity_id" => ReactionsOf::Activity(value.clone()),
        "user_id" => ReactionsOf::User(value.clone()),
        "reaction_id" => ReactionsOf::Parent(value.clone()),
        other => {
            let told = format!("reactions are listed by activity_id, user_id or reaction_id, not by {other}");
            return Err(ApiError::input(told));
        }
    };
    if call.query.get("ranking").is_some() {
        return Err(ApiError::no_ranking("reactions are listed by time; there is no ranking of them"));
    }
    let id = |name: &str| call.query.get(name).map(str::to_owned);
    let limit = call.query.number("limit", LIMIT_DEFAULT, LIMIT_MAX)?.max(1);
    let query = ReactionQuery {
        kind: Some(call.found.part("kind").to_owned()).filter(|kind| !kind.is_empty()),
        user_id: id("filter_user_id"),
        limit,
        id_lt: id("id_lt"),
        id_lte: id("id_lte"),
        id_gt: id("id_gt"),
        id_gte: id("id_gte"),
        ..ReactionQuery::of(of)
    };
    let page = call.feeds.list_reactions(&query).await?;
    let shown = call.feeds.render_reactions(&page.reactions, &children_options(call)?).await?;
    let upwards = query.id_gt.is_some() || query.id_gte.is_some();
    let next = page.next.map_or_else(String::new, |last| next(call, upwards, limit, &last));
    let mut answer = json!({ "results": shown, "next": next });
    if call.query.flag("with_activity_data")? && by == "activity_id" {
        let activity = activity_of(call, &value).await?;
        if let (Value::Object(answer), Some(activity)) = (&mut answer, activity) {
            answer.insert("activity".to_owned(), Value::Object(activity));
        }
    }
    Ok(Reply::ok(answer))
}

/// The activity whose reactions are listed; one that does not exist is left out.
async fn activity_of(call: &Call, id: &str) -> ApiResult<Option<Map<String, Value>>> {
    read::may_read_by_ids(call)?;
    let Ok(id) = activity_id(id) else { return Ok(None) };
    let found = call.feeds.activities(&[id]).await?;
    let options = EnrichOptions { link_base: read::link_base(call), ..EnrichOptions::default() };
    Ok(call.feeds.enrich_activities(&found, &options).await?.into_iter().next())
}

/// The path and query of the next page.
fn next(call: &Call, upwards: bool, limit: usize, last: &str) -> String {
    let dropped = ["id_lt", "id_lte", "id_gt", "id_gte", "limit", "api_key", "authorization", "auth_type"];
    let mut query = call.query.without(&dropped);
    let key = if upwards { "id_gt" } else { "id_lt" };
    query.append_pair(key, last).append_pair("limit", &limit.to_string()).append_pair("api_key", &call.key);
    let part = |name| percent_encoding::utf8_percent_encode(call.found.part(name), percent_encoding::NON_ALPHANUMERIC);
    let kind = part("kind").to_string();
    let kind = if kind.is_empty() { kind } else { format!("{kind}/") };
    format!("/api/v1.0/reaction/{}/{}/{kind}?{}", call.found.part("by"), part("value"), query.finish())
}
