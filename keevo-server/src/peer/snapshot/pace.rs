//! How fast a node sends snapshots, all of them together.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A bound on bytes a second, shared by whoever sends.
#[derive(Debug)]
pub(in crate::peer) struct Pace {
    bytes_per_second: u64,
    /// When what was let through so far will have been sent at that pace.
    sent_at: Mutex<Option<Instant>>,
}

impl Pace {
    /// `bytes_per_second` of 0 means no bound.
    pub(in crate::peer) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, sent_at: Mutex::new(None) }
    }

    /// Waits until `bytes` more may be sent.
    pub(super) async fn pass(&self, bytes: usize) {
        if self.bytes_per_second == 0 {
            return;
        }
        let micros =
            u128::try_from(bytes).unwrap_or(u128::MAX).saturating_mul(1_000_000) / u128::from(self.bytes_per_second);
        let cost = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        let start = {
            let mut sent_at = self.sent_at.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let start = sent_at.map_or(now, |at| at.max(now));
            *sent_at = Some(start + cost);
            start
        };
        tokio::time::sleep_until(start).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_is_let_through_faster_than_the_pace_and_a_pause_gives_no_credit() {
        let pace = Pace::new(10_000);
        let started = Instant::now();
        tokio::join!(pace.pass(500), pace.pass(500));
        pace.pass(1).await;
        assert!(started.elapsed() >= Duration::from_millis(100), "{:?}", started.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
        let started = Instant::now();
        pace.pass(1_000).await;
        pace.pass(1).await;
        assert!(started.elapsed() >= Duration::from_millis(100), "{:?}", started.elapsed());
        // Without a bound it would take longer than any test.
        Pace::new(0).pass(usize::MAX).await;
    }
}
