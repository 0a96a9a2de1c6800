//! The simulator's own promises: a seed replays to the byte, another seed does not, and what a program does wrong is
//! found. Runs in `make sim`'s build only: elsewhere tokio is not seeded.
#![cfg(tokio_unstable)]

#[path = "../examples/tickets.rs"]
mod tickets;

use keevo_core::{Batch, Engine, KeyspaceKind};
use keevo_sim::{Report, Sim, Violation, run_swarm};
use tickets::{Seller, first_failure};

/// The report of a seed, whether it kept all promises or not.
fn report(seed: u64) -> Report {
    match run_swarm(seed, true) {
        Ok(report) => report,
        Err(failure) => failure.report,
    }
}

/// These seeds once gave another log at their second run in a process: tokio drops the tasks of a crashed host in an
/// order that depends on how many tasks the process has had before.
#[test]
fn a_seed_replays_to_the_byte() {
    let seeds = [21, 31];
    let first = seeds.map(report);
    let second = seeds.map(report);
    for (one, other) in first.iter().zip(&second) {
        assert!(one.log_lines > 1_000, "seed {}: {} lines", one.seed, one.log_lines);
        assert_eq!(one.log_hash, other.log_hash, "seed {}", one.seed);
        assert!(one.log.is_some() && one.log == other.log, "seed {}", one.seed);
    }
    let [one, other] = first;
    assert_ne!(one.log_hash, other.log_hash, "two seeds are two runs");
}

#[test]
fn the_planted_bug_is_found_and_the_careful_seller_has_none() {
    let (seed, what) = first_failure(Seller::Hasty, 36).expect("a few dozen seeds are enough");
    assert!(what.contains("tickets are left"), "{what}");
    assert_eq!(first_failure(Seller::Careful, seed), None);
}

#[test]
fn a_violation_and_a_panic_of_the_program_fail_the_run() {
    let violated = Sim::builder(3).run(|_sim| async { Err(Violation::new("so it is")) });
    assert_eq!(violated.map(|report| report.seed).expect_err("a violation").what, "so it is");
    let panicked = Sim::builder(3).run(|sim| async move {
        let engine = sim.engine();
        let keyspace = engine.keyspace("mine", KeyspaceKind::Hashed).await?;
        engine.write(Batch::new().put(keyspace.key("a", "b"), "1")).await?;
        panic!("on purpose");
    });
    let failure = panicked.map(|report| report.seed).expect_err("a panic");
    assert!(failure.what.contains("on purpose"), "{failure}");
}
