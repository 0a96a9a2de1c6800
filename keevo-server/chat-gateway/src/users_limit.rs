//! How many requests a user makes in a minute, whatever they are.
//!
//! The counts are this node's own. Invariant: memory is bounded: users who were quiet in the minute are forgotten when
//! there are many, and all of them when too many were not.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use keevo_gateway::shared::ApiError;

/// How many users are counted before those who are quiet are dropped.
const USERS_MAX: usize = 65_536;

/// The counters of a node, by app and user: the number of the minute, and how many requests it had.
#[derive(Debug)]
pub(crate) struct UserLimiter {
    per_minute: u32,
    counters: Mutex<BTreeMap<(u32, String), (u64, u32)>>,
}

impl UserLimiter {
    pub(crate) fn new(per_minute: u32) -> Self {
        Self { per_minute, counters: Mutex::default() }
    }

    /// Counts a request, or refuses it.
    pub(crate) fn take(&self, app: u32, user: &str, now_ms: u64) -> Result<(), ApiError> {
        let minute = now_ms / 60_000;
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        if counters.len() >= USERS_MAX {
            counters.retain(|_, (of, _)| *of == minute);
            if counters.len() >= USERS_MAX {
                counters.clear();
            }
        }
        let (of, count) = counters.entry((app, user.to_owned())).or_insert((minute, 0));
        if *of != minute {
            (*of, *count) = (minute, 0);
        }
        if *count >= self.per_minute {
            let wait_s = ((minute + 1) * 60_000 - now_ms).div_ceil(1_000).max(1);
            let most = self.per_minute;
            let detail =
                format!("user {user} made {most} requests this minute, the most there are; come again in {wait_s} s");
            return Err(ApiError::rate(detail, wait_s));
        }
        *count += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_so_many_and_the_next_begins_anew() {
        let limiter = UserLimiter::new(3);
        for _ in 0..3 {
            limiter.take(1, "ann", 60_000).expect("within the limit");
        }
        let refused = limiter.take(1, "ann", 61_000).expect_err("one too many");
        assert_eq!(refused.retry_after_s, Some(59));
        assert!(limiter.take(1, "bob", 61_000).is_ok() && limiter.take(2, "ann", 61_000).is_ok());
        assert!(limiter.take(1, "ann", 120_000).is_ok());
    }
}
