//! The meta group behind a pointer, and how rows in it are changed.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use keevo_core::keyspaces::MetaStore;
use keevo_core::{Batch, Error, ErrorKind, Key, Record, Result, Written};

/// How often a change is tried again before its caller hears of the contention.
pub(super) const ATTEMPTS: usize = 32;

/// [`MetaStore`] behind a pointer.
trait Erased: Send + Sync {
    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Record>>>;
    fn write(&self, batch: Batch) -> BoxFuture<'_, Result<Written>>;
}

impl<M: MetaStore + Send> Erased for M {
    fn get(&self, key: Key) -> BoxFuture<'_, Result<Option<Record>>> {
        MetaStore::get(self, key).boxed()
    }

    fn write(&self, batch: Batch) -> BoxFuture<'_, Result<Written>> {
        MetaStore::write(self, batch).boxed()
    }
}

/// Rows of the meta group. Cheap to clone.
#[derive(Clone)]
pub(super) struct Rows(Arc<dyn Erased>);

impl Rows {
    pub(super) fn new(meta: impl MetaStore + Send + 'static) -> Self {
        Self(Arc::new(meta))
    }

    pub(super) async fn get(&self, key: Key) -> Result<Option<Record>> {
        self.0.get(key).await
    }

    /// Writes a batch: whether it was applied, or somebody else was faster. A write that may have been applied counts as
    /// not: who tries again sees what is there.
    pub(super) async fn write(&self, batch: Batch) -> Result<bool> {
        match self.0.write(batch).await {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::OutcomeUnknown) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

pub(super) fn contended(what: &str) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{what} was changed by others all the time; try again"))
}
