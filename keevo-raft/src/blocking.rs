//! Work that blocks: off the runtime's threads where the store is on disk, in place where it is in memory.
//!
//! A store in memory does not block, and a simulation must not wait for threads that nobody schedules for it.

use keevo_core::{DataStore, Error, ErrorKind, Result};

/// Runs `work`, which uses `store` or files beside it. `what` names it in the error of a thread that stopped.
pub(crate) async fn run<T: Send + 'static>(
    store: &DataStore,
    what: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    if matches!(store, DataStore::Memory(_)) {
        return work();
    }
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::new(ErrorKind::Io, format!("{what} did not run to its end")).with_source(error))?
}
