//! Reading a feed, page by page.

use keevo_feeds::{ActivityId, PageRequest};
use serde_json::{Value, json};

use super::activities::activity_id;
use crate::auth::rights::FeedUse;
use crate::call::Call;
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
    let id = |name: &str| -> ApiResult<Option<ActivityId>> {
        let Some(text) = call.query.get(name) else { return Ok(None) };
        activity_id(text).map(Some).map_err(|error| ApiError::field(name, error.detail()))
    };
    let request = PageRequest {
        limit: limit.max(1),
        offset: call.query.number("offset", 0, keevo_feeds::OFFSET_MAX)?,
        id_lt: id("id_lt")?,
        id_lte: id("id_lte")?,
        id_gt: id("id_gt")?,
        id_gte: id("id_gte")?,
        ..PageRequest::default()
    };
    if limit == 0 {
        return Ok(Reply::ok(json!({ "results": [], "next": "" })));
    }
    let page = call.feeds.page(&feed, request).await?;
    let results: Vec<Value> = page.activities.iter().map(|one| Value::Object(render::activity(one))).collect();
    let next = page.next.map_or_else(String::new, |last| next(call, limit, &last.to_string()));
    Ok(Reply::ok(json!({ "results": results, "next": next })))
}

/// The path and query of the next page: what was asked for, from behind the last one on.
pub(super) fn next(call: &Call, limit: usize, last: &str) -> String {
    let dropped =
        ["id_lt", "id_lte", "offset", "limit", "api_key", "authorization", "auth_type", "mark_seen", "mark_read"];
    let mut query = call.query.without(&dropped);
    query.append_pair("id_lt", last).append_pair("limit", &limit.to_string()).append_pair("api_key", &call.key);
    let path = call.found.row.path.replace("{slug}", call.found.part("slug")).replace("{id}", call.found.part("id"));
    format!("/api/v1.0/{path}/?{}", query.finish())
}
