//! Members of a channel: listing, adding, changing, leaving.

use keevo_chat::{Capability, ChannelId, NewMember};
use serde_json::{Value, json};

use super::{next, nothing};
use crate::call::{Call, Caller};
use crate::error::{Answered, of_query};
use crate::{members, render};

const PAGE_MAX: usize = 1_000;
/// The most members that one call adds or changes.
const CHANGED_MAX: usize = 100;

pub(crate) async fn list(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::ReadChannel).await?;
    let limit = call.limit(PAGE_MAX)?;
    let found = call.chat().members(&channel, call.cursor(), limit).await?;
    let next = next(&found, limit, |last| last.user_id.clone());
    Ok(json!({ "members": found.iter().map(render::member).collect::<Vec<_>>(), "next": next }))
}

pub(crate) async fn query(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::ReadChannel).await?;
    let found = call.chat().query_members(&channel, &call.asked()).await.map_err(of_query)?;
    Ok(json!({ "members": found.items.iter().map(render::member).collect::<Vec<_>>(), "next": found.next }))
}

pub(crate) async fn add(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    let given = members::read(call.list("members", CHANGED_MAX)?)?;
    call.may(&channel, Capability::AddMembers).await?;
    if members::are_special(&given) {
        call.may(&channel, Capability::ChangeRoles).await?;
    }
    call.chat().add_members(&channel, given).await?;
    Ok(nothing())
}

/// Sets roles, grants and custom data. Those who are no members are passed over: adding them takes another right.
pub(crate) async fn update(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    let given = members::read(call.list("members", CHANGED_MAX)?)?;
    call.may(&channel, Capability::ChangeRoles).await?;
    let mut present = Vec::with_capacity(given.len());
    for one in given {
        call.chats.trusted.member(&channel, &one.user_id).await?;
        present.push(one);
    }
    call.chat().put_members(&channel, present).await?;
    Ok(nothing())
}

pub(crate) async fn remove(call: &Call) -> Answered<Value> {
    let (channel, user) = (call.channel()?, call.found.part("user").to_owned());
    take_out(call, &channel, &user).await
}

pub(crate) async fn leave(call: &Call) -> Answered<Value> {
    let (channel, user) = (call.channel()?, call.user()?.to_owned());
    take_out(call, &channel, &user).await
}

async fn take_out(call: &Call, channel: &ChannelId, user: &str) -> Answered<Value> {
    let own = matches!(&call.caller, Caller::User(caller) if caller == user);
    call.may(channel, if own { Capability::Leave } else { Capability::RemoveMembers }).await?;
    Ok(json!({ "removed": call.chat().remove_member(channel, user).await? }))
}

pub(crate) async fn join(call: &Call) -> Answered<Value> {
    let (channel, user) = (call.channel()?, call.user()?.to_owned());
    call.may(&channel, Capability::Join).await?;
    call.chat().add_members(&channel, vec![NewMember::new(user.clone())]).await?;
    Ok(json!({ "member": render::member(&call.chat().member(&channel, &user).await?) }))
}
