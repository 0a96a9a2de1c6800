//! Running many seeds: one after the other, some of them twice, with one line at the end.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::time::Duration;

use keevo_core::{Clock, SystemClock};

use crate::plan::{Fault, Plan};
use crate::report::{Failure, Report};
use crate::sim::SimBuilder;
use crate::workload;

/// Which seeds to run, and how.
#[derive(Debug, Clone)]
pub struct RunnerOptions {
    /// The first seed.
    pub first: u64,
    /// How many.
    pub seeds: u64,
    /// Stops at the first failure.
    pub until_failure: bool,
    /// Every how many seeds one is run twice and compared byte for byte; 0 = never.
    pub replay_every: u64,
}

/// What came of the seeds.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Seeds that kept all promises.
    pub passed: u64,
    /// Seeds that did not.
    pub failed: u64,
    /// Seeds that were run twice.
    pub replayed: u64,
    /// Those of them whose event logs were the same.
    pub identical: u64,
    /// How long all runs took in the simulation, in milliseconds.
    pub simulated_ms: u64,
    /// How long they took on this machine.
    pub took: Duration,
    /// How often each fault struck.
    pub faults: BTreeMap<&'static str, u64>,
    /// How many operations of each kind there were.
    pub operations: BTreeMap<&'static str, u64>,
    /// How often each invariant was evaluated.
    pub checks: BTreeMap<&'static str, u64>,
    /// What was wrong with the set of runs as a whole.
    pub complaints: Vec<String>,
}

impl Summary {
    /// Whether everything passed, and something ran.
    pub fn is_ok(&self) -> bool {
        self.passed > 0 && self.failed == 0 && self.identical == self.replayed && self.complaints.is_empty()
    }

