//! A channel as a client shows it: newest messages, members, read states, and where to subscribe from.
//!
//! Invariant: the place to subscribe from is read before everything else, so nothing falls between the answer and the
//! events; what happens meanwhile may be in both.

use std::collections::BTreeSet;

use keevo_chat::{
    Actor, Capability, ChannelId, Feature, HistoryPage, HistoryRequest, Member, Message, ReadState, decide,
};
use keevo_core::ErrorKind;
use serde_json::{Map, Value, json};

use super::messages::rendered;
use crate::call::Call;
use crate::error::{Answered, Refusal};
use crate::{render, resume};

const MESSAGES_MAX: usize = 300;
const MEMBERS_MAX: usize = 100;
const READS_MAX: usize = 100;
const PINNED_MAX: usize = 10;

/// Reads a channel for somebody who may.
pub(crate) async fn read(call: &Call, channel: &ChannelId) -> Answered<Value> {
    let chat = call.chat();
    let wanted = call.query.number("messages", 25, MESSAGES_MAX)?;
    let page = chat.history(channel, HistoryRequest::newest(wanted.max(1))).await?;
    let place = page.resume.clone();
    let before = page.next.filter(|_| wanted > 0);
    let found = chat.channel(channel).await?;
    let members = match call.query.number("members", 30, MEMBERS_MAX)? {
        0 => Vec::new(),
        limit => chat.members(channel, None, limit).await?,
    };
    let membership = membership(call, channel).await?;
    let reads = chat.reads(channel, None, READS_MAX).await?;
    let pinned = chat.pinned(channel, PINNED_MAX).await?;
    let unread = unread(call, channel, membership.as_ref()).await?;
    let mut messages = seen(call, page);
    messages.truncate(wanted);
    messages.reverse();
    let pinned: Vec<Message> =
        pinned.into_iter().filter(|message| call.viewer().is_none_or(|user| message.is_visible_to(user))).collect();
    let users = users(call, &messages, &members, &reads, &found.created_by).await?;
    let resume = call.viewer().map(|user| resume::seal(&call.app, user, &[place], call.gateway.shared.now_ms()));
    let own = capabilities(call, channel, membership.as_ref()).await?;
    Ok(json!({
        "channel": render::channel(&found),
        "messages": rendered(call, channel, &messages).await?,
        "before": before,
        "members": members.iter().map(render::member).collect::<Vec<_>>(),
        "membership": membership.as_ref().map(render::member),
        "own_capabilities": own,
        "reads": reads.iter().map(render::read).collect::<Vec<_>>(),
        "pinned": rendered(call, channel, &pinned).await?,
        "unread": unread,
        "watchers": call.gateway.hub.watchers(call.app.id, channel),
        "users": users,
        "resume": resume,
    }))
}

fn seen(call: &Call, page: HistoryPage) -> Vec<Message> {
    match call.viewer() {
        Some(user) => page.visible_to(user).messages,
        None => page.messages,
    }
}

/// The viewer's own membership, if it has one.
async fn membership(call: &Call, channel: &ChannelId) -> Answered<Option<Member>> {
    let Some(user) = call.viewer() else { return Ok(None) };
    match call.chats.trusted.member(channel, user).await {
        Ok(member) => Ok(Some(member)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn unread(call: &Call, channel: &ChannelId, membership: Option<&Member>) -> Answered<Value> {
    let types = call.chats.trusted.channel_types();
    let counts = types.of(channel.kind())?.features.contains(&Feature::ReadState);
    let Some(member) = membership.filter(|_| counts) else { return Ok(Value::Null) };
    let chat = &call.chats.trusted;
    let counted = async {
        let unread = chat.unread_state(channel, &member.user_id).await?;
        let mentions = chat.unread_mentions(channel, &member.user_id).await?;
        Ok::<_, keevo_core::Error>(render::unread(channel, &unread, mentions))
    };
    match counted.await {
        Ok(unread) => Ok(unread),
        // The member has just left.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Value::Null),
        Err(error) => Err(error.into()),
    }
}

/// What the viewer may do in the channel, by its role and grants; bans and frozen channels are not looked at.
async fn capabilities(call: &Call, channel: &ChannelId, membership: Option<&Member>) -> Answered<Vec<&'static str>> {
    let Some(user) = call.viewer() else { return Ok(Vec::new()) };
    let types = call.chats.trusted.channel_types();
    let kind = types.of(channel.kind())?;
    let admin = call.chats.is_admin(user).await?;
    let none = BTreeSet::new();
    let grants = membership.map_or(&none, |member| &member.grants);
    let actor = Actor { user_id: user, role: membership.map(|member| member.role.as_str()), grants };
    let has = |one: &Capability| {
        let there = one.feature().is_none_or(|feature| kind.features.contains(&feature));
        there && (admin || decide(channel, kind, actor, *one).is_ok())
    };
    Ok(Capability::all().filter(has).map(Capability::name).collect())
}

/// What is known of the users who are named.
async fn users(
    call: &Call,
    messages: &[Message],
    members: &[Member],
    reads: &[ReadState],
    creator: &str,
) -> Answered<Value> {
    let mut ids: BTreeSet<&str> = BTreeSet::from([creator]);
    ids.extend(messages.iter().map(|message| message.user_id.as_str()));
    ids.extend(members.iter().map(|member| member.user_id.as_str()));
    ids.extend(reads.iter().map(|read| read.user_id.as_str()));
    ids.extend(call.viewer());
    let ids: Vec<&str> = ids.into_iter().collect();
    let known = call.chats.trusted.users(&ids).await.map_err(Refusal::from)?;
    let users: Map<String, Value> =
        known.into_iter().flatten().map(|user| (user.id.clone(), render::user(&user))).collect();
    Ok(Value::Object(users))
}
