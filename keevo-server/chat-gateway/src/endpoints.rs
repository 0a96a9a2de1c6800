//! What the endpoints do, one file per kind of thing.
//!
//! Invariant: an endpoint asks whether the caller may before it reads or changes anything that the library does not judge
//! itself.

pub(crate) mod bans;
pub(crate) mod channels;
pub(crate) mod commands;
pub(crate) mod drafts;
pub(crate) mod groups;
pub(crate) mod held;
pub(crate) mod invites;
pub(crate) mod listing;
pub(crate) mod locations;
pub(crate) mod members;
pub(crate) mod messages;
pub(crate) mod people;
pub(crate) mod polls;
pub(crate) mod reactions;
pub(crate) mod reading;
pub(crate) mod reminders;
pub(crate) mod review;
pub(crate) mod search;
pub(crate) mod sending;
pub(crate) mod settings;
pub(crate) mod state;
pub(crate) mod threads;
pub(crate) mod transfer;
pub(crate) mod votes;

use serde_json::{Value, json};

/// An answer that says nothing.
fn nothing() -> Value {
    json!({})
}

/// The `next` of a page: the last one's name, where the page is full.
fn next<T>(page: &[T], limit: usize, name: impl Fn(&T) -> String) -> Option<String> {
    page.last().filter(|_| page.len() >= limit).map(name)
}
