//! Groups of users, which can be mentioned.

use futures::stream::{self, StreamExt, TryStreamExt};
use keevo_chat::{Group, NewGroup};
use keevo_core::ErrorKind;
use serde_json::{Value, json};

use super::{next, nothing};
use crate::call::{Call, Caller};
use crate::error::{Answered, Refusal};
use crate::render;

const PAGE_MAX: usize = 1_000;
/// The most users that one call adds.
const ADDED_MAX: usize = 100;
/// How many groups are read at once.
const CONCURRENCY: usize = 8;

fn answer(group: &Group) -> Value {
    json!({ "group": render::group(group) })
}

/// The group that the path names, if the caller may know it: one of a team is for those of the team.
async fn known(call: &Call) -> Answered<Group> {
    let group = call.chat().group(call.found.part("group")).await?;
    let (Caller::User(user), Some(team)) = (&call.caller, &group.team) else { return Ok(group) };
    let known = call.chats.trusted.users(&[user]).await?.into_iter().next().flatten();
    if known.is_some_and(|user| user.teams.contains(team)) || call.is_admin().await? {
        return Ok(group);
    }
    Err(Refusal::denied("other-team", format!("group '{}' is of another team than user '{user}'", group.id)))
}

pub(crate) async fn put(call: &Call) -> Answered<Value> {
    let group = NewGroup {
        id: call.found.part("group").to_owned(),
        name: call.owned("name").unwrap_or_default(),
        custom: call.object("custom"),
        team: call.owned("team"),
    };
    Ok(answer(&call.chat().put_group(group).await?))
}

pub(crate) async fn get(call: &Call) -> Answered<Value> {
    Ok(answer(&known(call).await?))
}

pub(crate) async fn delete(call: &Call) -> Answered<Value> {
    call.chat().delete_group(call.found.part("group")).await?;
    Ok(nothing())
}

pub(crate) async fn members(call: &Call) -> Answered<Value> {
    let group = known(call).await?;
    let limit = call.limit(PAGE_MAX)?;
    let found = call.chat().group_members(&group.id, call.cursor(), limit).await?;
    let next = next(&found, limit, Clone::clone);
    Ok(json!({ "user_ids": found, "next": next }))
}

pub(crate) async fn add(call: &Call) -> Answered<Value> {
    let users: Vec<&str> = call.list("users", ADDED_MAX)?.iter().filter_map(Value::as_str).collect();
    Ok(answer(&call.chat().add_to_group(call.found.part("group"), &users).await?))
}

pub(crate) async fn remove(call: &Call) -> Answered<Value> {
    call.chat().remove_from_group(call.found.part("group"), &[call.found.part("user")]).await?;
    Ok(nothing())
}

/// The groups that a user is in.
pub(crate) async fn own(call: &Call) -> Answered<Value> {
    let ids = call.chat().groups_of(call.user()?).await?;
    let groups = stream::iter(ids).map(|id| async move {
        match call.chat().group(&id).await {
            Ok(group) => Ok(Some(render::group(&group))),
            // It was deleted in between.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Refusal::from(error)),
        }
    });
    let groups: Vec<Option<Value>> = groups.buffered(CONCURRENCY).try_collect().await?;
    Ok(json!({ "groups": groups.into_iter().flatten().collect::<Vec<_>>() }))
}
