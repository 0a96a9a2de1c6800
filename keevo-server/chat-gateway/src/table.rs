//! The one table of endpoints. Where two rows match a path, the first counts: literal parts come before names.

use axum::http::Method;
use futures::FutureExt;
use keevo_gateway::shared::{Action, Limit};

use crate::endpoints::{
    bans, channels, invites, listing, members, messages, people, reactions, reading, review, threads,
};
use crate::field::{Field, Kind, may, must};
use crate::route::{Does, Handler, Row, Who};

use Kind::{Members, Number, Object, Objects, Signed, Text, Texts, Truth};

const LIMIT: Field = may("limit", Number);
const CURSOR: Field = may("cursor", Text);
const PAGE: &[Field] = &[LIMIT, CURSOR];
const QUERY: &[Field] = &[must("filter", Object), may("sort", Text), LIMIT, CURSOR];
const HISTORY: &[Field] = &[LIMIT, may("before", Number), may("after", Number), may("order", Text)];
const READ_TO: &[Field] = &[may("sequence", Number), may("message_id", Text)];
const UNREAD_FROM: &[Field] = &[must("from_sequence", Number)];
const MEMBERS: &[Field] = &[must("members", Members)];
const BAN: &[Field] = &[may("for_ms", Number), may("reason", Text), may("shadow", Truth)];
const MESSAGE: &[Field] = &[
    may("id", Text),
    may("text", Text),
    may("parent_id", Text),
    may("custom", Object),
    may("attachments", Objects),
    may("mentions", Object),
    may("quoted_id", Text),
    may("silent", Truth),
    may("system", Truth),
    may("created_at", Number),
];
const EDIT: &[Field] = &[
    may("text", Text),
    may("custom", Object),
    may("set", Object),
    may("unset", Texts),
    may("attachments", Objects),
    may("mentions", Object),
];
const CUSTOM: &[Field] = &[may("custom", Object), may("set", Object), may("unset", Texts)];
const NONE: &[Field] = &[];

/// What a row says beside its name, path and call: who may call, and under which limit.
#[derive(Clone, Copy)]
struct Way(Method2, Action, Limit, Who);

/// A method, for constants.
#[derive(Clone, Copy)]
enum Method2 {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

const GET: Way = Way(Method2::Get, Action::Read, Limit::ChatRead, Who::Any);
const MINE: Way = Way(Method2::Get, Action::Read, Limit::ChatRead, Who::User);
const ASK: Way = Way(Method2::Post, Action::Read, Limit::ChatQuery, Who::Any);
const SEND: Way = Way(Method2::Post, Action::Write, Limit::ChatSend, Who::User);
const POST: Way = Way(Method2::Post, Action::Write, Limit::ChatWrite, Who::Any);
const DO: Way = Way(Method2::Post, Action::Write, Limit::ChatWrite, Who::User);
const PUT: Way = Way(Method2::Put, Action::Write, Limit::ChatWrite, Who::User);
const PATCH: Way = Way(Method2::Patch, Action::Write, Limit::ChatWrite, Who::Any);
const CHANGE: Way = Way(Method2::Patch, Action::Write, Limit::ChatWrite, Who::User);
const DELETE: Way = Way(Method2::Delete, Action::Delete, Limit::ChatWrite, Who::Any);
const REMOVE: Way = Way(Method2::Delete, Action::Delete, Limit::ChatWrite, Who::User);

impl Way {
    const fn by(self, who: Who) -> Self {
        Self(self.0, self.1, self.2, who)
    }
}

const fn row(
    id: &'static str,
    way: Way,
    path: &'static str,
    params: &'static [Field],
    body: &'static [Field],
    summary: &'static str,
    handler: Handler,
) -> Row {
    let Way(method, action, limit, who) = way;
    Row { id, method: method.http(), path, action, limit, who, params, body, summary, does: Does::Call(handler) }
}

const fn files(id: &'static str, method: Method, action: Action, path: &'static str, summary: &'static str) -> Row {
    const PARAMS: &[Field] =
        &[may("url", Text), may("w", Number), may("h", Number), may("resize", Text), may("crop", Text)];
    let limit = Limit::File;
    Row { id, method, path, action, limit, who: Who::Any, params: PARAMS, body: NONE, summary, does: Does::Files(path) }
}

impl Method2 {
    const fn http(self) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Post => Method::POST,
            Self::Put => Method::PUT,
            Self::Patch => Method::PATCH,
            Self::Delete => Method::DELETE,
        }
    }
}

