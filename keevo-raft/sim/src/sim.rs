//! The simulation as a program sees it, and how one is built.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use keevo_core::Error;
use tokio::sync::watch;

use crate::cluster;
use crate::engine::SimEngine;
use crate::net::Wires;
use crate::plan::{Fault, Plan};
use crate::random::Dice;
use crate::report::{Failure, Report};
use crate::world::lock;

/// Why a program is not content: a broken promise, in one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(pub String);

impl Violation {
    /// The violation that `what` describes.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Error> for Violation {
    fn from(error: Error) -> Self {
        Self(format!("an operation failed that had to succeed: {error}"))
    }
}

impl From<String> for Violation {
    fn from(what: String) -> Self {
        Self(what)
    }
}

pub(crate) type Program = Box<dyn FnOnce(Sim) -> BoxFuture<'static, Result<(), Violation>> + Send>;

/// A running simulation, as the program in it sees it. Cheap to clone.
///
/// The program runs on a host of its own, apart from the nodes; it may spawn tasks and sleep with tokio as usual.
#[derive(Debug, Clone)]
pub struct Sim {
    pub(crate) wires: Wires,
    pub(crate) plan: Arc<Plan>,
    calm: watch::Receiver<bool>,
    members: Arc<Mutex<Members>>,
}

#[derive(Debug, Default)]
pub(crate) struct Members {
    /// The nodes that clients talk to.
    pub(crate) nodes: Vec<u64>,
    pub(crate) removed: Vec<u64>,
    /// Changes of the members that are under way.
    pub(crate) changing: u64,
}

impl Sim {
    pub(crate) fn new(wires: Wires, plan: Arc<Plan>, calm: watch::Receiver<bool>, nodes: Vec<u64>) -> Self {
        let members = Members { nodes, ..Members::default() };
        Self { wires, plan, calm, members: Arc::new(Mutex::new(members)) }
    }

    /// Starts to describe a simulation that replays `seed`.
    pub fn builder(seed: u64) -> SimBuilder {
        SimBuilder { plan: Plan::quiet(seed) }
    }

    /// The cluster's engine: asks a node, and another one where that one is not there.
    pub fn engine(&self) -> SimEngine {
        let nodes = self.nodes();
        let first = self.dice().pick(&nodes).copied().unwrap_or(1);
        SimEngine::new(self.clone(), first, true)
    }

    /// The engine as a client sees it that knows this one node.
    pub fn engine_at(&self, node: u64) -> SimEngine {
        SimEngine::new(self.clone(), node, false)
    }

    /// The nodes of the cluster.
    pub fn nodes(&self) -> Vec<u64> {
        lock(&self.members).nodes.clone()
    }

    /// Milliseconds since the start of the run, by the world's own clock.
    pub fn now_ms(&self) -> u64 {
        self.wires.world.now_ms()
    }

    /// Random decisions that the seed replays. Use no other source in a program.
    pub fn dice(&self) -> &Dice {
        &self.wires.world.program_dice
    }

    /// Waits by the client's clock.
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// Whether the faults are over.
    pub fn is_calm(&self) -> bool {
        *self.calm.borrow()
    }

    /// Waits until the faults are over and everything is mended.
    pub async fn calm(&self) {
        let mut calm = self.calm.clone();
        // The sender lives as long as the run.
        let _over = calm.wait_for(|calm| *calm).await;
    }

    /// Adds a line to the event log.
    pub fn note(&self, what: fmt::Arguments<'_>) {
        self.wires.world.note(what);
    }

    /// Counts an operation of the program.
    pub fn count(&self, operation: &'static str) {
        self.wires.world.count_operation(operation);
    }

    /// Counts evaluations of an invariant.
    pub fn checked(&self, invariant: &'static str, by: u64) {
        self.wires.world.count_checks(invariant, by);
    }

    /// Ends the run with a broken promise.
    pub fn violate(&self, what: impl Into<String>) {
        self.wires.world.violate(what);
    }

    pub(crate) fn with_members<T>(&self, change: impl FnOnce(&mut Members) -> T) -> T {
        change(&mut lock(&self.members))
    }

    pub(crate) fn is_removed(&self, node: u64) -> bool {
        self.with_members(|members| members.removed.contains(&node))
    }
}

/// Describes a simulation.
#[derive(Debug, Clone)]
pub struct SimBuilder {
    plan: Plan,
}

impl SimBuilder {
    /// How many nodes found the cluster; 3 unless told otherwise.
    #[must_use]
    pub fn nodes(mut self, nodes: u64) -> Self {
        self.plan.nodes = nodes.max(1);
        self
    }

    /// How many data shards there are; 2 unless told otherwise.
    #[must_use]
    pub fn shards(mut self, shards: u32) -> Self {
        self.plan.shards = shards.max(1);
        self
    }

    /// How many flushed entries a log keeps; few make snapshots travel.
    #[must_use]
    pub fn log_entries_kept(mut self, entries: u64) -> Self {
        self.plan.timing.log_entries_kept = entries;
        self
    }

    /// The faults that may strike; none unless told otherwise.
    #[must_use]
    pub fn faults(mut self, faults: impl IntoIterator<Item = Fault>) -> Self {
        self.plan.faults = faults.into_iter().collect();
        self.plan.set_up_for_faults();
        self
    }

    /// For how long they strike, from when the cluster is ready.
    #[must_use]
    pub fn chaos(mut self, duration: Duration) -> Self {
        self.plan.chaos_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// When the whole run must be over, by the simulation's clock; ten minutes unless told otherwise.
    #[must_use]
    pub fn limit(mut self, duration: Duration) -> Self {
        self.plan.limit_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// Keeps the whole event log for the report.
    #[must_use]
    pub fn keep_log(mut self) -> Self {
        self.plan.whole_log = true;
        self
    }

    pub(crate) fn from_plan(plan: Plan) -> Self {
        Self { plan }
    }

    /// Runs `program` in the simulation, on a thread of its own, until it returns or a promise breaks.
    ///
    /// # Errors
    /// A [`Failure`] when the program returned a violation or panicked, when it did not end in time, or when one of
    /// the invariants of Raft broke underneath.
    pub fn run<P, F>(self, program: P) -> Result<Report, Box<Failure>>
    where
        P: FnOnce(Sim) -> F + Send + 'static,
        F: Future<Output = Result<(), Violation>> + Send + 'static,
    {
        let seed = self.plan.seed;
        let program: Program = Box::new(move |sim| Box::pin(program(sim)));
        let thread = std::thread::Builder::new().name(format!("seed {seed}")).stack_size(16 << 20);
        let plan = self.plan.clone();
        let ran = thread.spawn(move || cluster::run(plan, program)).map(std::thread::JoinHandle::join);
        match ran {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_panic)) => Err(Box::new(Failure::outside(seed, "the simulation panicked"))),
            Err(error) => Err(Box::new(Failure::outside(seed, &format!("no thread for the simulation: {error}")))),
        }
    }
}
