//! Rate limits: how many requests of a kind an app makes in a minute, a quarter of an hour and an hour.
//!
//! The counts are this node's own: behind a balancer over `n` nodes an app reaches up to `n` times a limit.
//! Invariant: memory is bounded by the apps that called within the last hour times the kinds of limits.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use axum::http::{HeaderMap, HeaderValue};

use crate::apps::App;
use crate::error::{ApiError, ApiResult};

/// The windows, in seconds, and how many times the limit of a minute each takes.
const WINDOWS: [(u64, u64); 3] = [(60, 1), (900, 10), (3_600, 30)];
/// How many counters there may be before those of apps that are quiet are dropped.
const COUNTERS_MAX: usize = 65_536;

/// Which limit an endpoint falls under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// Adding and removing activities.
    Add,
    /// Sockets of chat.
    ChatConnect,
    /// Queries of chat by filter.
    ChatQuery,
    /// Reading chat.
    ChatRead,
    /// Searching messages of chat.
    ChatSearch,
    /// Sending messages of chat.
    ChatSend,
    /// Whatever else changes something of chat.
    ChatWrite,
    /// Changing collections.
    Collection,
    /// Uploading and deleting files.
    File,
    /// Following.
    Follow,
    /// Scraping pages.
    OpenGraph,
    /// Whatever has no limit of its own.
    Other,
    /// Changing reactions of feeds.
    Reaction,
    /// Reading feeds.
    Read,
    /// Changing activities.
    Update,
    /// Changing users of feeds.
    User,
}

/// Every limit, its name in an app's `rates`, and its default in requests a minute.
pub(crate) const LIMITS: &[(Limit, &str, u32)] = &[
    (Limit::Add, "add", 1_000),
    (Limit::ChatConnect, "chat_connect", 20_000),
    (Limit::ChatQuery, "chat_query", 10_000),
    (Limit::ChatRead, "chat_read", 20_000),
    (Limit::ChatSearch, "chat_search", 1_200),
    (Limit::ChatSend, "chat_send", 10_000),
    (Limit::ChatWrite, "chat_write", 10_000),
    (Limit::Collection, "collection", 1_000),
    (Limit::File, "file", 120),
    (Limit::Follow, "follow", 500),
    (Limit::OpenGraph, "open_graph", 120),
    (Limit::Other, "other", 1_000),
    (Limit::Reaction, "reaction", 1_000),
    (Limit::Read, "read", 2_000),
    (Limit::Update, "update", 250),
    (Limit::User, "user", 1_000),
];

impl Limit {
    /// Its name in an app's `rates`.
    pub fn name(self) -> &'static str {
        LIMITS.iter().find(|(limit, ..)| *limit == self).map_or("", |(_, name, _)| name)
    }

    /// Its requests a minute for an app that says nothing of it.
    pub fn per_minute_default(self) -> u32 {
        LIMITS.iter().find(|(limit, ..)| *limit == self).map_or(u32::MAX, |(.., default)| *default)
    }

    /// Its requests a minute for an app.
    pub(crate) fn per_minute(self, app: &App) -> u32 {
        let row = LIMITS.iter().find(|(limit, ..)| *limit == self);
        row.map_or(u32::MAX, |(_, name, default)| app.rates.get(*name).copied().unwrap_or(*default))
    }
}

/// What a client is told of its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Requests a minute.
    pub limit: u32,
    /// How many of them are left.
    pub remaining: u64,
    /// When the minute ends, in seconds since the epoch.
    pub reset_s: u64,
}

impl Quota {
    /// Writes the three headers.
    pub fn write(self, headers: &mut HeaderMap) {
        headers.insert("x-ratelimit-limit", HeaderValue::from(self.limit));
        headers.insert("x-ratelimit-remaining", HeaderValue::from(self.remaining));
        headers.insert("x-ratelimit-reset", HeaderValue::from(self.reset_s));
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Window {
    number: u64,
    count: u64,
}

/// The counters of a node.
#[derive(Default)]
pub(crate) struct Limiter {
    counters: Mutex<BTreeMap<(u32, Limit), [Window; WINDOWS.len()]>>,
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Limiter")
    }
}

impl Limiter {
    /// Counts a request, or refuses it with what is left to wait. A refused one is not counted.
    pub(crate) fn take(&self, app: &App, limit: Limit, now_ms: u64) -> (Quota, ApiResult<()>) {
        let now_s = now_ms / 1_000;
        let per_minute = limit.per_minute(app);
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        if counters.len() >= COUNTERS_MAX && !counters.contains_key(&(app.id, limit)) {
            let hour = now_s / 3_600;
            counters.retain(|_, windows| windows.last().is_some_and(|last| last.number == hour));
        }
        let windows = counters.entry((app.id, limit)).or_default();
        let mut refused: Option<(u64, u64)> = None;
        for (window, (seconds, times)) in windows.iter_mut().zip(WINDOWS) {
            let number = now_s / seconds;
            if window.number != number {
                *window = Window { number, count: 0 };
            }
            if window.count >= u64::from(per_minute) * times {
                refused = Some((seconds, (number + 1) * seconds - now_s));
            }
        }
        if refused.is_none() {
            for window in windows.iter_mut() {
                window.count += 1;
            }
        }
        let used = windows.first().map_or(0, |minute| minute.count);
        let remaining = if refused.is_some() { 0 } else { u64::from(per_minute).saturating_sub(used) };
        let quota = Quota { limit: per_minute, remaining, reset_s: (now_s / 60 + 1) * 60 };
        let answer = refused.map_or(Ok(()), |(window_s, wait_s)| {
            let name = limit.name();
            let minutes = window_s / 60;
            Err(ApiError::rate(
                format!("the limit '{name}' of {minutes} minutes is reached; come again in {wait_s} s"),
                wait_s,
            ))
        });
        (quota, answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(id: u32) -> App {
        App { id, rates: BTreeMap::from([("add".to_owned(), 2)]), ..App::default() }
    }

    #[test]
    fn three_windows_hold_at_once() {
        let limiter = Limiter::default();
        let take = |app: &App, second: u64| limiter.take(app, Limit::Add, second * 1_000);
        let (quota, answer) = take(&app(1), 3_600);
        assert_eq!((quota.limit, quota.remaining, quota.reset_s), (2, 1, 3_660));
        assert!(answer.is_ok() && take(&app(1), 3_601).1.is_ok());
        let (quota, answer) = take(&app(1), 3_659);
        assert_eq!((quota.remaining, answer.expect_err("refused").retry_after_s), (0, Some(1)));
        assert!(take(&app(2), 3_659).1.is_ok(), "apps do not share");
        assert!(limiter.take(&app(1), Limit::Read, 3_659_000).1.is_ok(), "nor do limits");
        // Two a minute fill the quarter of an hour after ten minutes.
        for minute in 1..10 {
            for _ in 0..2 {
                assert!(take(&app(1), 3_600 + 60 * minute).1.is_ok(), "minute {minute}");
            }
        }
        let refused = take(&app(1), 3_600 + 60 * 10).1.expect_err("refused");
        assert_eq!(refused.retry_after_s, Some(300));
        assert!(take(&app(1), 3_600 + 900).1.is_ok());
    }

    #[test]
    fn the_table_names_each_limit_once() {
        assert!(LIMITS.windows(2).all(|pair| pair.first() < pair.last()));
        assert_eq!(Limit::Read.per_minute(&App::default()), 2_000);
    }
}
