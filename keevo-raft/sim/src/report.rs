//! What a run says of itself: what happened, what was checked, and, if a promise broke, how to see it again.

use std::collections::BTreeMap;
use std::fmt;

use crate::world::World;

/// A run that kept all promises.
#[derive(Debug, Clone)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// A hash over the event log: the same in every run of the seed.
    pub log_hash: u64,
    /// How many lines the event log has.
    pub log_lines: u64,
    /// The event log itself, if it was asked for.
    pub log: Option<Vec<u8>>,
    /// How long the run took in the simulation, in milliseconds.
    pub simulated_ms: u64,
    /// How often each fault struck.
    pub faults: BTreeMap<&'static str, u64>,
    /// How many operations of each kind the program did.
    pub operations: BTreeMap<&'static str, u64>,
    /// How often each invariant was evaluated.
    pub checks: BTreeMap<&'static str, u64>,
}

impl Report {
    pub(crate) fn new(seed: u64, world: &World) -> Self {
        let counts = world.counts();
        let mut log = world.log();
        Self {
            seed,
            log_hash: log.hash(),
            log_lines: log.lines(),
            log: log.take_whole(),
            simulated_ms: world.now_ms(),
            faults: counts.faults,
            operations: counts.operations,
            checks: counts.checks,
        }
    }
}

/// A run that broke a promise.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What broke.
    pub what: String,
    /// When, in milliseconds of the simulation.
    pub at_ms: u64,
    /// How long faults struck, in milliseconds.
    pub chaos_ms: u64,
    /// The end of the event log.
    pub tail: String,
    /// What had happened until then.
    pub report: Report,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {} at {} ms: {}", self.seed, self.at_ms, self.what)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// A failure of which nothing else is known.
    pub(crate) fn outside(seed: u64, what: &str) -> Self {
        let report = Report {
            seed,
            log_hash: 0,
            log_lines: 0,
            log: None,
            simulated_ms: 0,
            faults: BTreeMap::new(),
            operations: BTreeMap::new(),
            checks: BTreeMap::new(),
        };
        Self { seed, what: what.to_owned(), at_ms: 0, chaos_ms: 0, tail: String::new(), report }
    }
}
