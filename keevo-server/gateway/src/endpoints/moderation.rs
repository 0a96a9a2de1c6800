//! Flags: what users report to moderators.

use keevo_feeds::{FlaggedType, NewFlag};
use serde_json::Value;

use crate::call::{Call, needed, text};
use crate::error::{ApiError, ApiResult};
use crate::reply::Reply;

/// Flags a user, an activity or a reaction. Who flags the same again gets the first flag back.
pub(super) async fn flag(call: &Call) -> ApiResult<Reply> {
    let body = call.object()?;
    let user_id = call.user(text(&body, "user_id")?)?.ok_or_else(ApiError::missing_user)?;
    let new = NewFlag {
        entity_type: FlaggedType::from_name(needed(&body, "entity_type")?)
            .map_err(|error| ApiError::field("entity_type", error.message()))?,
        entity_id: needed(&body, "entity_id")?.to_owned(),
        user_id,
        reason: text(&body, "reason")?.unwrap_or_default().to_owned(),
    };
    let flag = call.feeds.flag(&new).await?;
    Ok(Reply::created(Value::Object(flag.to_json())))
}
