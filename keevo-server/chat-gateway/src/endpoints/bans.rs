//! Bans, from a channel and from the app.

use keevo_chat::{Capability, NewBan};
use serde_json::{Value, json};

use super::next;
use crate::call::Call;
use crate::error::Answered;
use crate::render;

const LIST_MAX: usize = 1_000;

fn wanted(call: &Call) -> Answered<NewBan> {
    Ok(NewBan {
        banned_by: call.user()?.to_owned(),
        for_ms: call.number("for_ms"),
        reason: call.owned("reason"),
        shadow: call.truth("shadow"),
    })
}

pub(crate) async fn list(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::Ban).await?;
    let limit = call.limit(LIST_MAX)?;
    let found = call.chat().bans(&channel, call.cursor(), limit).await?;
    let next = next(&found, limit, |last| last.user_id.clone());
    Ok(json!({ "bans": found.iter().map(render::ban).collect::<Vec<_>>(), "next": next }))
}

pub(crate) async fn add(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::Ban).await?;
    let ban = call.chat().ban(&channel, call.found.part("user"), wanted(call)?).await?;
    Ok(json!({ "ban": render::ban(&ban) }))
}

pub(crate) async fn remove(call: &Call) -> Answered<Value> {
    let channel = call.channel()?;
    call.may(&channel, Capability::Ban).await?;
    Ok(json!({ "removed": call.chat().unban(&channel, call.found.part("user")).await? }))
}

pub(crate) async fn of_app(call: &Call) -> Answered<Value> {
    let ban = call.chat().app_ban(call.found.part("user")).await?;
    Ok(json!({ "ban": ban.as_ref().map(render::ban) }))
}

pub(crate) async fn add_app(call: &Call) -> Answered<Value> {
    let ban = call.chat().ban_from_app(call.found.part("user"), wanted(call)?).await?;
    Ok(json!({ "ban": render::ban(&ban) }))
}

pub(crate) async fn remove_app(call: &Call) -> Answered<Value> {
    Ok(json!({ "removed": call.chat().unban_from_app(call.found.part("user")).await? }))
}
