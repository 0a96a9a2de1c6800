//! Chat over the [`Engine`](keevo_core::Engine) trait: channels, members, messages, threads, reactions,
//! read state and live subscriptions.
//!
//! Start with [`Chat::new`]. Every write to a channel is ONE batch in the channel's own partition. What has
//! to reach another partition (a member's list of channels) goes through an outbox that a crash cannot lose.
//!
//! ```
//! # use keevo_chat::{AppId, Chat, ChatOptions, HistoryRequest, NewChannel, NewMember, NewMessage, ReadTo, ResumeFrom};
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let chat = Chat::new(keevo_core::MemoryEngine::new(), AppId(1), ChatOptions::default());
//! let general = "team:general".parse()?;
//! let members = vec![NewMember::new("alice"), NewMember::new("bob")];
//! chat.create_channel(&general, NewChannel { created_by: "alice".into(), members, ..Default::default() }).await?;
//!
//! let mut live = chat.subscribe(&general, ResumeFrom::Now).await?;
//! chat.send(&general, NewMessage::new("alice", "hello").with_id("1")).await?;
//! chat.send(&general, NewMessage::new("alice", "hello").with_id("1")).await?; // a retry: the same message
//! assert_eq!(chat.unread(&general, "bob").await?, 1);
//! chat.mark_read(&general, "bob", ReadTo::End).await?;
//!
//! assert_eq!(chat.history(&general, HistoryRequest::newest(10)).await?.messages.len(), 1);
//! let first = live.next().await.expect("an event")?;
//! assert_eq!(first.event.name(), "message.new");
//! # Ok::<(), keevo_core::Error>(())
//! # }).unwrap();
//! ```
//!
//! # Keys
//!
//! All rows lie in the hashed keyspace `chat`. `app` is a `u32`, all numbers are big-endian.
//!
//! | partition | holds |
//! | --- | --- |
//! | `app 01 type:id` | a channel: all of its rows |
//! | `app 02 user` | a user: what is known of it, its channels, drafts, reminders and groups |
//! | `app 03 bucket` | the outbox: pointers to channels that may hold jobs |
//! | `app 04 bucket` | the directory: the ids of users |
//! | `app 05 bucket` | the review queue: messages that were flagged |
//! | `app 06 bucket` | the directory of channels: their names |
//! | `app 07 group` | a group of users: what is known of it, who is in it |
//! | `app 08 bucket` | the queue of reminders, by the time at which they are due |
//!
//! | sort key in a channel | value | written by |
//! | --- | --- | --- |
//! | `10 01` | the channel's version: one more with every batch that makes events | every batch, first |
//! | `10 02` | number of the newest message of the channel's own sequence | send (append) |
//! | `10 03` | countable messages ever sent | send (merge) |
//! | `11 user` | countable messages this user ever sent; there for whoever left anything in the channel | send (merge), all that name a user |
//! | `12` | the channel | create, update |
//! | `14` | that the channel is deleted, with its row, or is being restored | delete, restore, the worker |
//! | `13 01` to `13 04` | frozen, disabled, slow mode, truncated: absent where it is not | freeze, disable, … |
//! | `20 user` | a member: role, when it joined, where its unread count starts | create, members |
//! | `22 user` | an invitation, until the user joins | invite, accept, reject |
//! | `21 user` | read state, once the member has marked anything read | mark read |
//! | `23 user` | a ban, which may expire | ban |
//! | `25 user` | up to where a member has got the messages | mark delivered |
//! | `24 user` | slow mode: expires when the user may send again | send |
//! | `28`, `29 place` | how far retention has come, what it passed over | retention |
//! | `2a id` | a message, or an edit of one, that is kept back | hold, release, drop |
//! | `30 id` | a message's number: in the channel, or in its thread | send (append's index) |
//! | `31 id` | the number of the message replied to; absent for a message of the channel's own sequence | send |
//! | `40 place` | a message | send (append), edit, delete |
//! | `42 place n` | what edit `n` replaced | edit |
//! | `50 place 00` | countable replies ever sent in this thread | send (merge) |
//! | `50 place 01` | replies ever sent in this thread: the thread's sequence | send (append) |
//! | `50 place 02` | replies deleted | delete |
//! | `50 place 03 type`, `04 type` | reactions of a type, the sum of their scores | react |
//! | `51 place type 00 user` | a reaction | react |
//! | `52 parent user` | how far a user has read a thread | mark a thread |
//! | `53 parent user`, `54 user 00 parent` | who takes part in a thread, with its countable replies | send (merge) |
//! | `58 place user` | the type of the one reaction of a user who may have only one | react |
//! | `59 place user`, `5a place` | a flag; the last review | flag, review |
//! | `60 n`, `61 parent n` | a countable message of the channel, or of a thread, that no longer counts | delete |
//! | `62 whom 00 sequence n` | the n-th message that mentions somebody | send (append, counted by `63 …`) |
//! | `65 place` | a pinned message | pin |
//! | `66 poll` | a poll | make, change, suggest, close |
//! | `67 poll 00 01`, `02`, `03 option` | who voted, who answered, votes for an option | vote (merge) |
//! | `68 poll 00 user` | a ballot: what a user votes for, and its answer | vote |
//! | `69 id` | the location that a message shares; expires when that ends | share, update, stop |
//! | `70`, `71 n` | the outbox: its sequence, its jobs | create, members |
//! | `72` | the outbox's epoch, which fences the removal of pointers | the worker |
//!
//! | sort key in a user's partition | value | written by |
//! | --- | --- | --- |
//! | `10 channel` | a channel that it is in or invited to | the outbox |
//! | `11` | what is known of the user | put, deactivate |
//! | `12 channel` | what it wants of a channel: hidden, archived, pinned, muted | preferences |
//! | `13 user`, `14 user` | whom it muted or blocked | mute, block |
//! | `15` | its ban from the app | ban |
//! | `16 channel 00 parent` | a draft, in a channel (without a parent) or a thread | drafts |
//! | `17 channel 00 id` | a reminder of a message | reminders |
//! | `18 group` | a group that it is in | groups |
//! | `19 01`, `02`, `03` | how many drafts, reminders and groups (merge) | with them |
//! | `1a` | the job that erases the user | erase, the worker |
//!
//! `place` is `01 number` in the channel's own sequence and `02 parent number` in a thread, so each is one
//! dense range of keys and its history a plain scan.
//!
//! # Invariant: one send is one write
//!
//! The engine assigns the number where the write is ordered ([`Op::Append`](keevo_core::Op::Append)), so
//! senders never race for it: there is no read before the write and no compare-and-set loop. The message's
//! id is a precondition (`30 id` absent), so a repeated send stores nothing and returns the stored message.
//!
//! # What counts as unread
//!
//! Nothing is written per member when a message is sent. For a member whose read position is `p`:
//!
//! ```text
//! unread = (countable ever sent − countable ever sent by the member)       rows 10 03 and 11 user
//!        − (messages of others that count, up to p)                        stored with p
//!        − (messages of others after p that no longer count)               rows 60
//! ```
//!
//! The first two are fixed facts about a prefix of the sequence, so they never go stale.
//!
//! | message | counts |
//! | --- | --- |
//! | regular, from somebody else, after the read position | yes |
//! | the member's own | no |
//! | silent | no |
//! | system | no |
//! | reply in a thread | no: in its thread, by the same rules and the same formula |
//! | deleted | no longer, from the moment of the deletion |
//! | brought back | again, for those who have not read so far |
//! | truncated | no longer |
//! | edited, pinned, flagged | as before |
//! | sent before the member joined, or before it came back | no, but see below |
//! | of a sender who is banned in the shadow, or sent in the shadow | no, not even later |
//! | held | not before its release; then as one that is sent at that moment |
//! | from somebody who is muted or blocked | yes: front ends leave those out |
//!
//! A mention counts where its message counts, still names the member, and is behind the read position. A message that names
//! the member in several ways counts once.
//!
//! A join is refused, and tried again, when a message was sent since it read where its count starts. In a channel
//! so busy that this happens eight times in a row, it is written all the same: then the few messages that were sent
//! between that read and the join count as unread.
//!
//! # Who may listen
//!
//! [`Chat::subscribe_as`] serves a member: it ends with `PermissionDenied` where the member is removed, whatever is
//! sent later. A [`ResumeToken`] is bound to app, channel and user, and one from before the user (last) joined is
//! refused with `CursorCompacted`: read the history again. [`Chat::subscribe`] checks nothing, for trusted callers.
//! [`Chat::subscribe_anonymous`] serves those without an id, where the channel's type lets strangers read, and
//! [`Chat::subscribe_user`] tells a user what changes in its own lists.

