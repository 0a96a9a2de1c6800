//! Reading a feed, page by page.

use keevo_feeds::{Activity, ActivityId, EnrichOptions, FeedId, GroupKind, PageRequest, RankedRequest, Ranking};
use serde_json::{Map, Value, json};

use super::activities::activity_id;
use crate::auth::rights::{self, FeedUse};
use crate::call::{Call, bounded};
use crate::error::{ApiError, ApiResult};
use crate::render;
use crate::reply::Reply;

/// The most activities of a page, and how many there are unless said otherwise.
const LIMIT_MAX: usize = 100;
const LIMIT_DEFAULT: usize = 25;

/// A page of the feed of the path.
pub(super) async fn feed(call: &Call) -> ApiResult<Reply> {
    let feed = call.feed()?;
    call.may(&feed, FeedUse::Read)?;
    let limit = call.query.number("limit", LIMIT_DEFAULT, LIMIT_MAX)?;
    let offset = call.query.number("offset", 0, keevo_feeds::OFFSET_MAX)?;
    let vars = ranking_vars(call)?;
    if call.feeds.groups().kind(feed.slug()) != GroupKind::Flat {
        return super::aggregated::page(call, &feed, limit, offset).await;
    }
    if let Some(name) = call.query.get("ranking") {
        return ranked(call, &feed, name, RankedRequest { limit, offset, vars, ..RankedRequest::default() }).await;
    }
    let id = |name: &str| -> ApiResult<Option<ActivityId>> {
        let Some(text) = call.query.get(name) else { return Ok(None) };
        activity_id(text).map(Some).map_err(|error| ApiError::field(name, error.detail()))
    };
    let request = request(limit, offset, id)?;
    if limit == 0 {
        return Ok(Reply::ok(json!({ "results": [], "next": "" })));
    }
    let page = call.feeds.page(&feed, request).await?;
    let results = shown(call, &page.activities).await?;
    let next = page.next.map_or_else(String::new, |last| next(call, limit, "id_lt", &last.to_string()));
    Ok(Reply::ok(json!({ "results": results, "next": next })))
}

/// Which part of a feed a request asks for, by the ids that `id` finds under the names of its parameters.
pub(super) fn request<Id>(
    limit: usize,
    offset: usize,
    id: impl Fn(&str) -> ApiResult<Option<Id>>,
) -> ApiResult<PageRequest<Id>> {
    Ok(PageRequest {
        limit: limit.max(1),
        offset,
        id_lt: id("id_lt")?,
        id_lte: id("id_lte")?,
        id_gt: id("id_gt")?,
        id_gte: id("id_gte")?,
        ..PageRequest::default()
    })
}

/// The variables of a ranking: a JSON object as text, under either of the names that clients use.
fn ranking_vars(call: &Call) -> ApiResult<Map<String, Value>> {
    let Some(text) = call.query.get("rankingVars").or_else(|| call.query.get("ranking_vars")) else {
        return Ok(Map::new());
    };
    match serde_json::from_str(text) {
        Ok(Value::Object(vars)) => Ok(vars),
        _ => Err(ApiError::field("rankingVars", "is a JSON object as text")),
    }
}

/// A page in the order of one of the group's rankings.
async fn ranked(call: &Call, feed: &FeedId, name: &str, mut request: RankedRequest) -> ApiResult<Reply> {
    let group = call.app.groups.get(feed.slug());
    let ranking = group.and_then(|group| group.rankings.get(name)).ok_or_else(|| keevo_feeds::ranking_missing(name))?;
    let ranking = Ranking::from_json(ranking)?;
    let limit = request.limit;
    if limit == 0 {
        return Ok(Reply::ok(json!({ "results": [], "next": "" })));
    }
    request.with_score_vars = call.query.flag("withScoreVars")?;
    let page = call.feeds.ranked_page(feed, &ranking, &request).await?;
    let activities: Vec<Activity> = page.activities.iter().map(|one| one.activity.clone()).collect();
    let mut results = shown(call, &activities).await?;
    for (shown, ranked) in results.iter_mut().zip(&page.activities) {
        shown.insert("score".to_owned(), json!(ranked.score));
        if let Some(vars) = &ranked.score_vars {
            shown.insert("score_vars".to_owned(), Value::Object(vars.clone()));
        }
    }
    let next_offset = request.offset + limit;
    let next = if page.more { next(call, limit, "offset", &next_offset.to_string()) } else { String::new() };
    Ok(Reply::ok(json!({ "results": results, "next": next })))
}

/// Activities as a request wants them: resolved where its path or a reaction option says so.
pub(super) async fn shown(call: &Call, activities: &[Activity]) -> ApiResult<Vec<Map<String, Value>>> {
    match enrichment(call)? {
        Some(options) => Ok(call.feeds.enrich_activities(activities, &options).await?),
        None => Ok(activities.iter().map(render::activity).collect()),
    }
}

/// What absolute links begin with.
pub(super) fn link_base(call: &Call) -> String {
    format!("{}/api/v1.0/", call.origin)
}

/// Checks that the caller may read activities by their ids, wherever they lie.
pub(super) fn may_read_by_ids(call: &Call) -> ApiResult<()> {
    rights::policy(&call.principal, call.app.policies.activities_read, "read activities by ids")
}

/// How a request wants activities resolved; `None` = as they are stored.
fn enrichment(call: &Call) -> ApiResult<Option<EnrichOptions>> {
    let flag = |name: &str| call.query.flag(name);
    let own_reactions = flag("withOwnReactions")?;
    let own_children = flag("withOwnChildren")?;
    let user_id = if own_reactions || own_children {
        let user = call.user(call.query.get("user_id"))?;
        Some(user.ok_or_else(ApiError::missing_user)?)
    } else {
        None
    };
    let options = EnrichOptions {
        user_id,
        own_reactions,
        own_children,
        recent_reactions: flag("withRecentReactions")?,
        recent_reactions_limit: call.query.number("recentReactionsLimit", 5, 25)?.max(1),
        reaction_counts: flag("withReactionCounts")?,
        kinds: bounded(call.query.list("reactionKindsFilter"), "kinds", 100)?,
        link_base: link_base(call),
        activities: may_read_by_ids(call).is_ok(),
        ..EnrichOptions::default()
    };
    let asked = own_reactions || own_children || options.recent_reactions || options.reaction_counts;
    Ok((asked || call.found.row.path.starts_with("enrich/")).then_some(options))
}

/// The path and query of the next page: what was asked for, from behind the last one on.
pub(super) fn next(call: &Call, limit: usize, from: &str, last: &str) -> String {
    let dropped =
        ["id_lt", "id_lte", "offset", "limit", "api_key", "authorization", "auth_type", "mark_seen", "mark_read"];
    let mut query = call.query.without(&dropped);
    query.append_pair(from, last).append_pair("limit", &limit.to_string()).append_pair("api_key", &call.key);
    let path = call.found.row.path.replace("{slug}", call.found.part("slug")).replace("{id}", call.found.part("id"));
    format!("/api/v1.0/{path}/?{}", query.finish())
}
