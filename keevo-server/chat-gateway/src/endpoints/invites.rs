//! Invitations to channels.

use keevo_chat::Capability;
use serde_json::{Value, json};

use super::{next, nothing};
use crate::call::Call;
use crate::error::Answered;
use crate::{members, render};

const PAGE_MAX: usize = 1_000;
/// The most users that one call invites.
const INVITED_MAX: usize = 100;

pub(crate) async fn list(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::ReadChannel).await?;
    let limit = call.limit(PAGE_MAX)?;
    let found = call.chat().invites(&channel, call.cursor(), limit).await?;
    let next = next(&found, limit, |last| last.user_id.clone());
    Ok(json!({ "invites": found.iter().map(render::invite).collect::<Vec<_>>(), "next": next }))
}

pub(crate) async fn add(call: &Call) -> Answered<Value> {
    let (channel, by) = (call.channel()?, call.user()?);
    let users = members::read(call.list("users", INVITED_MAX)?)?;
    call.chat().invite(&channel, by, users).await?;
    Ok(nothing())
}

pub(crate) async fn revoke(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::Invite).await?;
    Ok(json!({ "revoked": call.chat().revoke_invite(&channel, call.found.part("user")).await? }))
}

pub(crate) async fn accept(call: &Call) -> Answered<Value> {
    let (channel, user) = (call.channel()?, call.user()?);
    Ok(json!({ "member": render::member(&call.chat().accept_invite(&channel, user).await?) }))
}

pub(crate) async fn reject(call: &Call) -> Answered<Value> {
    let (channel, user) = (call.channel()?, call.user()?);
    Ok(json!({ "rejected": call.chat().reject_invite(&channel, user).await? }))
}

/// The channels that the user is invited to.
pub(crate) async fn own(call: &Call) -> Answered<Value> {
    let limit = call.limit(PAGE_MAX)?;
    let found = call.chat().invites_of(call.user()?, call.channel_cursor()?.as_ref(), limit).await?;
    let next = next(&found, limit, |last| last.channel.to_string());
    let invites: Vec<Value> = found
        .iter()
        .map(|one| json!({ "cid": one.channel.as_str(), "role": one.role, "invited_at": one.joined_at_ms }))
        .collect();
    Ok(json!({ "invites": invites, "next": next }))
}
