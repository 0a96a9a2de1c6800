//! The API log of a node: what its doors record, and how it is read and replayed.
//!
//! ```text
//! gRPC of keys and values ──┐                                  ┌─▶ read: the committed log of a shard ─▶ keevo-cli apilog
//! gRPC of feeds and chat ───┼─▶ CallLog ─▶ note in a log entry ─┤
//! HTTP of feeds and chat ───┘      │                           └─▶ replay: the same calls, at another cluster
//!                                  └─▶ outcomes: calls that failed although their note is in the log
//! ```
//!
//! Invariant: recording costs no write of its own, but for calls that fail after they wrote. docs/API-LOG.md says what is
//! recorded, what is not, and what a replay promises.

mod archived;
pub(crate) mod cursor;
mod frame;
pub(crate) mod hash;
pub(crate) mod logged;
pub(crate) mod outcomes;
pub(crate) mod read;
pub(crate) mod redact;
pub(crate) mod replay;
pub(crate) mod user;

pub(crate) use logged::Logged;
pub(crate) use replay::Replayer;

/// The keyspace with the cursors of replays.
pub const KEYSPACE: &str = "apilog";
