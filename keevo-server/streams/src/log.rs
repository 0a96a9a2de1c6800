//! Where changes come from.

use futures::future::BoxFuture;
use keevo_core::{Changes, Cursor, Keyspace, Result};

/// The changes of all shards, by pages. keevod's is its node of the cluster.
pub trait ChangeLog: Send + Sync + 'static {
    /// A cursor after everything acknowledged so far, for each shard of the keyspace.
    fn frontier(&self, keyspace: Keyspace) -> BoxFuture<'_, Result<Vec<Cursor>>>;

    /// The changes of a keyspace in one shard after the cursor, a bounded number of them, and how far they reach. May wait a
    /// few seconds for the first one.
    ///
    /// # Errors
    /// `CursorCompacted` where changes after the cursor are gone.
    fn page(&self, keyspace: Keyspace, after: Cursor) -> BoxFuture<'_, Result<Changes>>;
}
