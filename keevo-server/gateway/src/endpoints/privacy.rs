//! Data privacy and the audit log.

use keevo_feeds::{AUDIT_PAGE_MAX, AuditQuery, EntityType};
use serde_json::{Value, json};

use crate::auth::rights;
use crate::call::{Call, texts};
use crate::error::{ApiError, ApiResult};
use crate::reply::Reply;

/// The most ids that are deleted at once.
const DELETE_MAX: usize = 100;

/// Deletes reactions, for good.
pub(super) async fn delete_reactions(call: &Call) -> ApiResult<Reply> {
    rights::server_only(&call.principal)?;
    let ids = texts(&call.object()?, "ids", DELETE_MAX)?.ok_or_else(|| ApiError::field("ids", "is missing"))?;
    call.feeds.delete_reactions(&ids).await?;
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
