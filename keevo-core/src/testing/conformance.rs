//! The conformance suite of [`Engine`](crate::Engine): one list of named cases for every engine.
//!
//! ```text
//! keevo_core::conformance_tests!(MyFactory::new());           one #[tokio::test] a case, in parallel
//! run_all(&MyFactory::new()).await                             all of them, one after the other
//! ```
//!
//! Invariant: a case relies on the contract alone. It uses keyspaces that nobody else names, so that many cases may
//! share one engine; it takes revisions and cursors of different partitions as unrelated, since those may lie in
//! different shards; and it waits for a bounded time.

mod bench;
mod table;

mod appends;
mod basics;
mod checks;
mod concurrency;
mod differential;
mod fan_outs;
mod keyspaces;
mod merges;
mod ordered;
mod ranges;
mod refusals;
mod requests;
mod scans;
mod sizes;
mod ttl;
mod views;
mod watches;

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use futures::future::LocalBoxFuture;

use bench::Bench;
pub use table::{NAMES, cases};

use crate::engine::Engine;
use crate::ids::ClientId;

/// How long a case may take before it counts as failed.
const CASE_TIMEOUT: Duration = Duration::from_mins(2);

/// What the suite needs to know of an engine.
///
/// The futures need not be `Send`: each case runs in the task that calls it.
pub trait Factory {
    /// The engine.
    type Engine: Engine;

    /// An engine to run a case on: a new one, or a clone of one that other cases use too.
    fn fresh(&self) -> impl Future<Output = Self::Engine>;

    /// The id of a client whose session is open in every shard of `engine`, and which nobody else uses.
    fn session(&self, engine: &Self::Engine) -> impl Future<Output = ClientId>;

    /// An engine that retains the changes of at most `entries` writes a shard; `None` = it can't be told how many.
    fn retaining(&self, entries: usize) -> impl Future<Output = Option<Self::Engine>> {
        let _ = entries;
        std::future::ready(None)
    }

    /// The engine closed and opened again on the same data; `None` = its data does not outlive it.
    fn reopen(&self, engine: Self::Engine) -> impl Future<Output = Option<Self::Engine>> {
        drop(engine);
        std::future::ready(None)
    }
}

/// One case: its name, and what it does with an engine.
pub struct Case<F: Factory> {
    /// Its name, which is also that of the test that [`conformance_tests!`](crate::conformance_tests) makes of it.
    pub name: &'static str,
    run: for<'f> fn(Bench<'f, F>) -> LocalBoxFuture<'f, ()>,
}

impl<F: Factory> fmt::Debug for Case<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<F: Factory> Case<F> {
    /// Runs the case; the message of its panic, or of its taking too long.
    pub async fn run(&self, factory: &F) -> Result<(), String> {
        let bench = Bench::new(factory, self.name).await;
        let run = AssertUnwindSafe((self.run)(bench)).catch_unwind();
        match tokio::time::timeout(CASE_TIMEOUT, run).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(panic)) => Err(message(panic.as_ref())),
            Err(_) => Err(format!("it took more than {} seconds", CASE_TIMEOUT.as_secs())),
        }
    }
}

/// Runs every case, one after the other, and panics with the names of those that failed.
pub async fn run_all<F: Factory>(factory: &F) {
    let mut failed = Vec::new();
    for case in cases::<F>() {
        if let Err(message) = case.run(factory).await {
            failed.push(format!("case {}: {message}", case.name));
        }
    }
    assert!(failed.is_empty(), "{} of {} cases failed\n{}", failed.len(), NAMES.len(), failed.join("\n"));
}

/// Runs the case of that name and panics when it fails.
pub async fn run_one<F: Factory>(factory: &F, name: &str) {
    let Some(case) = cases::<F>().into_iter().find(|case| case.name == name) else {
        panic!("case {name} is not in the table");
    };
    if let Err(message) = case.run(factory).await {
        panic!("case {name}: {message}");
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}
