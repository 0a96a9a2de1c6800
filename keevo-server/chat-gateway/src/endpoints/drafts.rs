//! Drafts: what a user has begun to write.

use keevo_chat::{ChannelId, Draft, NewDraft};
use keevo_core::ErrorKind;
use serde_json::{Value, json};

use super::messages::written;
use super::next;
use super::sending::{self, Sent, attachments, mentions};
use crate::call::{Call, cursor_of};
use crate::error::{Answered, Refusal};
use crate::render;

const LIST_MAX: usize = 300;

pub(crate) async fn put(call: &Call) -> Answered<Value> {
    let (channel, user) = (call.channel()?, call.user()?);
    let draft = NewDraft {
        parent_id: call.owned("parent_id"),
        text: call.owned("text").unwrap_or_default(),
        custom: call.object("custom"),
        attachments: attachments(call)?,
        mentions: mentions(call)?.unwrap_or_default(),
        quoted_id: call.owned("quoted_id"),
    };
    Ok(json!({ "draft": render::draft(&call.chat().put_draft(&channel, user, draft).await?) }))
}

pub(crate) async fn get(call: &Call) -> Answered<Value> {
    let draft = call.chat().draft(&call.channel()?, call.user()?, call.query.get("parent_id")).await?;
    Ok(json!({ "draft": draft.as_ref().map(render::draft) }))
}

pub(crate) async fn delete(call: &Call) -> Answered<Value> {
    let removed = call.chat().delete_draft(&call.channel()?, call.user()?, call.query.get("parent_id")).await?;
    Ok(json!({ "removed": removed }))
}

pub(crate) async fn list(call: &Call) -> Answered<Value> {
    let limit = call.limit(LIST_MAX)?;
    let bad = || Refusal::field("cursor", "is none that a page gave");
    let names = call.names_cursor()?;
    let after: Option<(ChannelId, Option<&str>)> = match names.as_deref() {
        None => None,
        Some([channel]) => Some((channel.parse().map_err(|_no_channel| bad())?, None)),
        Some([channel, parent]) => Some((channel.parse().map_err(|_no_channel| bad())?, Some(parent))),
        Some(_) => return Err(bad()),
    };
    let after = after.as_ref().map(|(channel, parent)| (channel, *parent));
    let found = call.chat().drafts_of(call.user()?, after, limit).await?;
    let name = |last: &Draft| match &last.parent_id {
        Some(parent) => cursor_of(&[last.channel.as_str(), parent]),
        None => cursor_of(&[last.channel.as_str()]),
    };
    let next = next(&found, limit, name);
    Ok(json!({ "drafts": found.iter().map(render::draft).collect::<Vec<_>>(), "next": next }))
}

/// Sends a draft as a message, then removes it. Repeatable with the same id, also once the draft is gone.
pub(crate) async fn send(call: &Call) -> Answered<Value> {
    let (channel, user) = (call.channel()?, call.user()?);
    let id = call.text("id").unwrap_or_default();
    let Some(draft) = call.chat().draft(&channel, user, call.text("parent_id")).await? else {
        return sent_before(call, &channel, user, id).await;
    };
    let new = draft.to_message(user, id);
    let answer = match sending::judged(call, &channel, new).await? {
        Sent::Not(answer) => answer,
        Sent::Goes(new) => written(&channel, &call.chat().send(&channel, *new).await?),
    };
    call.chat().remove_draft(user, &draft).await?;
    Ok(answer)
}

async fn sent_before(call: &Call, channel: &ChannelId, user: &str, id: &str) -> Answered<Value> {
    match call.chat().message(channel, id).await {
        Ok(sent) if sent.user_id == user => Ok(written(channel, &sent)),
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => {
            let detail = format!("user '{user}' has no draft there, and never sent '{id}'");
            Err(keevo_gateway::shared::ApiError::not_found(detail).into())
        }
    }
}
