//! Channels: creating, finding, reading and changing them.

use std::collections::BTreeMap;

use keevo_chat::{Capability, Channel, ChannelChange, ChannelId, Deletion, Feature, NewChannel, NewMember};
use keevo_core::ErrorKind;
use serde_json::{Map, Value, json};

use super::state;
use crate::call::{Call, Caller};
use crate::error::{Answered, Refusal, of_query};
use crate::{members, render};

/// How many truncated messages one call erases, with their threads.
const ERASED_MAX: usize = 100;
/// The most members that a channel is created with.
const MEMBERS_MAX: usize = 1_000;
/// The most channels that a user's query answers at once, since each is judged.
const JUDGED_MAX: usize = 100;

fn answer(channel: &Channel) -> Value {
    json!({ "channel": render::channel(channel) })
}

pub(crate) async fn create(call: &Call) -> Answered<Value> {
    let user = call.user()?.to_owned();
    let kind = call.text("type").unwrap_or_default();
    let mut given = members::read(call.list("members", MEMBERS_MAX)?)?;
    if !call.is_server() && members::are_special(&given) && !call.is_admin().await? {
        let detail = "only servers and admins of the app give roles and grants when a channel is created";
        return Err(Refusal::denied("not-granted", detail));
    }
    let custom = call.object("custom");
    if call.truth("distinct") {
        if call.text("id").is_some() {
            return Err(Refusal::field("id", "is made of the members of a distinct channel: leave it out"));
        }
        if call.text("team").is_some() {
            return Err(Refusal::field("team", "a distinct channel has none"));
        }
        given.push(NewMember::new(user.clone()));
        let new = NewChannel { created_by: user, custom, members: given, team: None };
        return Ok(answer(&call.chat().distinct_channel(kind, new).await?));
    }
    given.retain(|one| one.user_id != user);
    given.push(NewMember::new(user.clone()).with_role("owner"));
    let id = match call.text("id") {
        Some(id) => id.to_owned(),
        None => super::sending::made_up(call),
    };
    let id = ChannelId::new(kind, &id)?;
    let new = NewChannel { created_by: user, custom, members: given, team: call.owned("team") };
    Ok(answer(&call.chat().create_channel(&id, new).await?))
}

/// Channels that the caller may read. A user who demands nothing else means its own.
pub(crate) async fn query(call: &Call) -> Answered<Value> {
    let mut asked = call.asked();
    let Caller::User(user) = &call.caller else {
        let page = call.chat().query_channels(&asked).await.map_err(of_query)?;
        let channels: Vec<Value> = page.items.iter().map(render::channel_found).collect();
        return Ok(json!({ "channels": channels, "next": page.next }));
    };
    if asked.limit > JUDGED_MAX {
        return Err(Refusal::field("limit", format!("is 1 to {JUDGED_MAX}")));
    }
    let filter = call.body.get("filter").and_then(Value::as_object).cloned().unwrap_or_default();
    let own = json!({ "members": { "$contains": user } });
    let is_own = filter.get("members") == own.get("members");
    let judged = !is_own && (filter.contains_key("cid") || filter.contains_key("members"));
    if !judged && !is_own {
        asked.filter = if filter.is_empty() { own.to_string() } else { json!({ "$and": [own, filter] }).to_string() };
    }
    let page = call.chat().query_channels(&asked).await.map_err(of_query)?;
    let mut channels = Vec::with_capacity(page.items.len());
    for found in &page.items {
        if may_read(call, user, &found.channel).await? {
            channels.push(render::channel_found(found));
        }
    }
    Ok(json!({ "channels": channels, "next": page.next }))
}

async fn may_read(call: &Call, user: &str, channel: &Channel) -> Answered<bool> {
    match call.chats.members.authorize(&channel.id, user, Capability::ReadChannel).await {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn state(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::ReadChannel).await?;
    state::read(call, &channel).await
}

pub(crate) async fn update(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::UpdateChannel).await?;
    let custom = call.object("custom");
    let change = ChannelChange { keep: custom.is_none(), custom, patch: call.patch() };
    Ok(answer(&call.chat().update_channel(&channel, change).await?))
}

