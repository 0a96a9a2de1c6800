//! Users.

use keevo_feeds::{FeedId, User};
use serde_json::{Map, Value, json};

use super::activities::asked;
use crate::auth::{Principal, rights};
use crate::call::{Call, bounded, needed, object};
use crate::error::{ApiError, ApiResult};
use crate::reply::Reply;

/// The most users that are written, and read, at once.
const WRITE_MAX: usize = 100;
const READ_MAX: usize = 1_000;
/// The groups whose follows make a user's counts: `timeline` feeds that follow `user:ID`, and the other way round.
const OWN_GROUP: &str = "user";
const TIMELINE_GROUP: &str = "timeline";

fn shown(user: &User) -> Value {
    Value::Object(user.to_json())
}

/// Adds a user; with `get_or_create` gives the one that is there, unchanged.
pub(super) async fn add(call: &Call) -> ApiResult<Reply> {
    let body = call.object()?;
    let id = needed(&body, "id")?;
    rights::user(&call.principal, id)?;
    let data = object(&body, "data")?.cloned().unwrap_or_default();
    let user = if asked(call, &body, "get_or_create")? {
        call.feeds.get_or_create_user(id, data).await?
    } else {
        call.feeds.add_user(id, data).await?
    };
    Ok(Reply::created(shown(&user)))
}

/// Reads a user, with counts of follows where they are asked for.
pub(super) async fn get(call: &Call) -> ApiResult<Reply> {
    let id = call.found.part("id");
    let mut map = call.feeds.user(id).await?.to_json();
    if call.query.flag("with_follow_counts")? {
        let (followers, following) = counts(call, id).await?;
        map.insert("followers_count".to_owned(), json!(followers));
        map.insert("following_count".to_owned(), json!(following));
    }
    Ok(Reply::ok(Value::Object(map)))
}

async fn counts(call: &Call, id: &str) -> ApiResult<(u64, u64)> {
    // An id that no feed can have is followed by nobody.
    let (Ok(own), Ok(timeline)) = (FeedId::new(OWN_GROUP, id), FeedId::new(TIMELINE_GROUP, id)) else {
        return Ok((0, 0));
    };
    let followers = call.feeds.follow_stats(&own, &[TIMELINE_GROUP], &[]).await?.followers;
    let following = call.feeds.follow_stats(&timeline, &[], &[OWN_GROUP]).await?.following;
    Ok((followers, following))
}

/// Replaces a user's data.
pub(super) async fn update(call: &Call) -> ApiResult<Reply> {
    let id = call.found.part("id");
    rights::user(&call.principal, id)?;
    let user = call.feeds.update_user(id, object(&call.object()?, "data")?.cloned().unwrap_or_default()).await?;
    Ok(Reply::created(shown(&user)))
}

/// Deletes a user.
pub(super) async fn delete(call: &Call) -> ApiResult<Reply> {
    let id = call.found.part("id");
    rights::user(&call.principal, id)?;
    call.feeds.delete_user(id).await?;
    Ok(Reply::empty())
}

/// Adds users; with `override` replaces those that are there.
pub(super) async fn upsert_many(call: &Call) -> ApiResult<Reply> {
    let body = call.object()?;
    let Some(Value::Array(list)) = body.get("users") else { return Err(ApiError::field("users", "is a list")) };
    let list = bounded(list.iter().collect(), "users", WRITE_MAX)?;
    let mut users = Vec::with_capacity(list.len());
    for one in list {
        let Value::Object(map) = one else { return Err(ApiError::field("users", "is a list of objects")) };
        let id = needed(map, "id")?;
        rights::user(&call.principal, id)?;
        users.push((id.to_owned(), object(map, "data")?.cloned().unwrap_or_else(Map::new)));
    }
    let added = call.feeds.add_users(users, asked(call, &body, "override")?).await?;
    Ok(Reply::created(json!({ "created_users": added.iter().map(shown).collect::<Vec<_>>() })))
}

/// Reads users.
pub(super) async fn get_many(call: &Call) -> ApiResult<Reply> {
    let ids = bounded(call.query.list("ids"), "ids", READ_MAX)?;
    let users = call.feeds.users(&ids).await?;
    Ok(Reply::ok(json!({ "users": users.iter().map(shown).collect::<Vec<_>>() })))
}

/// Deletes users.
pub(super) async fn delete_many(call: &Call) -> ApiResult<Reply> {
    let mut ids = call.query.list("ids");
    if ids.is_empty() {
        ids = crate::call::texts(&call.object()?, "ids", WRITE_MAX)?.unwrap_or_default();
    }
    let ids = bounded(ids, "ids", WRITE_MAX)?;
    if let Principal::User(_) = call.principal {
        ids.iter().try_for_each(|id| rights::user(&call.principal, id))?;
    }
    call.feeds.delete_users(&ids).await?;
    Ok(Reply::ok(json!({ "deleted_user_ids": ids })))
}
