//! An engine whose scans begin with an empty page that is not the last, as one does after many expired rows.
//!
//! Invariant checked: nothing in the feeds takes an empty page for the end. It once was for lists of followers: a
//! post then reached nobody behind the expired rows, and none of the further buckets.

use bytes::Bytes;
use keevo_core::{
    Batch, Consistency, Engine, FanOut, FannedOut, Key, Keyspace, KeyspaceKind, PageToken, Record, Records, Result,
    Scan, ScanPage, Watch, WatchFrom, WatchRange, Written,
};

/// Where the empty page says that its scan goes on.
const BEGIN: &[u8] = b"after the expired rows";

/// A wrapper around an engine that puts an empty page before each scan.
#[derive(Debug, Clone)]
pub(crate) struct EmptyPages<E> {
    inner: E,
}

impl<E: Engine> EmptyPages<E> {
    pub(crate) fn new(inner: E) -> Self {
        Self { inner }
    }
}

impl<E: Engine> Engine for EmptyPages<E> {
    async fn keyspace(&self, name: &str, kind: KeyspaceKind) -> Result<Keyspace> {
        self.inner.keyspace(name, kind).await
    }

    async fn find_keyspace(&self, name: &str) -> Result<Keyspace> {
        self.inner.find_keyspace(name).await
    }

    async fn get(&self, key: Key, consistency: Consistency) -> Result<Option<Record>> {
        self.inner.get(key, consistency).await
    }

    async fn multi_get(&self, keys: Vec<Key>, consistency: Consistency) -> Result<Vec<Option<Record>>> {
        self.inner.multi_get(keys, consistency).await
    }

    async fn scan(&self, mut scan: Scan) -> Result<ScanPage> {
        let begins = scan.after.is_none();
        if scan.after.as_ref().is_some_and(|token| token.0 == BEGIN) {
            scan.after = None;
        }
        let page = self.inner.scan(scan).await?;
        if begins {
            let next = Some(PageToken(Bytes::from_static(BEGIN)));
            return Ok(ScanPage { records: Records::default(), next, as_of: page.as_of });
        }
        Ok(page)
    }

    async fn write(&self, batch: Batch) -> Result<Written> {
        self.inner.write(batch).await
    }

    async fn fan_out(&self, fan_out: FanOut) -> Result<FannedOut> {
        self.inner.fan_out(fan_out).await
    }

    async fn watch(&self, range: WatchRange, from: WatchFrom) -> Result<Watch> {
        self.inner.watch(range, from).await
    }
}
