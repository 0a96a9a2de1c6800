//! The one table of endpoints. Where two rows match a path, the first counts: literal parts come before names.

use axum::http::Method;
use futures::FutureExt;
use keevo_gateway::shared::{Action, Limit};

use crate::endpoints::{
    bans, channels, commands, drafts, groups, held, invites, listing, locations, members, messages, people, polls,
    reactions, reading, reminders, review, search, settings, threads, transfer, votes,
};
use crate::field::{Field, Kind, may, must};
use crate::route::{Does, Handler, Row, Who};

use Kind::{Decimal, Members, Number, Object, Objects, Signed, Text, Texts, Truth};

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
    may("poll_id", Text),
    may("silent", Truth),
    may("system", Truth),
    may("created_at", Number),
];
const DRAFT: &[Field] = &[
    may("parent_id", Text),
    may("text", Text),
    may("custom", Object),
    may("attachments", Objects),
    may("mentions", Object),
    may("quoted_id", Text),
];
const POLL: &[Field] = &[
    may("id", Text),
    must("name", Text),
    may("description", Text),
    may("options", Objects),
    may("closes_at", Number),
    may("votes_max", Number),
    may("anonymous", Truth),
    may("suggestions", Truth),
    may("answers", Truth),
    may("custom", Object),
];
const POLL_CHANGE: &[Field] =
    &[may("name", Text), may("description", Text), may("closes_at", Number), may("custom", Object)];
const AT: &[Field] = &[must("latitude", Decimal), must("longitude", Decimal)];
const LOCATION: &[Field] = &[
    must("latitude", Decimal),
    must("longitude", Decimal),
    must("for_ms", Number),
    may("id", Text),
    may("text", Text),
    may("parent_id", Text),
    may("custom", Object),
    may("silent", Truth),
];
const BEFORE_SEND: &[Field] =
    &[must("url", Text), must("secret", Text), may("timeout_ms", Number), may("on_failure", Text), may("types", Texts)];
const COMMAND: &[Field] =
    &[must("url", Text), must("secret", Text), may("description", Text), may("arguments", Text), may("types", Texts)];
