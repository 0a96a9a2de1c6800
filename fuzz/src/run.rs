//! The loop: inputs into a target until it is enough, panics caught and turned into a report.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use keevo_core::Clock;

use crate::mutate::Mutator;
use crate::targets::Target;

/// How many inputs run between two looks at the clock.
const ROUND: u64 = 256;

/// When a run ends, if nothing fails before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// After this many executions.
    Executions(u64),
    /// After this time.
    After(Duration),
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// How often the target was called.
    pub executions: u64,
    /// How many inputs it accepted: a target that accepts none tests only its first check.
    pub accepted: u64,
    /// The first input that made it panic.
    pub failure: Option<Failure>,
}

/// An input that makes a target panic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The input.
    pub input: Vec<u8>,
    /// What the panic said.
    pub message: String,
}

/// Feeds `target` with mutations of its samples under `seed`, until `stop` or the first panic.
pub fn run(target: &Target, seed: u64, stop: Stop, clock: &impl Clock) -> Tally {
    let mut mutator = Mutator::new(seed, (target.samples)());
    let started = clock.monotonic();
    let mut tally = Tally { executions: 0, accepted: 0, failure: None };
    loop {
        let enough = match stop {
            Stop::Executions(count) => tally.executions >= count,
            Stop::After(time) => {
                tally.executions.is_multiple_of(ROUND) && clock.monotonic().saturating_sub(started) >= time
            }
        };
        if enough {
            return tally;
        }
        let input = mutator.input();
        tally.executions += 1;
        match catch_unwind(AssertUnwindSafe(|| (target.accepts)(&input))) {
            Ok(accepted) => tally.accepted += u64::from(accepted),
            Err(panic) => {
                let message = panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                    .unwrap_or_else(|| "a panic without a message".to_owned());
                tally.failure = Some(Failure { input, message });
                return tally;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keevo_core::{ManualClock, SystemClock};

    fn target(accepts: fn(&[u8]) -> bool) -> Target {
        Target { name: "test", accepts, samples: || vec![b"abcdef".to_vec()] }
    }

    #[test]
    fn a_panic_is_reported_with_its_input() {
        let picky = target(|input| {
            assert!(input.first() != Some(&b'a') || input.len() != 3, "three from a");
            true
        });
        let tally = run(&picky, 1, Stop::Executions(100_000), &SystemClock::new());
        let failure = tally.failure.expect("truncation finds it");
        assert_eq!((failure.input.len(), failure.message.as_str()), (3, "three from a"));
        assert!(tally.executions < 100_000);
    }

    #[test]
    fn a_run_ends_when_it_is_enough() {
        let quiet = target(|input| input.len() == 6);
        let tally = run(&quiet, 1, Stop::Executions(1_000), &ManualClock::new(0));
        assert_eq!((tally.executions, &tally.failure), (1_000, &None));
        assert!(tally.accepted > 0 && tally.accepted < 1_000);
        assert_eq!(run(&quiet, 1, Stop::After(Duration::ZERO), &ManualClock::new(0)).executions, 0);
    }
}
