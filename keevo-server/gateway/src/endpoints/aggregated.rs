//! Reading an aggregated or notification feed: pages of groups, and marks of what was seen and read.

use keevo_feeds::{Activity, ActivityGroup, FeedId, GroupId, GroupKind, Mark, Marks};
use serde_json::{Map, Value, json};

use super::read::{next, request, shown};
use crate::auth::rights::FeedUse;
use crate::call::{Call, bounded};
use crate::error::{ApiError, ApiResult};
use crate::reply::Reply;

/// A page of groups. Marks that the request asks for take effect after the answer is built, as far as it reaches.
pub(super) async fn page(call: &Call, feed: &FeedId, limit: usize, offset: usize) -> ApiResult<Reply> {
    let notifies = call.feeds.groups().kind(feed.slug()) == GroupKind::Notification;
    let marks = Marks { seen: mark(call, "mark_seen")?, read: mark(call, "mark_read")? };
    if marks != Marks::default() {
        // A mark is a change: nobody sees or reads for somebody else.
        call.may(feed, FeedUse::Own)?;
    }
    let id = |name: &str| -> ApiResult<Option<GroupId>> {
        let Some(text) = call.query.get(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_other| ApiError::field(name, "is the id of a group of the feed"))
    };
    let page = call.feeds.aggregated_page(feed, request(limit, offset, id)?.into()).await?;
    let groups = if limit == 0 { &[][..] } else { page.groups.as_slice() };
    let activities: Vec<Activity> = groups.iter().flat_map(|group| group.activities.iter().cloned()).collect();
    let mut shown = shown(call, &activities).await?.into_iter();
    let results: Vec<Value> = groups.iter().map(|group| render(group, &mut shown, notifies)).collect();
    let last = page.next.filter(|_| limit > 0);
    let next = last.map_or_else(String::new, |last| next(call, limit, "id_lt", &last.to_string()));
    if !notifies {
        return Ok(Reply::ok(json!({ "results": results, "next": next })));
    }
    call.feeds.mark(feed, &marks, page.seen_to).await?;
    Ok(Reply::ok(json!({ "results": results, "next": next, "unseen": page.unseen, "unread": page.unread })))
}

/// What `mark_seen` or `mark_read` asks for: everything, or a list of groups. A group's id may carry more behind a dot.
fn mark(call: &Call, name: &str) -> ApiResult<Mark> {
    match call.query.get(name) {
        None | Some("" | "false" | "False" | "0") => return Ok(Mark::Nothing),
        Some("true" | "True" | "1") => return Ok(Mark::All),
        Some(_) => {}
    }
    let ids = bounded(call.query.list(name), name, keevo_feeds::MARK_GROUPS_MAX)?;
    let group = |text: &String| {
        let id = text.split('.').next().unwrap_or_default();
        id.parse::<GroupId>().map_err(|_other| ApiError::field(name, "is true, or a list of ids of groups"))
    };
    ids.iter().map(group).collect::<ApiResult<Vec<_>>>().map(Mark::Groups)
}

fn render(group: &ActivityGroup, shown: &mut impl Iterator<Item = Map<String, Value>>, notifies: bool) -> Value {
    let activities: Vec<Value> = shown.take(group.activities.len()).map(Value::Object).collect();
    let mut rendered = Map::new();
    let mut set = |name: &str, value: Value| drop(rendered.insert(name.to_owned(), value));
    set("id", json!(group.id.to_string()));
    set("group", json!(group.group));
    set("verb", json!(group.verb));
    set("activities", json!(activities));
    set("activity_count", json!(group.activity_count));
    set("actor_count", json!(group.actor_count));
    set("created_at", json!(group.created_at.to_string()));
    set("updated_at", json!(group.updated_at.to_string()));
    if notifies {
        set("is_seen", json!(group.is_seen));
        set("is_read", json!(group.is_read));
    }
    Value::Object(rendered)
}