pub(crate) async fn truncate(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::TruncateChannel).await?;
    Ok(answer(&call.chat().truncate(&channel, call.number("up_to")).await?))
}

pub(crate) async fn freeze(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::FreezeChannel).await?;
    Ok(answer(&call.chat().freeze(&channel, call.truth("frozen")).await?))
}

pub(crate) async fn slow_mode(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::UpdateChannel).await?;
    Ok(answer(&call.chat().set_slow_mode(&channel, call.number("wait_ms")).await?))
}

pub(crate) async fn disable(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    Ok(answer(&call.chat().disable(&channel, call.truth("disabled")).await?))
}

fn deletion(deletion: &Deletion) -> Value {
    json!({
        "deleted_at": deletion.deleted_at_ms,
        "deleted_by": deletion.deleted_by,
        "erases": deletion.erases,
        "done_at": deletion.done_at_ms,
    })
}

/// Deletes a channel. Only servers and admins of the app erase one.
pub(crate) async fn delete(call: &Call) -> Answered<Value> {
    let (channel, erases) = (call.channel()?, call.query.flag("erase")?);
    let admin = call.is_admin().await?;
    if erases && !admin {
        let detail = "only servers and admins of the app erase channels; without erase=true it can be restored";
        return Err(Refusal::denied("not-granted", detail));
    }
    if !admin {
        call.may(&channel, Capability::DeleteChannel).await?;
    }
    let deleted = call.chat().delete_channel(&channel, call.user()?, erases).await?;
    Ok(json!({ "deletion": deletion(&deleted) }))
}

pub(crate) async fn restore(call: &Call) -> Answered<Value> {
    Ok(answer(&call.chat().restore_channel(&call.channel()?).await?))
}

pub(crate) async fn get_deletion(call: &Call) -> Answered<Value> {
    let found = call.chat().deletion(&call.channel()?).await?;
    Ok(json!({ "deletion": found.as_ref().map(deletion) }))
}

/// Erases a few of the messages that were truncated; `next` is where to go on.
pub(crate) async fn erase_truncated(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::TruncateChannel).await?;
    let after = call.number("after").unwrap_or_default();
    Ok(json!({ "next": call.chat().erase_truncated(&channel, after, ERASED_MAX).await? }))
}

pub(crate) async fn watchers(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::ReadChannel).await?;
    Ok(call.gateway.hub.watchers(call.app.id, &channel))
}

/// What channels of a type have, and what each role may do in them.
pub(crate) fn kind(call: &Call) -> Answered<Value> {
    let name = call.found.part("kind");
    ChannelId::new(name, "x")?;
    let types = call.chats.trusted.channel_types();
    let kind = types.of(name)?;
    let names =
        |all: &std::collections::BTreeSet<Capability>| -> Vec<&str> { all.iter().map(|one| one.name()).collect() };
    let features: Vec<&str> =
        Feature::ALL.iter().filter(|one| kind.features.contains(one)).map(|one| one.name()).collect();
    let grants: BTreeMap<&str, Vec<&str>> = kind.grants.iter().map(|(role, all)| (role.as_str(), names(all))).collect();
    let mut body = Map::new();
    body.insert("type".to_owned(), json!(name));
    body.insert("features".to_owned(), json!(features));
    body.insert("grants".to_owned(), json!(grants));
    body.insert("strangers".to_owned(), json!(names(&kind.strangers)));
    let retention = kind.retention.map(|one| json!({ "age_ms_max": one.age_ms_max, "keep_pinned": one.keep_pinned }));
    body.insert("retention".to_owned(), json!(retention));
    body.insert("text_bytes_max".to_owned(), json!(kind.text_bytes_max));
    Ok(Value::Object(body))
}
