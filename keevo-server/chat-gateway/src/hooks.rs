//! Hooks: what an app's own server is asked before a message is sent, told of events, and has done for commands.
//!
//! Each body is JSON, posted and signed as docs/CHAT-API.md says. Addresses are judged as those of the feeds' webhooks are,
//! after their names were resolved.
//!
//! Invariant: a hook that is slow or down costs the app that named it, and no other app.

mod before;
mod claim;
mod command;
mod news;
mod pump;

pub(crate) use before::{Saying, ask, stored_before};
pub(crate) use claim::forget;
pub(crate) use command::commands;
pub(crate) use news::EVENTS;
pub(crate) use pump::run;