    fn add(&mut self, report: &Report) {
        self.simulated_ms += report.simulated_ms;
        for (total, part) in [
            (&mut self.faults, &report.faults),
            (&mut self.operations, &report.operations),
            (&mut self.checks, &report.checks),
        ] {
            for (&name, count) in part {
                *total.entry(name).or_default() += count;
            }
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = millis(self.simulated_ms) / 3_600_000.0;
        let minutes = self.took.as_secs_f64() / 60.0;
        write!(
            f,
            "sim: {} passed, {} failed, replays identical {} of {}, simulated hours per minute {:.2}, faults {:?}",
            self.passed,
            self.failed,
            self.identical,
            self.replayed,
            if minutes > 0.0 { hours / minutes } else { 0.0 },
            self.faults
        )
    }
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn millis(count: u64) -> f64 {
    count as f64
}

/// Runs a seed of Keevo's own tests: its shape, its faults and its workloads all follow from the seed.
///
/// # Errors
/// A [`Failure`] when a promise broke, when no fault struck or nothing was done, or when an invariant whose workload
/// ran was never evaluated.
pub fn run_swarm(seed: u64, keep_log: bool) -> Result<Report, Box<Failure>> {
    let mut plan = Plan::swarm(seed);
    plan.whole_log = keep_log;
    let expected = workload::expected(&plan);
    let report = SimBuilder::from_plan(plan).run(workload::program)?;
    let lacks = |what: String| {
        let (at_ms, report) = (report.simulated_ms, report.clone());
        Box::new(Failure { at_ms, report, ..Failure::outside(seed, &what) })
    };
    if report.faults.is_empty() {
        return Err(lacks("no fault struck".to_owned()));
    }
    if report.operations.values().sum::<u64>() < 20 {
        return Err(lacks(format!("too few operations: {:?}", report.operations)));
    }
    match expected.iter().find(|name| !report.checks.contains_key(*name)) {
        Some(name) => Err(lacks(format!("the invariant '{name}' was never evaluated"))),
        None => Ok(report),
    }
}

/// Runs seeds, tells of each failure on `out`, and adds up.
///
/// # Errors
/// When `out` cannot be written to.
pub fn run_seeds(options: &RunnerOptions, out: &mut dyn Write) -> std::io::Result<Summary> {
    let clock = SystemClock::new();
    let mut summary = Summary::default();
    for (number, seed) in (options.first..options.first.saturating_add(options.seeds)).enumerate() {
        let number = u64::try_from(number).unwrap_or(u64::MAX);
        let twice = options.replay_every > 0 && number.is_multiple_of(options.replay_every);
        let outcome = run_swarm(seed, twice);
        let report = match &outcome {
            Ok(report) => report,
            Err(failure) => &failure.report,
        };
        summary.add(report);
        match &outcome {
            Ok(_) => summary.passed += 1,
            Err(failure) => {
                summary.failed += 1;
                tell(out, failure)?;
            }
        }
        if twice {
            summary.replayed += 1;
            let again = run_swarm(seed, true);
            let again = match &again {
                Ok(report) => report,
                Err(failure) => &failure.report,
            };
            summary.simulated_ms += again.simulated_ms;
            if report.log == again.log && report.log_hash == again.log_hash {
                summary.identical += 1;
            } else {
                writeln!(out, "seed {seed}: two runs differ: {}", first_difference(report, again))?;
            }
        }
        if outcome.is_err() && options.until_failure {
            break;
        }
    }
    summary.took = clock.monotonic();
    summary.complaints = complaints(&summary);
    for complaint in &summary.complaints {
        writeln!(out, "{complaint}")?;
    }
    Ok(summary)
}

fn tell(out: &mut dyn Write, failure: &Failure) -> std::io::Result<()> {
    writeln!(out, "{}", failure.tail)?;
    writeln!(out, "{failure}")?;
    writeln!(out, "  again: make sim SEED={}", failure.seed)
}

/// What many runs together must have shown: every fault and every invariant.
fn complaints(summary: &Summary) -> Vec<String> {
    const ENOUGH: u64 = 50;
    if summary.passed + summary.failed < ENOUGH {
        return Vec::new();
    }
    let faults = Fault::ALL.iter().map(|fault| fault.name()).filter(|name| !summary.faults.contains_key(name));
    let mut complaints: Vec<String> = faults.map(|name| format!("the fault '{name}' never struck")).collect();
    let checks = workload::INVARIANTS.iter().filter(|name| !summary.checks.contains_key(*name));
    complaints.extend(checks.map(|name| format!("the invariant '{name}' was never evaluated")));
    complaints
}

/// The first line in which two event logs differ.
fn first_difference(one: &Report, other: &Report) -> String {
    let lines = |report: &Report| String::from_utf8_lossy(report.log.as_deref().unwrap_or_default()).into_owned();
    let (one, other) = (lines(one), lines(other));
    let differs = one.lines().zip(other.lines()).enumerate().find(|(_, (a, b))| a != b);
    match differs {
        Some((number, (a, b))) => format!("line {}\n  {a}\n  {b}", number + 1),
        None => format!("one has {} lines, the other {}", one.lines().count(), other.lines().count()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seeds: u64) -> (Summary, String) {
        let options = RunnerOptions { first: 1, seeds, until_failure: true, replay_every: 0 };
        let mut out = Vec::new();
        let summary = run_seeds(&options, &mut out).expect("a vector takes everything");
        (summary, String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn no_seed_is_no_success() {
        let (summary, told) = run(0);
        assert!(!summary.is_ok());
        assert!(told.is_empty(), "{told}");
        assert!(summary.to_string().starts_with("sim: 0 passed, 0 failed, replays identical 0 of 0, "), "{summary}");
    }

    /// Without its flag tokio makes choices of its own, and a run that does not replay must not pass for one.
    #[cfg(not(tokio_unstable))]
    #[test]
    fn an_ordinary_build_refuses_and_says_what_to_do() {
        let (summary, told) = run(5);
        assert_eq!((summary.passed, summary.failed), (0, 1), "it stops at the first failure");
        assert!(told.contains("use `make sim`"), "{told}");
        assert!(told.contains("again: make sim SEED=1"), "{told}");
    }
}