mod anonymous;
mod ban;
mod channel;
mod channel_delete;
mod channel_export;
mod channel_news;
mod channel_type;
mod chat;
mod command;
mod custom;
mod delete;
mod directory;
mod distinct;
mod draft;
mod erasure;
mod event;
mod filter;
mod found;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod group;
mod held;
mod history;
mod ids;
mod import;
mod invite;
mod json;
mod keys;
mod location;
mod member;
mod membership;
mod mention;
mod message;
mod modify;
mod options;
mod outbox;
mod poll;
mod preference;
mod query;
mod reaction;
mod read_state;
mod receipt;
mod reminder;
mod restrict;
mod retention;
mod review;
mod rights;
mod rows;
mod send;
mod settings;
mod stats;
mod subscribe;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod text_change;
mod thread;
mod token;
mod traces;
mod user_change;
mod user_event;
mod user_export;
mod users;
mod verify;

pub use ban::{Ban, NewBan};
pub use channel::{Channel, ChannelChange, NewChannel};
pub use channel_delete::Deletion;
pub use channel_news::{ChannelNews, ChannelSaid};
pub use channel_type::{Capability, ChannelType, ChannelTypes, Feature, Retention};
pub use chat::{Chat, KEYSPACE};
pub use command::{CommandCall, CommandHandler, CommandInfo, CommandOutcome, CommandReply, Commands, parse_command};
pub use custom::Patch;
pub use draft::{DRAFTS_MAX, Draft, NewDraft};
pub use erasure::{Erasure, Texts};
pub use event::{ChatEvent, Delivery, Position};
pub use filter::{FILTER_BYTES_MAX, Filter};
pub use found::{PLACES_MAX, StoredChange};
pub use group::{GROUP_MEMBERS_MAX, GROUPS_OF_USER_MAX, Group, NewGroup};
pub use held::{Held, HeldPage, Holding};
pub use history::{HistoryPage, HistoryRequest, Order};
pub use ids::{AppId, ChannelId, NAME_BYTES_MAX, Place};
pub use import::{IMPORT_LINES_MAX, Imported, LINE_BYTES_MAX};
pub use invite::{Invite, InviteState};
pub use keys::partitions_of;
pub use location::{Coordinates, LOCATION_MS_MAX, Location};
pub use member::{Listing, Member, NewMember};
pub use message::{
    ATTACHMENTS_MAX, Audience, Edit, MENTIONS_MAX, Mentions, Message, MessageStats, NewMessage, Pin, PreviousText,
    Shows,
};
pub use options::{ChatOptions, Rights};
pub use outbox::{OutboxRun, OutboxWorker};
pub use poll::{Ballot, NewPoll, POLL_OPTIONS_MAX, POLL_TEXT_BYTES_MAX, Poll, PollChange, PollOption, PollTally};
pub use preference::{Against, InboxEntry, Preference};
pub use query::{ChannelFound, EXAMINED_MAX, MessagesQuery, Page, Query};
pub use reaction::{NewReaction, Reaction};
pub use read_state::{ReadState, ReadTo, Unread};
pub use receipt::Receipt;
pub use reminder::{REMINDERS_MAX, Reminder, RemindersRun};
pub use retention::{RetentionCursor, RetentionRun};
pub use review::{Flag, Flagged, Verdict};
pub use rights::{APP_ADMIN, Actor, Denied, DeniedCode, decide};
pub use subscribe::{ResumeFrom, Subscription};
pub use text_change::{ErasedChannel, ErasedUser, HeldChange, MessageChange};
pub use thread::{Participant, Thread, ThreadUnread};
pub use token::ResumeToken;
pub use user_change::{UserChange, UserSaid};
pub use user_event::{UserDelivery, UserEvent, UserSubscription, UserToken};
pub use user_export::ExportPage;
pub use users::{NewUser, User};
pub use verify::Verification;
