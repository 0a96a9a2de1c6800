//! Keevo's embedded engine, called from plain threads.

use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use bytes::Bytes;
use keevo_core::{
    Batch, Consistency, Engine, Key, Keyspace, KeyspaceKind, LocalEngine, LocalOptions, PageToken, Result, Scan,
    ScanRange,
};

use super::{Embedded, SCAN_RECORDS, split};

/// The engine with its default options.
#[derive(Debug)]
pub(super) struct KeevoSide {
    engine: LocalEngine,
    keyspace: Keyspace,
}

impl KeevoSide {
    /// Opens the engine in the folder.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let engine = LocalEngine::open(folder, LocalOptions::default())?;
        let keyspace = wait(pin!(engine.keyspace("bench", KeyspaceKind::Hashed)))?;
        Ok(Self { engine, keyspace })
    }

    fn key(&self, key: u64) -> Key {
        let (partition, sort) = split(key);
        self.keyspace.key(partition, sort)
    }
}

impl Embedded for KeevoSide {
    fn put(&self, key: u64, value: Bytes) -> Result<()> {
        wait(pin!(self.engine.write(Batch::new().put(self.key(key), value)))).map(drop)
    }

    fn get(&self, key: u64) -> Result<Option<usize>> {
        let found = wait(pin!(self.engine.get(self.key(key), Consistency::Linearizable)))?;
        Ok(found.map(|record| record.value.len()))
    }

    fn scan(&self, from: u64) -> Result<usize> {
        let (partition, sort) = split(from);
        let mut scan = Scan::partition(self.keyspace, partition, SCAN_RECORDS);
        if let ScanRange::Partition { start, .. } = &mut scan.range {
            *start = sort.into();
        }
        let page = wait(pin!(self.engine.scan(scan)))?;
        std::hint::black_box(page.next.as_ref().map(|PageToken(token)| token.len()));
        let mut read = 0;
        for record in page.records.views() {
            std::hint::black_box((record.sort, record.value));
            read += 1;
        }
        Ok(read)
    }

    fn compact(&self) -> Result<()> {
        wait(pin!(self.engine.flush()))?;
        wait(pin!(self.engine.compact()))
    }
}

/// Wakes the thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    static WAKER: Waker = Arc::new(Unpark(std::thread::current())).into();
}

/// Runs a future to its end on this thread.
fn wait<F: Future>(mut future: Pin<&mut F>) -> F::Output {
    WAKER.with(|waker| {
        let mut context = Context::from_waker(waker);
        loop {
            if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
                return done;
            }
            std::thread::park();
        }
    })
}
