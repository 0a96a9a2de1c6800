//! Data privacy and the audit log.

use keevo_feeds::{AUDIT_PAGE_MAX, AuditQuery, EXPORT_PAGE_MAX, EntityType};
use serde_json::{Value, json};

use super::activities::activity_id;
use crate::auth::rights;
use crate::call::{Call, bounded, needed, texts};
use crate::error::{ApiError, ApiResult};
use crate::reply::Reply;

/// The most ids that are deleted at once.
const DELETE_MAX: usize = 100;

/// The most ids that one answer exports; its `next` leads to the others.
const EXPORT_MAX: usize = 100_000;

/// Erases activities: takes them from all feeds, and tells those who keep copies. `remove_from_feeds` may name feeds, as other servers need to be told: here every
/// feed that holds an activity is known, so that it leaves these and all others.
pub(super) async fn delete_activities(call: &Call) -> ApiResult<Reply> {
    rights::server_only(&call.principal)?;
    let body = call.object()?;
    let asked = match body.get("activities") {
        Some(Value::Array(asked)) => bounded(asked.clone(), "activities", DELETE_MAX)?,
        _ => return Err(ApiError::field("activities", "is a list of objects with an id")),
    };
    let mut ids = Vec::new();
    for one in &asked {
        let map = one.as_object().ok_or_else(|| ApiError::field("activities", "is a list of objects with an id"))?;
        for feed in texts(map, "remove_from_feeds", DELETE_MAX)?.unwrap_or_default() {
            call.feed_named(&feed)?;
        }
        ids.push(activity_id(needed(map, "id")?)?);
    }
    call.feeds.erase_activities(&ids).await?;
    Ok(Reply::created(json!({})))
}

/// The ids of a user's activities and reactions, up to 100,000; where there are more, `next` says what to send as
/// `next` for the others.
pub(super) async fn export_ids(call: &Call) -> ApiResult<Reply> {
    rights::server_only(&call.principal)?;
    let user = call.found.part("user");
    let mut next = call.query.get("next").map(str::to_owned);
    let (mut activities, mut reactions): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    loop {
        let page = call.feeds.export_ids(user, EXPORT_PAGE_MAX, next.as_deref()).await?;
        activities.extend(page.activities.iter().map(ToString::to_string));
        reactions.extend(page.reactions);
        next = page.next;
        if next.is_none() || activities.len() + reactions.len() + EXPORT_PAGE_MAX > EXPORT_MAX {
            break;
        }
    }
    let mut answer = json!({ "export": {
        "user_id": user,
        "activity_count": activities.len(),
        "reaction_count": reactions.len(),
        "activity_ids": activities,
        "reaction_ids": reactions,
    } });
    if let (Value::Object(answer), Some(next)) = (&mut answer, next) {
        answer.insert("next".to_owned(), json!(next));
    }
    Ok(Reply::ok(answer))
}

/// Erases reactions, likewise.
pub(super) async fn delete_reactions(call: &Call) -> ApiResult<Reply> {
    rights::server_only(&call.principal)?;
    let ids = texts(&call.object()?, "ids", DELETE_MAX)?.ok_or_else(|| ApiError::field("ids", "is missing"))?;
    call.feeds.erase_reactions(&ids).await?;
    Ok(Reply::created(json!({})))
}

/// What was done to an entity, newest first.
pub(super) async fn audit_logs(call: &Call) -> ApiResult<Reply> {
    rights::server_only(&call.principal)?;
    let text = |name: &str| call.query.get(name).map(str::to_owned);
    let missing = |name: &'static str| move || ApiError::field(name, "is missing");
    let query = AuditQuery {
        entity_type: EntityType::from_name(&text("entity_type").ok_or_else(missing("entity_type"))?)?,
        entity_id: text("entity_id").ok_or_else(missing("entity_id"))?,
        user_id: text("user_id"),
        limit: call.query.number("limit", 25, AUDIT_PAGE_MAX)?.max(1),
        after: text("next"),
    };
    let page = call.feeds.audit_logs(&query).await?;
    let entries: Vec<Value> = page.entries.iter().map(|entry| Value::Object(entry.to_json())).collect();
    Ok(Reply::ok(json!({ "audit_logs": entries, "next": page.next.unwrap_or_default(), "prev": "" })))
}
