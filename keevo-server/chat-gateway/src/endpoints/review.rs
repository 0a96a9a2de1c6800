//! Flags on messages, and their review.

use keevo_chat::{Capability, Verdict};
use serde_json::{Value, json};

use super::messages::visible;
use super::{next, nothing};
use crate::call::Call;
use crate::error::{Answered, Refusal};
use crate::render;

const QUEUE_MAX: usize = 100;

pub(crate) async fn flag(call: &Call) -> Answered<Value> {
    let (channel, user) = (call.channel()?, call.user()?);
    call.may(&channel, Capability::Flag).await?;
    visible(call, &channel).await?;
    call.chat().flag(&channel, call.message(), user, call.text("reason").unwrap_or_default()).await?;
    Ok(nothing())
}

pub(crate) async fn queue(call: &Call) -> Answered<Value> {
    let limit = call.limit(QUEUE_MAX)?;
    let found = call.chat().review_queue(call.cursor(), limit).await?;
    let next = next(&found, limit, |last| last.cursor.clone());
    Ok(json!({ "entries": found.iter().map(render::flagged).collect::<Vec<_>>(), "next": next }))
}

pub(crate) async fn decide(call: &Call) -> Answered<Value> {
    let (channel, user) = (call.channel()?, call.user()?);
    let verdict = match call.text("verdict") {
        Some("keep") => Verdict::Keep,
        Some("delete") => Verdict::Delete,
        Some("erase") => Verdict::Erase,
        _ => return Err(Refusal::field("verdict", "is keep, delete or erase")),
    };
    call.may(&channel, Capability::Review).await?;
    let message = call.chat().review(&channel, call.message(), user, verdict).await?;
    Ok(json!({ "message": render::message(&channel, &message, None) }))
}
