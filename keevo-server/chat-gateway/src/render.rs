//! Objects as the protocol writes them (docs/CHAT-API.md, section 5).

mod event;
mod features;

use keevo_chat::{
    Against, Ban, Channel, ChannelFound, ChannelId, Flagged, Held, InboxEntry, Invite, InviteState, Member, Mentions,
    Message, Place, PreviousText, Reaction, ReadState, Receipt, Shows, ThreadUnread, Unread, User,
};
use serde_json::{Value, json};

pub(crate) use event::event;
pub(crate) use features::{UNITS, ballot, draft, group, location, poll, reminder};

/// Custom data, which is stored as text.
pub(crate) fn custom(text: Option<&str>) -> Value {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null)
}

pub(crate) fn channel(channel: &Channel) -> Value {
    json!({
        "cid": channel.id.as_str(),
        "type": channel.id.kind(),
        "id": channel.id.id(),
        "created_by": channel.created_by,
        "created_at": channel.created_at_ms,
        "updated_at": channel.updated_at_ms,
        "custom": custom(channel.custom.as_deref()),
        "team": channel.team,
        "distinct": !channel.distinct.is_empty(),
        "frozen": channel.frozen_at_ms.is_some(),
        "disabled": channel.disabled_at_ms.is_some(),
        "slow_mode_ms": channel.slow_mode_ms,
        "truncated": channel.truncated,
    })
}

pub(crate) fn channel_found(found: &ChannelFound) -> Value {
    json!({
        "channel": channel(&found.channel),
        "last_sequence": found.last_sequence,
        "last_message_at": found.last_message_at_ms,
    })
}

pub(crate) fn mentions(mentions: &Mentions) -> Value {
    json!({ "users": mentions.users, "groups": mentions.groups, "channel": mentions.channel })
}

/// A message, or an edit of one, that is kept back: it has no number, and a version below that of any message.
pub(crate) fn held(channel: &ChannelId, held: &Held) -> Value {
    let attachments: Vec<Value> = held.attachments.iter().map(|one| custom(Some(one))).collect();
    json!({
        "id": held.id,
        "cid": channel.as_str(),
        "sequence": null,
        "thread_sequence": null,
        "parent_id": held.parent_id,
        "parent_sequence": null,
        "user_id": held.user_id,
        "text": held.text,
        "custom": custom(held.custom.as_deref()),
        "attachments": attachments,
        "mentions": mentions(&held.mentions),
        "quoted_id": held.quoted_id,
        "poll_id": null,
        "shares_location": false,
        "pinned": null,
        "system": false,
        "silent": false,
        "shadowed": false,
        "created_at": held.held_at_ms,
        "updated_at": null,
        "deleted_at": null,
        "erased": false,
        "version": 0,
        "reply_count": null,
        "reactions": null,
        "scores": null,
        "own_reactions": null,
        "edit": held.is_edit,
    })
}

/// A message; `own` are the types of the viewer's reactions, where they were looked up.
pub(crate) fn message(channel: &ChannelId, message: &Message, own: Option<&[String]>) -> Value {
    let (sequence, thread_sequence, parent_sequence) = match message.place {
        Place::Channel(number) => (Some(number), None, None),
        Place::Thread { parent, reply } => (None, Some(reply), Some(parent)),
    };
    let pinned = message
        .pinned
        .as_ref()
        .map(|pin| json!({ "at": pin.pinned_at_ms, "by": pin.pinned_by, "until": pin.expires_at_ms }));
    let attachments: Vec<Value> = message.attachments.iter().map(|one| custom(Some(one))).collect();
    let stats = message.stats.as_ref();
    let poll_id = match &message.shows {
        Some(Shows::Poll(id)) => Some(id),
        Some(Shows::Location) | None => None,
    };
    json!({
        "id": message.id,
        "cid": channel.as_str(),
        "sequence": sequence,
        "thread_sequence": thread_sequence,
        "parent_id": message.parent_id,
        "parent_sequence": parent_sequence,
        "user_id": message.user_id,
        "text": message.text,
        "custom": custom(message.custom.as_deref()),
        "attachments": attachments,
        "mentions": mentions(&message.mentions),
        "quoted_id": message.quoted_id,
        "poll_id": poll_id,
        "shares_location": message.shows == Some(Shows::Location),
        "pinned": pinned,
        "system": message.system,
        "silent": message.silent,
        // Its author is not told.
        "shadowed": false,
        "created_at": message.created_at_ms,
        "updated_at": message.updated_at_ms,
        "deleted_at": message.deleted_at_ms,
        "erased": message.erased,
        "version": message.version,
        "reply_count": stats.map(|stats| stats.reply_count),
        "reactions": stats.map(|stats| &stats.reactions),
        "scores": stats.map(|stats| &stats.scores),
        "own_reactions": own,
    })
}

