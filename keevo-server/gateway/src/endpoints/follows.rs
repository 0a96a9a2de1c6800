//! Follows: making, ending, listing and counting them.

use keevo_feeds::{COPY_LIMIT_MAX, FeedId, ListRequest, NewFollow, Unfollow};
use serde_json::{Map, Value, json};

use super::activities::asked;
use crate::auth::rights::{self, FeedUse};
use crate::call::{Call, bounded, flag, needed};
use crate::error::{ApiError, ApiResult};
use crate::render;
use crate::reply::Reply;

/// The most follows of one request, and of one page.
const FOLLOWS_MAX: usize = 2_500;
const PAGE_MAX: usize = 500;
const LIMIT_DEFAULT: usize = 25;

/// How many activities a follow copies: a number, or one as text.
fn copy_limit(value: Option<&Value>) -> ApiResult<Option<u32>> {
    let number = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(text)) => text.parse().ok(),
        Some(_) => None,
    };
    let limit = number.and_then(|number| u32::try_from(number).ok()).filter(|limit| *limit <= COPY_LIMIT_MAX);
    limit
        .map(Some)
        .ok_or_else(|| ApiError::field("activity_copy_limit", format!("is a number from 0 to {COPY_LIMIT_MAX}")))
}

/// Makes the feed of the path follow another.
pub(super) async fn follow(call: &Call) -> ApiResult<Reply> {
    let feed = call.feed()?;
    call.may(&feed, FeedUse::Own)?;
    let body = call.object()?;
    let target = call.feed_named(needed(&body, "target")?)?;
    let limit = body.get("activity_copy_limit").cloned();
    let limit = limit.or_else(|| call.query.get("activity_copy_limit").map(|text| json!(text)));
    call.feeds.follow(&feed, &target, copy_limit(limit.as_ref())?).await?;
    Ok(Reply::created(json!({})))
}

/// Ends a follow of the feed of the path.
pub(super) async fn unfollow(call: &Call) -> ApiResult<Reply> {
    let feed = call.feed()?;
    call.may(&feed, FeedUse::Own)?;
    let target = call.feed_named(call.found.part("target"))?;
    let keep_history = asked(call, &call.object().unwrap_or_default(), "keep_history")?;
    call.feeds.unfollow(&feed, &target, keep_history).await?;
    Ok(Reply::empty())
}

fn ends(call: &Call, value: &Value) -> ApiResult<(FeedId, FeedId, Map<String, Value>)> {
    let Value::Object(map) = value else { return Err(ApiError::input("a follow is an object with source and target")) };
    Ok((call.feed_named(needed(map, "source")?)?, call.feed_named(needed(map, "target")?)?, map.clone()))
}

/// Makes many follows.
pub(super) async fn follow_many(call: &Call) -> ApiResult<Reply> {
    rights::server_only(&call.principal)?;
    let limit_of_all = call.query.get("activity_copy_limit").map(|text| json!(text));
    let limit_of_all = copy_limit(limit_of_all.as_ref())?;
    let mut follows = Vec::new();
    for value in call.list("follows", FOLLOWS_MAX)? {
        let (follower, target, map) = ends(call, &value)?;
        let limit = copy_limit(map.get("activity_copy_limit"))?.or(limit_of_all);
        follows.push(NewFollow { follower, target, copy_limit: limit });
    }
    call.feeds.follow_many(follows).await?;
    Ok(Reply::created(json!({})))
}

/// Ends many follows. One that is malformed refuses them all.
pub(super) async fn unfollow_many(call: &Call) -> ApiResult<Reply> {
    rights::server_only(&call.principal)?;
    let mut unfollows = Vec::new();
    for value in call.list("unfollows", FOLLOWS_MAX)? {
        let (follower, target, map) = ends(call, &value)?;
        unfollows.push(Unfollow { follower, target, keep_history: flag(&map, "keep_history")? });
    }
    call.feeds.unfollow_many(unfollows).await?;
    Ok(Reply::created(json!({})))
}

fn page(call: &Call) -> ApiResult<Option<ListRequest>> {
    let limit = call.query.number("limit", LIMIT_DEFAULT, PAGE_MAX)?;
    let offset = call.query.number("offset", 0, keevo_feeds::OFFSET_MAX)?;
    let filter = bounded(call.query.list("filter"), "feeds in filter", PAGE_MAX)?;
    let filter = filter.iter().map(|name| call.feed_named(name)).collect::<ApiResult<Vec<_>>>()?;
    // A page of nothing is nothing, not an error.
    Ok((limit > 0).then_some(ListRequest { limit, offset, filter, ..ListRequest::default() }))
}

/// What the feed of the path follows, newest first.
pub(super) async fn following(call: &Call) -> ApiResult<Reply> {
    let feed = call.feed()?;
    call.may(&feed, FeedUse::Own)?;
    let follows = match page(call)? {
        Some(page) => call.feeds.following(&feed, page).await?.follows,
        None => Vec::new(),
    };
    Ok(Reply::ok(json!({ "results": follows.iter().map(render::follow).collect::<Vec<_>>() })))
}

/// Who follows the feed of the path, newest first.
pub(super) async fn followers(call: &Call) -> ApiResult<Reply> {
    let feed = call.feed()?;
    call.may(&feed, FeedUse::Own)?;
    let follows = match page(call)? {
        Some(page) => call.feeds.followers(&feed, page).await?.follows,
        None => Vec::new(),
    };
    Ok(Reply::ok(json!({ "results": follows.iter().map(render::follow).collect::<Vec<_>>() })))
}

/// Counts of one feed's followers and of what another follows, by group where groups are named.
pub(super) async fn stats(call: &Call) -> ApiResult<Reply> {
    let mut results = Map::new();
    for side in ["followers", "following"] {
        let Some(name) = call.query.get(side) else { continue };
        let feed = call.feed_named(name)?;
        call.may(&feed, FeedUse::Own)?;
        let slugs = bounded(call.query.list(&format!("{side}_slugs")), "slugs", 100)?;
        let slugs: Vec<&str> = slugs.iter().map(String::as_str).collect();
        let count = if side == "followers" {
            call.feeds.follow_stats(&feed, &slugs, &[]).await?.followers
        } else {
            call.feeds.follow_stats(&feed, &[], &slugs).await?.following
        };
        results.insert(side.to_owned(), json!({ "feed": feed.as_str(), "count": count }));
    }
    if results.is_empty() {
        return Err(ApiError::input("name a feed in followers, or in following"));
    }
    Ok(Reply::ok(json!({ "results": results })))
}
