//! What clients do while faults strike, and afterwards; each workload ends by judging what it recorded.

pub(crate) mod bank;
mod chat;
mod counters;
pub(crate) mod feeds;
mod guards;
mod registers;
mod watches;

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use keevo_core::Result;

use crate::invariant::liveness;
use crate::plan::Plan;
use crate::sim::{Sim, Violation};

type Verdict = std::result::Result<(), Violation>;

/// The program of a seed: all workloads that its plan names, side by side.
pub(crate) async fn program(sim: Sim) -> Verdict {
    let on = sim.plan.workloads;
    let mut running: Vec<BoxFuture<'static, Verdict>> = Vec::new();
    if on.registers {
        running.push(registers::run(sim.clone()).boxed());
    }
    if on.counters {
        running.push(counters::run(sim.clone()).boxed());
    }
    if on.bank {
        running.push(bank::run(sim.clone()).boxed());
    }
    if on.watches {
        running.push(watches::run(sim.clone()).boxed());
    }
    if on.feeds {
        running.push(feeds::run(sim.clone()).boxed());
        running.push(guards::run(sim.clone()).boxed());
    }
    if on.chat {
        running.push(chat::run(sim.clone()).boxed());
    }
    running.push(liveness::run(sim.clone()).boxed());
    let tasks: Vec<_> = running.into_iter().map(tokio::spawn).collect();
    for task in tasks {
        task.await.map_err(|error| Violation::new(format!("a workload ended badly: {error}")))??;
    }
    Ok(())
}

/// Runs futures as tasks and waits for all of them.
pub(crate) async fn join_all(futures: impl IntoIterator<Item = impl Future<Output = ()> + Send + 'static>) {
    let tasks: Vec<_> = futures.into_iter().map(tokio::spawn).collect();
    for task in tasks {
        // A panic in it is noted by the run.
        let _ended = task.await;
    }
}

/// Repeats a call that may be repeated until it succeeds; faults are no excuse once they are over.
pub(crate) async fn until_ok<T, F: Future<Output = Result<T>>>(sim: &Sim, call: impl Fn() -> F) -> Result<T> {
    let mut failures_in_calm = 0;
    loop {
        match call().await {
            Ok(value) => return Ok(value),
            Err(error) if failures_in_calm >= 200 => return Err(error),
            Err(_) => failures_in_calm += u64::from(sim.is_calm()),
        }
        sim.sleep(Duration::from_millis(300)).await;
    }
}

/// Every invariant, by the name under which its evaluations are counted.
pub(crate) const INVARIANTS: [&str; 15] = [
    "election safety",
    "quiet start",
    "log matching",
    "log recovery",
    "leader completeness",
    "state-machine safety",
    "lease safety",
    "exactly once",
    "nothing acknowledged is lost",
    "atomicity",
    "watch order and completeness",
    "fan-out complete",
    "fan-out guards",
    "chat sequence",
    "liveness",
];

/// The invariants that a run must have evaluated.
pub(crate) fn expected(plan: &Plan) -> Vec<&'static str> {
    let on = plan.workloads;
    let mut names = vec!["election safety", "log matching", "log recovery", "state-machine safety", "liveness"];
    let of = [
        (on.registers, "lease safety"),
        (on.counters, "exactly once"),
        (on.counters, "nothing acknowledged is lost"),
        (on.bank, "atomicity"),
        (on.watches, "watch order and completeness"),
        (on.feeds, "fan-out complete"),
        (on.feeds, "fan-out guards"),
        (on.chat, "chat sequence"),
    ];
    names.extend(of.into_iter().filter(|(on, _)| *on).map(|(_, name)| name));
    names
}