pub(crate) fn member(member: &Member) -> Value {
    let grants: Vec<&str> = member.grants.iter().map(|grant| grant.name()).collect();
    json!({
        "user_id": member.user_id,
        "role": member.role,
        "grants": grants,
        "joined_at": member.joined_at_ms,
        "custom": custom(member.custom.as_deref()),
    })
}

pub(crate) fn reaction(reaction: &Reaction) -> Value {
    json!({
        "message_id": reaction.message_id,
        "user_id": reaction.user_id,
        "type": reaction.kind,
        "score": reaction.score,
        "created_at": reaction.created_at_ms,
        "custom": custom(reaction.custom.as_deref()),
    })
}

pub(crate) fn read(read: &ReadState) -> Value {
    json!({ "user_id": read.user_id, "sequence": read.sequence, "read_at": read.read_at_ms })
}

pub(crate) fn receipt(receipt: &Receipt) -> Value {
    json!({
        "user_id": receipt.user_id, "sequence": receipt.sequence, "delivered_at": receipt.delivered_at_ms,
    })
}

pub(crate) fn unread(channel: &ChannelId, unread: &Unread, mentions: u64) -> Value {
    json!({
        "cid": channel.as_str(),
        "unread": unread.unread,
        "mentions": mentions,
        "read_sequence": unread.read.sequence,
        "last_sequence": unread.last_sequence,
    })
}

pub(crate) fn thread_unread(thread: &ThreadUnread, mentions: u64) -> Value {
    json!({
        "parent_id": thread.parent_id,
        "unread": thread.unread,
        "mentions": mentions,
        "read_sequence": thread.read_sequence,
        "last_sequence": thread.last_sequence,
    })
}

pub(crate) fn invite(invite: &Invite) -> Value {
    let grants: Vec<&str> = invite.grants.iter().map(|grant| grant.name()).collect();
    let state = match invite.state {
        InviteState::Pending => "pending",
        InviteState::Rejected => "rejected",
        InviteState::Revoked => "revoked",
    };
    json!({
        "user_id": invite.user_id,
        "state": state,
        "role": invite.role,
        "grants": grants,
        "custom": custom(invite.custom.as_deref()),
        "invited_by": invite.invited_by,
        "invited_at": invite.invited_at_ms,
        "answered_at": invite.answered_at_ms,
    })
}

pub(crate) fn ban(ban: &Ban) -> Value {
    json!({
        "user_id": ban.user_id,
        "banned_by": ban.banned_by,
        "banned_at": ban.banned_at_ms,
        "expires_at": ban.expires_at_ms,
        "reason": ban.reason,
        "shadow": ban.shadow,
    })
}

pub(crate) fn user(user: &User) -> Value {
    json!({
        "id": user.id,
        "role": user.role,
        "teams": user.teams,
        "custom": custom(user.custom.as_deref()),
        "created_at": user.created_at_ms,
        "updated_at": user.updated_at_ms,
        "deactivated_at": user.deactivated_at_ms,
    })
}

pub(crate) fn against(against: &Against) -> Value {
    json!({ "user_id": against.user_id, "since": against.since_ms, "until": against.until_ms })
}

pub(crate) fn inbox(entry: &InboxEntry) -> Value {
    json!({
        "cid": entry.listing.channel.as_str(),
        "role": entry.listing.role,
        "joined_at": entry.listing.joined_at_ms,
        "last_sequence": entry.last_sequence,
        "hidden": entry.hidden,
        "archived_at": entry.archived_at_ms,
        "pinned_at": entry.pinned_at_ms,
        "muted": entry.muted,
        "muted_until": entry.muted_until_ms,
    })
}

pub(crate) fn flagged(flagged: &Flagged) -> Value {
    let flags: Vec<Value> = flagged
        .flags
        .iter()
        .map(|flag| json!({ "user_id": flag.user_id, "reason": flag.reason, "flagged_at": flag.flagged_at_ms }))
        .collect();
    json!({
        "cid": flagged.channel.as_str(),
        "message": message(&flagged.channel, &flagged.message, None),
        "flags": flags,
    })
}

pub(crate) fn previous(previous: &PreviousText) -> Value {
    let attachments: Vec<Value> = previous.attachments.iter().map(|one| custom(Some(one))).collect();
    json!({
        "version": previous.version,
        "text": previous.text,
        "custom": custom(previous.custom.as_deref()),
        "attachments": attachments,
        "replaced_at": previous.replaced_at_ms,
        "replaced_by": previous.replaced_by,
    })
}