const PARENT: &[Field] = &[may("parent_id", Text)];
const EDIT: &[Field] = &[
    may("text", Text),
    may("custom", Object),
    may("set", Object),
    may("unset", Texts),
    may("attachments", Objects),
    may("mentions", Object),
];
const CUSTOM: &[Field] = &[may("custom", Object), may("set", Object), may("unset", Texts)];
const SEARCH: &[Field] = &[
    may("query", Text),
    may("cids", Texts),
    may("author_id", Text),
    may("mentions", Text),
    may("has_attachments", Truth),
    may("created_after", Number),
    may("created_before", Number),
    may("sort", Text),
    LIMIT,
    CURSOR,
];
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
const FIND: Way = Way(Method2::Post, Action::Read, Limit::ChatSearch, Who::Any);
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
    row("deleteChannel", REMOVE, "channels/{type}/{id}", &[may("erase", Truth)], NONE, "Delete a channel; with erase=true nothing of it is kept", |c| channels::delete(c).boxed()),
    row("restoreChannel", POST.by(Who::Admin), "channels/{type}/{id}/restore", NONE, NONE, "Bring a deleted channel back", |c| channels::restore(c).boxed()),
    row("getDeletion", GET.by(Who::Admin), "channels/{type}/{id}/deletion", NONE, NONE, "Whether a channel is deleted, and how far that is", |c| channels::get_deletion(c).boxed()),
    row("eraseTruncated", POST, "channels/{type}/{id}/erase_truncated", NONE, &[may("after", Number)], "Erase what was truncated, a few messages at a time", |c| channels::erase_truncated(c).boxed()),
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
    row("getHeld", GET, "channels/{type}/{id}/held", PAGE, NONE, "Messages that are kept back: one's own, or all for those who review", |c| held::list(c).boxed()),
    row("getMessage", GET, "channels/{type}/{id}/messages/{message}", NONE, NONE, "Read a message", |c| messages::get(c).boxed()),
    row("editMessage", CHANGE, "channels/{type}/{id}/messages/{message}", NONE, EDIT, "Change a message, in whole or in part", |c| messages::edit(c).boxed()),
    row("deleteMessage", REMOVE, "channels/{type}/{id}/messages/{message}", &[may("erase", Truth)], NONE, "Delete a message; with erase=true nothing of it is kept", |c| messages::delete(c).boxed()),
    row("undeleteMessage", DO, "channels/{type}/{id}/messages/{message}/undelete", NONE, NONE, "Bring a deleted message back", |c| messages::undelete(c).boxed()),
    row("getEdits", GET, "channels/{type}/{id}/messages/{message}/edits", NONE, NONE, "What a message said before its edits", |c| messages::edits(c).boxed()),
    row("pinMessage", DO, "channels/{type}/{id}/messages/{message}/pin", NONE, &[must("pinned", Truth), may("until", Number)], "Pin a message, or unpin it", |c| messages::pin(c).boxed()),
    row("flagMessage", DO, "channels/{type}/{id}/messages/{message}/flag", NONE, &[may("reason", Text)], "Flag a message for review", |c| review::flag(c).boxed()),
    row("reviewMessage", DO, "channels/{type}/{id}/messages/{message}/review", NONE, &[must("verdict", Text)], "Review a flagged message", |c| review::decide(c).boxed()),
    row("getReviewQueue", GET.by(Who::Admin), "review", PAGE, NONE, "Messages that wait for a review", |c| review::queue(c).boxed()),

    row("searchMessages", FIND, "search", NONE, SEARCH, "Find messages by what they say, over all channels that one may read", |c| search::messages(c).boxed()),

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

    row("putDraft", PUT, "channels/{type}/{id}/draft", NONE, DRAFT, "Keep a draft, of the channel or of a thread", |c| drafts::put(c).boxed()),
    row("getDraft", MINE, "channels/{type}/{id}/draft", PARENT, NONE, "Read a draft", |c| drafts::get(c).boxed()),
    row("deleteDraft", REMOVE, "channels/{type}/{id}/draft", PARENT, NONE, "Remove a draft", |c| drafts::delete(c).boxed()),
    row("sendDraft", SEND, "channels/{type}/{id}/draft/send", NONE, &[must("id", Text), may("parent_id", Text)], "Send a draft as a message", |c| drafts::send(c).boxed()),
    row("getDrafts", MINE, "drafts", PAGE, NONE, "A user's drafts", |c| drafts::list(c).boxed()),
    row("setReminder", PUT, "channels/{type}/{id}/messages/{message}/reminder", NONE, &[may("remind_at", Number)], "Be reminded of a message", |c| reminders::set(c).boxed()),
    row("deleteReminder", REMOVE, "channels/{type}/{id}/messages/{message}/reminder", NONE, NONE, "Remove a reminder", |c| reminders::delete(c).boxed()),
    row("getReminders", MINE, "reminders", PAGE, NONE, "A user's reminders", |c| reminders::list(c).boxed()),

    row("createPoll", DO, "channels/{type}/{id}/polls", NONE, POLL, "Make a poll", |c| polls::create(c).boxed()),
    row("getPolls", GET, "channels/{type}/{id}/polls", PAGE, NONE, "List a channel's polls", |c| polls::list(c).boxed()),
    row("getPoll", GET, "channels/{type}/{id}/polls/{poll}", NONE, NONE, "Read a poll with its results", |c| polls::get(c).boxed()),
    row("updatePoll", CHANGE, "channels/{type}/{id}/polls/{poll}", NONE, POLL_CHANGE, "Change a poll", |c| polls::update(c).boxed()),
    row("deletePoll", REMOVE, "channels/{type}/{id}/polls/{poll}", NONE, NONE, "Delete a poll with its votes", |c| polls::delete(c).boxed()),
    row("closePoll", DO, "channels/{type}/{id}/polls/{poll}/close", NONE, NONE, "Close a poll", |c| polls::close(c).boxed()),
    row("suggestOption", DO, "channels/{type}/{id}/polls/{poll}/options", NONE, &[must("id", Text), must("text", Text)], "Suggest an option of a poll", |c| votes::suggest(c).boxed()),
    row("getVotes", GET, "channels/{type}/{id}/polls/{poll}/votes", PAGE, NONE, "Who voted for what", |c| votes::list(c).boxed()),
    row("vote", DO, "channels/{type}/{id}/polls/{poll}/votes", NONE, &[must("option_id", Text)], "Vote for an option", |c| votes::add(c).boxed()),
    row("unvote", REMOVE, "channels/{type}/{id}/polls/{poll}/votes/{option}", NONE, NONE, "Take a vote back", |c| votes::remove(c).boxed()),
    row("answerPoll", PUT, "channels/{type}/{id}/polls/{poll}/answer", NONE, &[must("answer", Text)], "Answer a poll in one's own words", |c| votes::set_answer(c).boxed()),
    row("deletePollAnswer", REMOVE, "channels/{type}/{id}/polls/{poll}/answer", NONE, NONE, "Take an answer back", |c| votes::remove_answer(c).boxed()),

    row("shareLocation", SEND, "channels/{type}/{id}/locations", NONE, LOCATION, "Send a message that shares where one is", |c| locations::share(c).boxed()),
    row("getLocations", GET, "channels/{type}/{id}/locations", &[LIMIT], NONE, "What is shared in a channel now", |c| locations::list(c).boxed()),
    row("getLocation", GET, "channels/{type}/{id}/messages/{message}/location", NONE, NONE, "The location that a message shares", |c| locations::get(c).boxed()),
    row("updateLocation", CHANGE, "channels/{type}/{id}/messages/{message}/location", NONE, AT, "Move a shared location", |c| locations::update(c).boxed()),
    row("stopLocation", REMOVE, "channels/{type}/{id}/messages/{message}/location", NONE, NONE, "Stop sharing a location", |c| locations::stop(c).boxed()),

    row("getOwnGroups", MINE, "groups", NONE, NONE, "The groups that a user is in", |c| groups::own(c).boxed()),
    row("putGroup", PUT.by(Who::Admin), "groups/{group}", NONE, &[must("name", Text), may("custom", Object), may("team", Text)], "Make a group of users, or change it", |c| groups::put(c).boxed()),
    row("getGroup", GET, "groups/{group}", NONE, NONE, "Read a group", |c| groups::get(c).boxed()),
    row("deleteGroup", DELETE.by(Who::Admin), "groups/{group}", NONE, NONE, "Delete a group", |c| groups::delete(c).boxed()),
    row("getGroupMembers", GET, "groups/{group}/members", PAGE, NONE, "Who is in a group", |c| groups::members(c).boxed()),
    row("addToGroup", POST.by(Who::Admin), "groups/{group}/members", NONE, &[must("users", Texts)], "Add users to a group", |c| groups::add(c).boxed()),
    row("removeFromGroup", DELETE.by(Who::Admin), "groups/{group}/members/{user}", NONE, NONE, "Take a user out of a group", |c| groups::remove(c).boxed()),

    row("getCommands", GET, "channel_types/{kind}/commands", NONE, NONE, "What can be typed in channels of a type", |c| futures::future::ready(commands::list(c)).boxed()),
    row("runCommand", SEND, "channels/{type}/{id}/commands", NONE, &[must("text", Text), may("id", Text), may("parent_id", Text)], "Run a command, such as /ban bob", |c| commands::run(c).boxed()),
    row("getSettings", GET.by(Who::Server), "settings", NONE, NONE, "What the app says of its chat", |c| settings::get(c).boxed()),
    row("putBeforeSend", PUT.by(Who::Server), "settings/before_send", NONE, BEFORE_SEND, "Whom to ask before messages are sent", |c| settings::put_before_send(c).boxed()),
    row("deleteBeforeSend", DELETE.by(Who::Server), "settings/before_send", NONE, NONE, "Ask nobody before messages are sent", |c| settings::delete_before_send(c).boxed()),
    row("putHook", PUT.by(Who::Server), "settings/hooks/{name}", NONE, &[must("url", Text), must("secret", Text), may("events", Texts)], "Whom to tell of events", |c| settings::put_hook(c).boxed()),
    row("deleteHook", DELETE.by(Who::Server), "settings/hooks/{name}", NONE, NONE, "Tell a hook no more", |c| settings::delete_hook(c).boxed()),
    row("putCommand", PUT.by(Who::Server), "settings/commands/{name}", NONE, COMMAND, "Who carries a command out", |c| settings::put_command(c).boxed()),
    row("deleteCommand", DELETE.by(Who::Server), "settings/commands/{name}", NONE, NONE, "Remove a command", |c| settings::delete_command(c).boxed()),
    row("putRetention", PUT.by(Who::Server), "settings/retention/{name}", NONE, &[must("age_ms_max", Number), may("keep_pinned", Truth)], "How long messages of a channel type are kept", |c| settings::put_retention(c).boxed()),
    row("deleteRetention", DELETE.by(Who::Server), "settings/retention/{name}", NONE, NONE, "Keep messages of a channel type for good", |c| settings::delete_retention(c).boxed()),

    row("eraseUser", POST.by(Who::Server), "users/{user}/erasure", NONE, &[may("keep_texts", Truth)], "Erase a user everywhere", |c| transfer::erase_user(c).boxed()),
    row("getErasure", GET.by(Who::Server), "users/{user}/erasure", NONE, NONE, "How far a user's erasure is", |c| transfer::get_erasure(c).boxed()),
    row("exportUser", GET.by(Who::Server), "users/{user}/export", &[CURSOR], NONE, "Everything of a user, page by page", |c| transfer::export_user(c).boxed()),
    row("exportChannel", GET.by(Who::Server), "channels/{type}/{id}/export", &[CURSOR], NONE, "A channel as lines of an import, page by page", |c| transfer::export_channel(c).boxed()),
    row("importHistory", POST.by(Who::Server), "import", NONE, &[must("lines", Objects)], "Import history", |c| transfer::import(c).boxed()),

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
