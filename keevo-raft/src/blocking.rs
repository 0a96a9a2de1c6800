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

#[cfg(test)]
mod tests {
    use keevo_core::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn work_beside_a_store_in_memory_is_done_in_place() {
        let here = std::thread::current().id();
        let store = DataStore::from(MemoryStore::new());
        let there = run(&store, "a look", || Ok(std::thread::current().id())).await;
        assert_eq!(there.expect("it runs"), here);
        let refused: Result<()> = run(&store, "a look", || Err(Error::invalid("no"))).await;
        assert_eq!(refused.expect_err("as the work says").kind(), ErrorKind::Invalid);
    }
}
