//! The `Engine` trait: one contract for the linked, the clustered and the remote engine.

use std::future::Future;

use crate::batch::{Batch, Written};
use crate::error::Result;
use crate::fan_out::{FanOut, FannedOut};
use crate::key::{Key, Keyspace, KeyspaceKind};
use crate::read::Consistency;
use crate::record::Record;
use crate::scan::{Scan, ScanPage};
use crate::watch::{Watch, WatchFrom, WatchRange};

/// A key-value engine. Cheap to clone; clones share everything.
///
/// All engines give the same guarantees, and `keevo_core::testing::conformance` holds them to it:
///
/// * A batch is atomic within its partition; one that crosses partitions is refused.
/// * A write that was answered is durable and visible to every later linearizable read.
/// * A request id is applied once, however often it is sent; its first answer is repeated.
/// * A write that ends in [`ErrorKind::OutcomeUnknown`](crate::ErrorKind::OutcomeUnknown) may have been
///   applied; every other error means that it was not.
/// * A watch delivers the changes of a shard in the order they were applied, each at least once.
///
/// ```
/// # use keevo_core::{Batch, Check, Consistency, Engine, ErrorKind, KeyspaceKind, Result, Scan};
/// async fn transfer(engine: impl Engine) -> Result<()> {
///     let accounts = engine.keyspace("accounts", KeyspaceKind::Hashed).await?;
///     let key = accounts.key("alice", "balance");
///     let first = engine.write(Batch::new().put(key.clone(), "100").require(key.clone(), Check::Absent)).await?;
///     let read = engine.get(key.clone(), Consistency::Linearizable).await?.expect("just written");
///     assert_eq!(read.revision, first.revision);
///     let again = Batch::new().put(key.clone(), "90").require(key, Check::Absent);
///     assert_eq!(engine.write(again).await.unwrap_err().kind(), ErrorKind::Conflict);
///     let page = engine.scan(Scan::partition(accounts, "alice", 10)).await?;
///     assert_eq!(page.records.len(), 1);
///     Ok(())
/// }
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// #     transfer(keevo_core::MemoryEngine::new()).await.unwrap();
/// # });
/// ```
pub trait Engine: Clone + Send + Sync + 'static {
    /// The keyspace of that name, created if it is new. A name that exists with another kind is a `Conflict`.
    /// Names have 1 to 64 bytes of `a-z 0-9 . _ -`.
    fn keyspace(&self, name: &str, kind: KeyspaceKind) -> impl Future<Output = Result<Keyspace>> + Send;

    /// The keyspace of that name, or `UnknownKeyspace`.
    fn find_keyspace(&self, name: &str) -> impl Future<Output = Result<Keyspace>> + Send;

    /// The record under `key`, if there is one.
    fn get(&self, key: Key, consistency: Consistency) -> impl Future<Output = Result<Option<Record>>> + Send;

    /// The records under `keys`, in their order. No consistent cut across partitions.
    fn multi_get(
        &self,
        keys: Vec<Key>,
        consistency: Consistency,
    ) -> impl Future<Output = Result<Vec<Option<Record>>>> + Send;

    /// One page of a scan.
    fn scan(&self, scan: Scan) -> impl Future<Output = Result<ScanPage>> + Send;

    /// Applies a batch: all of it or, when a precondition fails (`Conflict`), nothing.
    fn write(&self, batch: Batch) -> impl Future<Output = Result<Written>> + Send;

    /// One payload to many partitions. Repeatable; atomic per shard.
    /// On an error some shards may have applied their part: repeat the call.
    fn fan_out(&self, fan_out: FanOut) -> impl Future<Output = Result<FannedOut>> + Send;

    /// Committed changes of a range, in order per shard, from a cursor on.
    /// The watch is in place when the call returns.
    fn watch(&self, range: WatchRange, from: WatchFrom) -> impl Future<Output = Result<Watch>> + Send;
}
