//! The runtime of one host: a single thread's tokio whose time moves only when the simulation says so.
//!
//! Dropping it is what a crash is to a process: every task ends where it waits, and nothing more is written.

use std::time::Duration;

use keevo_core::{Error, ErrorKind, Result};
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// One host's runtime.
#[derive(Debug)]
pub(crate) struct HostRuntime {
    runtime: Runtime,
    origin: Instant,
}

impl HostRuntime {
    /// A runtime whose own choices follow from `seed`, and whose clock stands at 0 ms.
    pub(crate) fn new(seed: u64) -> Result<Self> {
        let runtime = build(seed)?;
        let origin = runtime.block_on(async { Instant::now() });
        Ok(Self { runtime, origin })
    }

    /// Starts a task.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // Nobody waits for it: it ends with the runtime.
        drop(self.runtime.spawn(task));
    }

    /// Runs everything that happens until the host's clock shows `local_ms`.
    pub(crate) fn run_until(&self, local_ms: u64) {
        let until = self.origin + Duration::from_millis(local_ms);
        self.runtime.block_on(async { tokio::time::sleep_until(until).await });
    }

    /// Lets the host's clock show `local_ms` at once, as after a pause of the whole process.
    pub(crate) fn jump_to(&self, local_ms: u64) {
        let until = self.origin + Duration::from_millis(local_ms);
        self.runtime.block_on(jump(until));
    }
}

#[cfg(tokio_unstable)]
fn build(seed: u64) -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_be_bytes()))
        .build()
        .map_err(|error| Error::new(ErrorKind::Io, "a runtime cannot be made").with_source(error))
}

#[cfg(tokio_unstable)]
async fn jump(until: Instant) {
    tokio::time::advance(until.saturating_duration_since(Instant::now())).await;
}

#[cfg(not(tokio_unstable))]
fn build(_seed: u64) -> Result<Runtime> {
    let message = "this build cannot simulate, since tokio's choices are not seeded: use `make sim`, or build with \
                   RUSTFLAGS=\"--cfg tokio_unstable\"";
    Err(Error::new(ErrorKind::Config, message))
}

#[cfg(not(tokio_unstable))]
async fn jump(until: Instant) {
    tokio::time::sleep_until(until).await;
}
