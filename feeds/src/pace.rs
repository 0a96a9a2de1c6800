//! The pace of a fan-out: it goes in steps of so many targets, and a step may have to wait.
//!
//! ```text
//! step ▸ step ▸ step      as fast as it goes: all processors, and all shards, are busy as long as it lasts
//! step · · step · · step  paced: whoever reads meanwhile waits for one step at most
//! ```
//!
//! One fan-out reaches no more than so many targets a second. Where steps take longer than that anyway, there is more to do
//! than the machine can: then they get larger, since a large one costs less for each target. A job of the bulk lane has
//! time: it also rests as long as its step took.
//!
//! Invariant: the first step never waits, and none waits longer than its targets, or [`REST_MAX`], ask for.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::lanes::Lane;

/// The targets of a step where there is time.
pub(crate) const STEP_MIN: usize = 1_024;
/// The targets of a step where there is none.
pub(crate) const STEP_MAX: usize = 4_096;
/// How long a job of the bulk lane rests at most between two steps.
const REST_MAX: Duration = Duration::from_millis(20);
/// What timers cannot keep apart is not waited for; it adds up.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// The size of steps that all fan-outs of an instance go by.
#[derive(Debug)]
pub(crate) struct Step(AtomicUsize);

impl Default for Step {
    fn default() -> Self {
        Self(AtomicUsize::new(STEP_MIN))
    }
}

impl Step {
    /// Takes in that a step to `targets` targets was, or was not, behind its pace. Small ones say nothing.
    fn adapt(&self, targets: usize, is_behind: bool) {
        let step = self.0.load(Ordering::Relaxed);
        if targets >= step / 2 {
            let next = if is_behind { step * 2 } else { step / 2 };
            self.0.store(next.clamp(STEP_MIN, STEP_MAX), Ordering::Relaxed);
        }
    }
}

/// The pace of one fan-out.
#[derive(Debug)]
pub(crate) struct Pace<'a> {
    step: &'a Step,
    targets_per_s_max: u64,
    rests: bool,
    /// When the next step may begin; `None` = at once.
    due: Option<Instant>,
}

impl<'a> Pace<'a> {
    /// The pace of a driver in `lane`, or of a caller.
    pub(crate) fn new(step: &'a Step, lane: Option<Lane>, targets_per_s_max: u64) -> Self {
        Self { step, targets_per_s_max, rests: lane == Some(Lane::Bulk), due: None }
    }

    /// How many targets the next step reaches at most.
    pub(crate) fn targets(&self) -> usize {
        self.step.0.load(Ordering::Relaxed)
    }

    /// Waits until the next step may begin; when that is.
    pub(crate) async fn turn(&self) -> Instant {
        let now = Instant::now();
        match self.due.filter(|due| due.saturating_duration_since(now) >= WAIT_MIN) {
            Some(due) => {
                tokio::time::sleep_until(due).await;
                Instant::now()
            }
            None => now,
        }
    }

    /// Takes in that a step to `targets` targets went from `began` to `ended`.
    pub(crate) fn ended(&mut self, targets: usize, began: Instant, ended: Instant) {
        let micros =
            u64::try_from(targets).unwrap_or(u64::MAX).saturating_mul(1_000_000) / self.targets_per_s_max.max(1);
        // From when it was due on: what a timer is late by is made up for.
        let due = self.due.unwrap_or(began).checked_add(Duration::from_micros(micros)).unwrap_or(ended);
        self.step.adapt(targets, due <= ended);
        let rested = self.rests.then(|| ended + ended.saturating_duration_since(began).min(REST_MAX));
        self.due = Some(due).filter(|due| *due > ended).max(rested);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[tokio::test]
    async fn a_quick_step_is_waited_for_and_a_slow_one_makes_the_next_larger() {
        let (step, start) = (Step::default(), Instant::now());
        let mut pace = Pace::new(&step, None, 100_000);
        assert_eq!((pace.targets(), pace.due), (1_024, None), "the first goes at once");
        pace.ended(1_000, start, start + ms(3));
        assert_eq!(pace.due, Some(start + ms(10)), "a thousand take ten milliseconds");
        pace.ended(1_000, start + ms(11), start + ms(14));
        assert_eq!((pace.due, pace.targets()), (Some(start + ms(20)), 1_024), "a late timer is made up for");
        pace.ended(1_000, start + ms(20), start + ms(50));
        assert_eq!((pace.due, pace.targets()), (None, 2_048), "what is behind does not wait, and does not catch up");
        pace.ended(10, start + ms(50), start + ms(60));
        assert_eq!(pace.targets(), 2_048, "a small step says nothing");
        pace.ended(2_000, start + ms(60), start + ms(90));
        pace.ended(4_000, start + ms(90), start + ms(150));
        assert_eq!(pace.targets(), 4_096, "that is the most");
        assert_eq!(Pace::new(&step, None, 100_000).targets(), 4_096, "the next fan-out begins with it");
        pace.ended(4_000, start + ms(150), start + ms(160));
        assert_eq!((pace.due, pace.targets()), (Some(start + ms(190)), 2_048), "and it gets smaller again");
    }

    #[tokio::test]
    async fn a_large_job_rests_as_long_as_it_works_but_not_for_long() {
        let (step, start) = (Step::default(), Instant::now());
        let mut pace = Pace::new(&step, Some(Lane::Bulk), u64::MAX);
        pace.ended(1_000, start, start + ms(3));
        assert_eq!(pace.due, Some(start + ms(6)));
        pace.ended(1_000, start + ms(6), start + ms(506));
        assert_eq!(pace.due, Some(start + ms(526)));
        for lane in [None, Some(Lane::Prompt)] {
            let mut pace = Pace::new(&step, lane, u64::MAX);
            pace.ended(1_000, start, start + ms(3));
            assert_eq!(pace.due, None, "{lane:?}: others are waited for");
        }
    }

    #[tokio::test]
    async fn a_turn_comes_when_it_is_due() {
        let (step, start) = (Step::default(), Instant::now());
        let mut pace = Pace::new(&step, None, 100_000);
        pace.ended(2_000, start, start + ms(1));
        assert!(pace.turn().await >= start + ms(20));
    }
}