/// Every endpoint.
#[rustfmt::skip]
pub(crate) const TABLE: &[Row] = &[
    row("createChannel", DO, "channels", NONE, &[must("type", Text), may("id", Text), may("members", Members), may("distinct", Truth), may("team", Text), may("custom", Object)], "Create a channel, or find the one that is there", |c| channels::create(c).boxed()),
    row("queryChannels", ASK, "channels/query", NONE, QUERY, "Find channels by a filter", |c| channels::query(c).boxed()),
    row("getChannelType", GET, "channel_types/{kind}", NONE, NONE, "What channels of a type have, and who may do what in them", |c| futures::future::ready(channels::kind(c)).boxed()),
    row("getChannel", GET, "channels/{type}/{id}", &[may("messages", Number), may("members", Number)], NONE, "Read a channel with its newest messages, and where to subscribe from", |c| channels::state(c).boxed()),
    row("updateChannel", PATCH, "channels/{type}/{id}", NONE, CUSTOM, "Change a channel's custom data", |c| channels::update(c).boxed()),
    row("truncateChannel", POST, "channels/{type}/{id}/truncate", NONE, &[may("up_to", Number)], "Hide what was said", |c| channels::truncate(c).boxed()),
    row("freezeChannel", POST, "channels/{type}/{id}/freeze", NONE, &[must("frozen", Truth)], "Freeze a channel, or end that", |c| channels::freeze(c).boxed()),
    row("slowChannel", POST, "channels/{type}/{id}/slow_mode", NONE, &[may("wait_ms", Number)], "Set slow mode, or end it", |c| channels::slow_mode(c).boxed()),
    row("disableChannel", POST.by(Who::Admin), "channels/{type}/{id}/disable", NONE, &[must("disabled", Truth)], "Disable a channel, or end that", |c| channels::disable(c).boxed()),
    row("getWatchers", GET, "channels/{type}/{id}/watchers", NONE, NONE, "Who is connected to a channel on this node", |c| channels::watchers(c).boxed()),

    row("getMembers", GET, "channels/{type}/{id}/members", PAGE, NONE, "List members", |c| members::list(c).boxed()),
    row("queryMembers", ASK, "channels/{type}/{id}/members/query", NONE, QUERY, "Find members by a filter", |c| members::query(c).boxed()),
    row("addMembers", POST, "channels/{type}/{id}/members", NONE, MEMBERS, "Add members", |c| members::add(c).boxed()),
    row("updateMembers", PATCH, "channels/{type}/{id}/members", NONE, MEMBERS, "Set roles, grants and custom data of members", |c| members::update(c).boxed()),
    row("removeMember", DELETE, "channels/{type}/{id}/members/{user}", NONE, NONE, "Remove a member", |c| members::remove(c).boxed()),
    row("joinChannel", DO, "channels/{type}/{id}/join", NONE, NONE, "Join a channel", |c| members::join(c).boxed()),
    row("leaveChannel", DO, "channels/{type}/{id}/leave", NONE, NONE, "Leave a channel", |c| members::leave(c).boxed()),
    row("acceptInvite", DO, "channels/{type}/{id}/invites/accept", NONE, NONE, "Accept one's invitation", |c| invites::accept(c).boxed()),
    row("rejectInvite", DO, "channels/{type}/{id}/invites/reject", NONE, NONE, "Reject one's invitation", |c| invites::reject(c).boxed()),
    row("getInvites", GET, "channels/{type}/{id}/invites", PAGE, NONE, "List a channel's invitations", |c| invites::list(c).boxed()),
    row("inviteUsers", DO, "channels/{type}/{id}/invites", NONE, &[must("users", Members)], "Invite users", |c| invites::add(c).boxed()),
    row("revokeInvite", DELETE, "channels/{type}/{id}/invites/{user}", NONE, NONE, "Take an invitation back", |c| invites::revoke(c).boxed()),
    row("getOwnInvites", MINE, "invites", PAGE, NONE, "The channels that a user is invited to", |c| invites::own(c).boxed()),

    row("queryMessages", ASK, "channels/{type}/{id}/messages/query", NONE, QUERY, "Find messages by a filter", |c| messages::query(c).boxed()),
    row("sendMessage", SEND, "channels/{type}/{id}/messages", NONE, MESSAGE, "Send a message", |c| messages::send(c).boxed()),
    row("getMessages", GET, "channels/{type}/{id}/messages", HISTORY, NONE, "Read a page of history", |c| messages::history(c).boxed()),
    row("getPinned", GET, "channels/{type}/{id}/pinned", &[LIMIT], NONE, "List pinned messages", |c| messages::pinned(c).boxed()),
    row("getMessage", GET, "channels/{type}/{id}/messages/{message}", NONE, NONE, "Read a message", |c| messages::get(c).boxed()),
    row("editMessage", CHANGE, "channels/{type}/{id}/messages/{message}", NONE, EDIT, "Change a message, in whole or in part", |c| messages::edit(c).boxed()),
    row("deleteMessage", REMOVE, "channels/{type}/{id}/messages/{message}", &[may("erase", Truth)], NONE, "Delete a message; with erase=true nothing of it is kept", |c| messages::delete(c).boxed()),
    row("undeleteMessage", DO, "channels/{type}/{id}/messages/{message}/undelete", NONE, NONE, "Bring a deleted message back", |c| messages::undelete(c).boxed()),
    row("getEdits", GET, "channels/{type}/{id}/messages/{message}/edits", NONE, NONE, "What a message said before its edits", |c| messages::edits(c).boxed()),
    row("pinMessage", DO, "channels/{type}/{id}/messages/{message}/pin", NONE, &[must("pinned", Truth), may("until", Number)], "Pin a message, or unpin it", |c| messages::pin(c).boxed()),
    row("flagMessage", DO, "channels/{type}/{id}/messages/{message}/flag", NONE, &[may("reason", Text)], "Flag a message for review", |c| review::flag(c).boxed()),
    row("reviewMessage", DO, "channels/{type}/{id}/messages/{message}/review", NONE, &[must("verdict", Text)], "Review a flagged message", |c| review::decide(c).boxed()),
    row("getReviewQueue", GET.by(Who::Admin), "review", PAGE, NONE, "Messages that wait for a review", |c| review::queue(c).boxed()),

    row("getReplies", GET, "channels/{type}/{id}/messages/{message}/replies", HISTORY, NONE, "Read a page of a thread", |c| threads::replies(c).boxed()),
    row("getParticipants", GET, "channels/{type}/{id}/messages/{message}/participants", &[LIMIT], NONE, "Who takes part in a thread", |c| threads::participants(c).boxed()),
    row("getThread", MINE, "channels/{type}/{id}/messages/{message}/thread", NONE, NONE, "What of a thread is unread", |c| threads::state(c).boxed()),
    row("readThread", DO, "channels/{type}/{id}/messages/{message}/thread/read", NONE, READ_TO, "Mark a thread as read", |c| threads::read(c).boxed()),
    row("unreadThread", DO, "channels/{type}/{id}/messages/{message}/thread/unread", NONE, UNREAD_FROM, "Mark replies as unread again", |c| threads::unread(c).boxed()),
    row("followThread", DO, "channels/{type}/{id}/messages/{message}/thread/follow", NONE, &[must("follow", Truth)], "Follow a thread, or end that", |c| threads::follow(c).boxed()),
    row("getThreads", MINE, "channels/{type}/{id}/threads", PAGE, NONE, "The threads that a user follows", |c| threads::list(c).boxed()),
    row("getReactions", GET, "channels/{type}/{id}/messages/{message}/reactions", &[LIMIT], NONE, "List a message's reactions", |c| reactions::list(c).boxed()),
    row("react", DO, "channels/{type}/{id}/messages/{message}/reactions", NONE, &[must("type", Text), may("score", Signed), may("custom", Object), may("unique", Truth)], "React to a message", |c| reactions::add(c).boxed()),
    row("unreact", REMOVE, "channels/{type}/{id}/messages/{message}/reactions/{reaction}", NONE, NONE, "Take a reaction back", |c| reactions::remove(c).boxed()),

    row("markRead", DO, "channels/{type}/{id}/read", NONE, READ_TO, "Mark a channel as read", |c| reading::read(c).boxed()),
    row("markUnread", DO, "channels/{type}/{id}/unread", NONE, UNREAD_FROM, "Mark messages as unread again", |c| reading::mark_unread(c).boxed()),
    row("getUnread", MINE, "channels/{type}/{id}/unread", NONE, NONE, "What of a channel is unread", |c| reading::unread(c).boxed()),
    row("getAllUnread", MINE, "unread", PAGE, NONE, "What of a user's channels is unread", |c| reading::all_unread(c).boxed()),
    row("getReads", GET, "channels/{type}/{id}/reads", PAGE, NONE, "How far members have read", |c| reading::reads(c).boxed()),
    row("markDelivered", DO, "channels/{type}/{id}/delivered", NONE, &[must("sequence", Number)], "Say up to where messages have come", |c| reading::delivered(c).boxed()),
    row("getReceipts", GET, "channels/{type}/{id}/receipts", PAGE, NONE, "Up to where members have got messages", |c| reading::receipts(c).boxed()),

    row("getInbox", MINE, "inbox", PAGE, NONE, "A user's channels, with what it wants of each", |c| listing::inbox(c).boxed()),
    row("setPreference", CHANGE, "channels/{type}/{id}/preference", NONE, &[may("hidden", Truth), may("archived", Truth), may("pinned", Truth), may("muted", Truth), may("muted_for_ms", Number)], "Hide, archive, pin or mute a channel", |c| listing::prefer(c).boxed()),
    row("getMutes", MINE, "mutes", PAGE, NONE, "Whom a user has muted", |c| listing::mutes(c).boxed()),
    row("muteUser", PUT, "mutes/{user}", NONE, &[may("for_ms", Number)], "Mute a user", |c| listing::mute(c).boxed()),
    row("unmuteUser", REMOVE, "mutes/{user}", NONE, NONE, "End a mute", |c| listing::unmute(c).boxed()),
    row("getBlocks", MINE, "blocks", PAGE, NONE, "Whom a user has blocked", |c| listing::blocks(c).boxed()),
    row("blockUser", PUT, "blocks/{user}", NONE, NONE, "Block a user", |c| listing::block(c).boxed()),
    row("unblockUser", REMOVE, "blocks/{user}", NONE, NONE, "End a block", |c| listing::unblock(c).boxed()),

    row("getBans", GET, "channels/{type}/{id}/bans", PAGE, NONE, "List a channel's bans", |c| bans::list(c).boxed()),
    row("banUser", PUT, "channels/{type}/{id}/bans/{user}", NONE, BAN, "Ban a user from a channel", |c| bans::add(c).boxed()),
    row("unbanUser", DELETE, "channels/{type}/{id}/bans/{user}", NONE, NONE, "End a ban from a channel", |c| bans::remove(c).boxed()),
    row("getAppBan", GET.by(Who::Admin), "bans/{user}", NONE, NONE, "A user's ban from the app", |c| bans::of_app(c).boxed()),
    row("banFromApp", PUT.by(Who::Admin), "bans/{user}", NONE, &[may("for_ms", Number), may("reason", Text)], "Ban a user from the app", |c| bans::add_app(c).boxed()),
    row("unbanFromApp", DELETE.by(Who::Admin), "bans/{user}", NONE, NONE, "End a ban from the app", |c| bans::remove_app(c).boxed()),

    row("putUsers", POST.by(Who::Server), "users", NONE, &[must("users", Objects)], "Put users, whole", |c| people::put(c).boxed()),
    row("queryUsers", ASK, "users/query", NONE, QUERY, "Find users by a filter", |c| people::query(c).boxed()),
    row("getUser", GET, "users/{user}", NONE, NONE, "Read a user", |c| people::get(c).boxed()),
    row("updateUser", PATCH, "users/{user}", NONE, CUSTOM, "Change a user's custom data", |c| people::update(c).boxed()),
    row("deactivateUser", POST.by(Who::Server), "users/{user}/deactivate", NONE, &[must("deactivated", Truth)], "Deactivate a user, or end that", |c| people::deactivate(c).boxed()),
    row("createGuest", POST.by(Who::Server), "guests", NONE, &[may("custom", Object)], "Make a guest", |c| people::guest(c).boxed()),

    files("uploadFile", Method::POST, Action::Write, "files", "Upload a file"),
    files("getFile", Method::GET, Action::Read, "files", "A fresh address of a file"),
    files("deleteFile", Method::DELETE, Action::Delete, "files", "Delete a file"),
    files("uploadImage", Method::POST, Action::Write, "images", "Upload an image"),
    files("getImage", Method::GET, Action::Read, "images", "A fresh address of an image, in another size too"),
    files("deleteImage", Method::DELETE, Action::Delete, "images", "Delete an image"),
];
