//! Messages and edits that are kept back until they are judged.

use keevo_chat::{Capability, ChannelId, Edit, Held, Holding, NewMessage};
use serde_json::{Value, json};

use crate::call::Call;
use crate::error::Answered;
use crate::gate::Gatekeeper;
use crate::render;

/// The most held messages on a page.
const HELD_MAX: usize = 100;

/// Holds a message; the answer says that it is.
pub(super) async fn send(call: &Call, gate: &dyn Gatekeeper, channel: &ChannelId, new: NewMessage) -> Answered<Value> {
    let (text, user) = (new.text.clone(), new.user_id.clone());
    let held = match call.chat().hold(channel, new).await? {
        Holding::Held(held) => held,
        Holding::Sent(message) => return Ok(json!({ "message": render::message(channel, &message, None) })),
    };
    gate.held(call.app.id, channel, &held.id, &user, &text).await?;
    Ok(json!({ "message": render::held(channel, &held), "held": true }))
}

/// Holds an edit: the message says what it said.
pub(super) async fn edit(call: &Call, gate: &dyn Gatekeeper, channel: &ChannelId, edit: Edit) -> Answered<Value> {
    let (text, user) = (edit.text.clone().unwrap_or_default(), edit.user_id.clone());
    let held = call.chat().hold_edit(channel, call.message(), edit).await?;
    gate.held(call.app.id, channel, &held.id, &user, &text).await?;
    Ok(json!({ "message": render::held(channel, &held), "held": true }))
}

/// What is held in a channel: of the caller, or, for those who review, of everybody.
pub(crate) async fn list(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::ReadChannel).await?;
    let user = match call.viewer() {
        Some(user) if call.may(&channel, Capability::Review).await.is_err() => Some(user),
        _ => None,
    };
    let page = call.chat().held(&channel, user, call.cursor(), call.limit(HELD_MAX)?).await?;
    let held: Vec<Value> = page.held.iter().map(|held: &Held| render::held(&channel, held)).collect();
    Ok(json!({ "held": held, "next": page.next }))
}
