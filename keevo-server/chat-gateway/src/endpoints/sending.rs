//! Messages on their way: what a body says, and whether it may be said.
//!
//! Invariants: no text of a user is stored that was not judged, whichever call brings it: as a message, from a draft, beside
//! a location, in a poll, or as a command; and nobody is asked to judge what the caller has no right to say.

use std::collections::BTreeSet;

use keevo_chat::{Capability, ChannelId, Mentions, NewMessage};
use keevo_core::{Error, ErrorKind, call};
use serde_json::{Map, Value, json};

use super::held;
use super::messages::written;
use crate::call::Call;
use crate::error::{Answered, Refusal};
use crate::field::{Field, Kind, check_object, may};
use crate::gate::Passed;
use crate::hooks::{self, Saying};
use crate::render;

const MENTIONS: &[Field] = &[may("users", Kind::Texts), may("groups", Kind::Texts), may("channel", Kind::Truth)];

/// What becomes of a message.
pub(super) enum Sent {
    /// It is to be sent so.
    Goes(Box<NewMessage>),
    /// It is not, and this is the answer.
    Not(Value),
}

/// Whom the body mentions, where it says so.
pub(super) fn mentions(call: &Call) -> Answered<Option<Mentions>> {
    call.body.get("mentions").and_then(Value::as_object).map(mentions_of).transpose()
}

/// Whom an object mentions.
pub(crate) fn mentions_of(object: &Map<String, Value>) -> Answered<Mentions> {
    check_object(object, MENTIONS)?;
    let names = |name: &str| -> BTreeSet<String> {
        let list = object.get(name).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let channel = object.get("channel").and_then(Value::as_bool).unwrap_or(false);
    Ok(Mentions { users: names("users"), groups: names("groups"), channel })
}

/// The attachments of the body.
pub(super) fn attachments(call: &Call) -> Answered<Vec<String>> {
    Ok(call.list("attachments", keevo_chat::ATTACHMENTS_MAX)?.iter().map(Value::to_string).collect())
}

/// The message that the body describes. Only servers send as the system, or say when it was sent.
pub(super) fn message(call: &Call) -> Answered<NewMessage> {
    if !call.is_server() && (call.truth("system") || call.number("created_at").is_some()) {
        return Err(Refusal::denied("server-only", "only servers send as the system, or say when a message was sent"));
    }
    Ok(NewMessage {
        id: call.owned("id"),
        user_id: call.user()?.to_owned(),
        text: call.owned("text").unwrap_or_default(),
        parent_id: call.owned("parent_id"),
        custom: call.object("custom"),
        attachments: attachments(call)?,
        mentions: mentions(call)?.unwrap_or_default(),
        quoted_id: call.owned("quoted_id"),
        poll_id: call.owned("poll_id"),
        system: call.truth("system"),
        silent: call.truth("silent"),
        created_at_ms: call.number("created_at"),
    })
}

/// An id that is made up, for what the client gave none.
pub(crate) fn made_up(call: &Call) -> String {
    format!("{:032x}", call::random_u128(call.gateway.shared.options().random.as_ref()))
}

/// The message as it may be sent: the app's server is asked first, and what it leaves is judged. Nobody is asked about what its
/// sender has no right to send.
pub(super) async fn judged(call: &Call, channel: &ChannelId, new: NewMessage) -> Answered<Sent> {
    call.chat().check_send(channel, &new, false).await?;
    judged_as(call, channel, new).await
}

/// As [`judged`], of a message that shares a location.
pub(super) async fn judged_sharing(call: &Call, channel: &ChannelId, new: NewMessage) -> Answered<Sent> {
    call.chat().check_send(channel, &new, true).await?;
    judged_as(call, channel, new).await
}

async fn judged_as(call: &Call, channel: &ChannelId, mut new: NewMessage) -> Answered<Sent> {
    if !new.system {
        if let Some(stored) = hooks::stored_before(call, channel, &new).await? {
            return Ok(Sent::Not(json!({ "message": render::message(channel, &stored, None) })));
        }
        new.id.get_or_insert_with(|| made_up(call));
        hooks::ask(call, channel, Saying::New(&mut new)).await?;
    }
    let Some(gate) = call.gateway.gate.as_ref().filter(|_| !new.text.is_empty() && !new.system) else {
        return Ok(Sent::Goes(Box::new(new)));
    };
    let id = new.id.take().unwrap_or_else(|| made_up(call));
    match gate.pass(call.app.id, channel, &id, &new.user_id, &new.text).await.map_err(refused)? {
        Passed::Through => {}
        Passed::Masked(text) => new.text = text,
        Passed::Held => {
            new.id = Some(id);
            return held::send(call, gate.as_ref(), channel, new).await.map(Sent::Not);
        }
        Passed::Shadowed => {
            new.id = Some(id);
            return Ok(Sent::Not(written(channel, &call.chat().send_shadowed(channel, new).await?)));
        }
    }
    new.id = Some(id);
    Ok(Sent::Goes(Box::new(new)))
}

/// Refuses texts of the poll `id` unless the caller has the right to it, and they may be said as they are.
pub(super) async fn judge_poll(
    call: &Call,
    channel: &ChannelId,
    capability: Capability,
    id: &str,
    texts: &[&str],
) -> Answered<()> {
    judge_beside(call, channel, capability, &format!("poll/{id}"), texts).await
}

/// Refuses texts that stand beside messages unless the caller has the right to it, and they may be said as they are; `id` names
/// what they belong to.
pub(super) async fn judge_beside(
    call: &Call,
    channel: &ChannelId,
    capability: Capability,
    id: &str,
    texts: &[&str],
) -> Answered<()> {
    call.may(channel, capability).await?;
    let text = texts.iter().copied().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n");
    let Some(gate) = call.gateway.gate.as_ref().filter(|_| !text.is_empty()) else { return Ok(()) };
    match gate.pass(call.app.id, channel, id, call.user()?, &text).await.map_err(refused)? {
        Passed::Through => Ok(()),
        Passed::Masked(_) | Passed::Held | Passed::Shadowed => {
            Err(Refusal::denied("refused", "moderation refused the text; put it otherwise"))
        }
    }
}

/// A refusal by whoever judges texts says so.
pub(super) fn refused(error: Error) -> Refusal {
    if error.kind() == ErrorKind::PermissionDenied {
        return Refusal::denied("refused", error.message());
    }
    error.into()
}
