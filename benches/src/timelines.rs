//! Timelines: one activity goes to many followers, and a follower reads its newest 25 with what they refer to.
//!
//! ```text
//! post    the activity is stored, and an entry for it in each follower's timeline; durable when it returns
//! page    the newest entries of one timeline ─▶ their activities ─▶ the users who acted
//! ```
//!
//! Invariant: all systems store the same activities and answer the same pages; one that gives less than a full page, or
//! an activity without its user, has failed.

mod drive;
mod keevo;
mod postgres;
mod redis;

use keevo_core::{Error, Result};

pub(crate) use drive::{Pages, fan_outs, pages, post_all, preload};
pub(crate) use keevo::KeevoTimelines;
pub(crate) use postgres::PostgresTimelines;
pub(crate) use redis::RedisTimelines;

/// How many activities a page has.
pub(crate) const PAGE: usize = 25;
/// How many users act, in turns.
const USERS: u64 = 100;
/// The bytes of what is kept about a user.
const USER_BYTES: usize = 100;

/// What is stored, whatever the system.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// How many timelines there are; each gets every activity.
    pub(crate) followers: u32,
    /// The bytes of an activity's text.
    pub(crate) text_bytes: usize,
}

/// A system that keeps timelines. Cheap to clone; clones share connections.
pub(crate) trait Timelines: Clone + Send + Sync + 'static {
    /// Stores one more activity, and an entry for it in every timeline; returns once all are durable.
    fn post(&self) -> impl Future<Output = Result<()>> + Send;

    /// Reads the newest [`PAGE`] activities of a follower's timeline with their users; returns how many were whole.
    fn page(&self, follower: u32) -> impl Future<Output = Result<usize>> + Send;

    /// How many entries all timelines have together. `Corrupt` when some of those that were answered are missing.
    fn entries(&self) -> impl Future<Output = Result<u64>> + Send;
}

/// The user who acts in activity `number`.
fn user_of(number: u64) -> String {
    format!("u{}", number % USERS)
}

/// The text of activity `number`: letters that hardly compress, the same on every system.
fn text_of(number: u64, bytes: usize) -> String {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let letter = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'a' + u8::try_from(state % 26).unwrap_or_default())
    };
    (0..bytes).map(letter).collect()
}

/// What is kept about each user.
fn user_text(number: u64) -> String {
    text_of(number, USER_BYTES)
}

/// Refuses a page that is not full.
fn full(whole: usize) -> Result<()> {
    if whole == PAGE {
        return Ok(());
    }
    Err(Error::corrupt(format!("a page has {whole} whole activities, not {PAGE}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_differ_by_number_and_have_their_length() {
        assert_eq!(text_of(1, 200).len(), 200);
        assert_eq!(text_of(1, 200), text_of(1, 200));
        assert_ne!(text_of(1, 200), text_of(2, 200));
        assert!(text_of(7, 500).bytes().all(|letter| letter.is_ascii_lowercase()));
        assert_eq!((user_of(3), user_of(103)), ("u3".to_owned(), "u3".to_owned()));
        assert!(full(25).is_ok() && full(24).is_err());
    }
}
