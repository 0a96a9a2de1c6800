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
//! chat.create_channel(&general, NewChannel { created_by: "alice".into(), custom: None, members }).await?;
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
//! | `app 02 user` | a member: the channels it is in |
//! | `app 03 bucket` | the outbox: pointers to channels that may hold jobs |
//!
//! | sort key in a channel | value | written by |
//! | --- | --- | --- |
//! | `10 01` | the channel's version: one more with every batch that makes events | every batch, first |
//! | `10 02` | number of the newest message of the channel's own sequence | send (append) |
//! | `10 03` | countable messages ever sent | send (merge) |
//! | `11 user` | countable messages this user ever sent | send (merge) |
//! | `12` | the channel | create, update |
//! | `20 user` | a member: role, when it joined, where its unread count starts | create, members |
//! | `21 user` | read state, once the member has marked anything read | mark read |
//! | `30 id` | a message's number: in the channel, or in its thread | send (append's index) |
//! | `31 id` | the number of the message replied to; absent for a message of the channel's own sequence | send |
//! | `40 place` | a message | send (append), edit, delete |
//! | `42 place n` | what edit `n` replaced | edit |
//! | `50 place 01` | replies ever sent in this thread: the thread's sequence | send (append) |
//! | `50 place 02` | replies deleted | delete |
//! | `50 place 03 type` | reactions of a type | react |
//! | `51 place type 00 user` | a reaction | react |
//! | `60 n` | a countable message of the channel that no longer counts | delete |
//! | `70`, `71 n` | the outbox: its sequence, its jobs | create, members |
//! | `72` | the outbox's epoch, which fences the removal of pointers | the worker |
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
//! | reply in a thread | no (threads get a read state of their own) |
//! | deleted | no longer, from the moment of the deletion |
//! | edited | as before |
//! | sent before the member joined, or before it came back | no, but see below |
//! | held or shadowed by moderation | no, by the same row `60` (not written yet) |
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

mod channel;
mod chat;
mod event;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod history;
mod ids;
mod keys;
mod member;
mod membership;
mod message;
mod modify;
mod options;
mod outbox;
mod reaction;
mod read_state;
mod rows;
mod send;
mod stats;
mod subscribe;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod text_change;
mod token;
mod verify;

pub use channel::{Channel, ChannelChange, NewChannel};
pub use chat::{Chat, KEYSPACE};
pub use event::{ChatEvent, Delivery, Position};
pub use history::{HistoryPage, HistoryRequest, Order};
pub use ids::{AppId, ChannelId, NAME_BYTES_MAX, Place};
pub use member::{Listing, Member, NewMember};
pub use message::{Edit, Message, MessageStats, NewMessage, PreviousText};
pub use options::{ChatOptions, Rights};
pub use outbox::{OutboxRun, OutboxWorker};
pub use reaction::{NewReaction, Reaction};
pub use read_state::{ReadState, ReadTo, Unread};
pub use subscribe::{ResumeFrom, Subscription};
pub use text_change::MessageChange;
pub use token::ResumeToken;
pub use verify::Verification;
