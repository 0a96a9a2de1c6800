//! `LocalEngine`: the engine in your own process, on a folder.
//!
//! ```text
//! FOLDER/identity, FOLDER/lock   whom the folder belongs to; one opener at a time
//! FOLDER/data/                   the store, written through its write-ahead log
//! ```
//!
//! Invariant: one shard, [`ShardId::LOCAL`], holds everything; what commands do to it is decided in
//! [`Machine`] alone. Reads go to the store directly and see every write that was answered.

mod options;
mod sessions;
mod writer;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use bytes::Bytes;
use crossbeam_utils::sync::ShardedLock;
use tokio::sync::{Semaphore, mpsc, oneshot};

pub use options::{LocalOptions, LocalStats};

use crate::batch::{Batch, Written};
use crate::clock::{Clock, Random, SeededRandom};
use crate::command::{Command, Outcome};
use crate::data_dir::{DataDir, Identity, Role};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::fan_out::{FanOut, FannedOut};
use crate::ids::{ClientId, ClusterId, KeyspaceId, NodeId, ShardId};
use crate::key::{CLASS_END, CLASS_META, Key, Keyspace, KeyspaceKind};
use crate::keyspaces::{self, MetaStore};
use crate::machine::{Machine, ShardReader, ShardView, scan_in_view};
use crate::read::Consistency;
use crate::record::{Record, has_expired};
use crate::scan::{Scan, ScanPage};
use crate::store::{RocksOptions, RocksStore, Store};
use crate::views::Views;
use crate::watch::{Watch, WatchFrom, WatchRange, watches_nothing};
use writer::{Committer, Counts, Job, Place, Request, SharedCommitter, Writer};

const STORE: &str = "data";
/// Reads of up to so many records are answered on the caller's thread.
const INLINE_RECORDS_MAX: usize = 128;

/// An engine in this process, on a folder of its own. Cheap to clone; clones share everything.
///
/// Writes of all callers are applied by one thread, which syncs once for all that wait: so many callers at
/// once cost few syncs. It needs no async runtime; where tokio runs, writes and long reads leave its threads alone.
/// Without one, a caller that writes alone does so on its own thread.
///
/// All consistencies of a read are the same here. [`LocalEngine::close`] ends it cleanly; so does dropping
/// the last clone, except that watches then keep the folder open until they have noticed.
#[derive(Debug, Clone)]
pub struct LocalEngine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// `None` once closed. In shards: a read takes one of them, so that threads do not wait for one another's count.
    open: ShardedLock<Option<Open>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Keyspaces that are known to exist; none is ever removed or changed.
    known: RwLock<BTreeMap<KeyspaceId, KeyspaceKind>>,
    queue_bytes: Arc<Semaphore>,
    queue_bytes_max: usize,
    counts: Arc<Counts>,
    committer: SharedCommitter,
    identity: Identity,
    clock: Arc<dyn Clock>,
}

/// What an open engine holds. The order matters: the lock goes last.
#[derive(Debug, Clone)]
struct Open {
    requests_tx: mpsc::Sender<Request>,
    reader: ShardReader<RocksStore>,
    store: RocksStore,
    /// What consistent scans go over.
    views: Arc<Views<ShardView>>,
    dir: Arc<DataDir>,
}

impl LocalEngine {
    /// Opens the engine in the folder `path`, which is created if it is new. Blocks while it recovers.
    ///
    /// Errors: `Unavailable` when the folder is open already, here or in another process; `WrongCluster` when
    /// it holds something else; `NewerFormat`; `Config`; `Corrupt`; `ResourceExhausted`; `Io`.
    pub fn open(path: impl AsRef<Path>, options: LocalOptions) -> Result<Self> {
        options.validate()?;
        let (dir, store) = open_store(path.as_ref(), &options.store)?;
        let identity = *dir.identity();
        let range = (Bytes::from_static(&[CLASS_META]), Bytes::from_static(&[CLASS_END]));
        let machine = Machine::open_with(store.clone(), identity.cluster, ShardId::LOCAL, range, options.retention)?;
        // What was found on the disk is durable, its clock too.
        store.set_expiry(vec![writer::everything(machine.clock().ms())]);
        let (requests_tx, requests_rx) = mpsc::channel(options.queue_writes_max);
        let views = Arc::new(Views::new(0, options.views, Arc::clone(&options.clock), &SeededRandom::from_os()));
        let open = Open {
            requests_tx,
            reader: machine.reader(),
            store: store.clone(),
            views: Arc::clone(&views),
            dir: Arc::new(dir),
        };
        let counts = Arc::new(Counts::default());
        let committer = Committer {
            machine,
            store,
            clock: Arc::clone(&options.clock),
            durability: options.durability,
            counts: Arc::clone(&counts),
            expiry_ms: 0,
            views,
        };
        let committer = Arc::new(Mutex::new(Some(committer)));
        let writer = Writer {
            committer: Arc::clone(&committer),
            requests_rx,
            counts: Arc::clone(&counts),
            group_writes_max: options.group_writes_max,
            group_bytes_max: options.group_bytes_max,
        };
        let thread = std::thread::Builder::new()
            .name("keevo-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| Error::new(ErrorKind::Io, "could not start the writer thread").with_source(source))?;
        let shared = Shared {
            open: ShardedLock::new(Some(open)),
            thread: Mutex::new(Some(thread)),
            known: RwLock::default(),
            queue_bytes: Arc::new(Semaphore::new(options.queue_bytes_max)),
            queue_bytes_max: options.queue_bytes_max,
            counts,
            committer,
            identity,
            clock: options.clock,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The id of the folder, which its cursors carry.
    pub fn cluster_id(&self) -> ClusterId {
        self.shared.identity.cluster
    }

    /// What it has done since it was opened.
    pub fn stats(&self) -> Result<LocalStats> {
        let open = self.opened()?;
        Ok(LocalStats {
            writes: self.shared.counts.writes.load(Ordering::Relaxed),
            groups: self.shared.counts.groups.load(Ordering::Relaxed),
            revision: open.reader.applied(),
            store: open.store.stats()?,
        })
    }

    /// Moves what is in memory into table files, so that the next start has nothing to recover.
    pub async fn flush(&self) -> Result<()> {
        let store = self.opened()?.store;
        off_thread(move || store.flush()).await
    }

    /// Rewrites all table files, so that removed and overwritten data leaves the disk.
    pub async fn compact(&self) -> Result<()> {
        let store = self.opened()?.store;
        off_thread(move || store.compact()).await
    }

    /// Writes a copy of everything, as of now, into the new folder `dir`, which [`LocalEngine::open`] opens.
    /// Files are hard-linked where the file system allows it, so a copy on the same disk is quick.
    pub async fn checkpoint(&self, dir: impl AsRef<Path>) -> Result<()> {
        let store = self.opened()?.store;
        let (dir, identity) = (dir.as_ref().to_owned(), self.shared.identity);
        off_thread(move || {
            let copy =
                |dir: &Path| remove_unfinished(&dir.join(STORE)).and_then(|()| store.checkpoint(&dir.join(STORE)));
            DataDir::create_with(&dir, identity, copy).map(drop)
        })
        .await
    }

    /// Ends the engine: applies the writes that are queued, flushes, and closes the folder. Calls on any clone
    /// then give `Closed`, and watches end with it. Closing again is no error.
    pub async fn close(&self) -> Result<()> {
        let open = self.shared.open.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Open { requests_tx, reader, store, views, dir }) = open else { return Ok(()) };
        drop(reader);
        views.end_all();
        // If it can't be sent, the thread has ended already.
        drop(requests_tx.send(Request::Stop).await);
        drop(requests_tx);
        let thread = self.shared.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let committer = Arc::clone(&self.shared.committer);
        off_thread(move || {
            // Waits for a caller that commits by itself; a panic in one leaves nothing that may be used.
            let ended = thread.is_none_or(|thread| thread.join().is_ok()) && committer.lock().is_ok();
            drop(committer.lock().unwrap_or_else(PoisonError::into_inner).take());
            let flushed = if store.has_stopped() { store.check_writable() } else { store.flush() };
            drop(store);
            drop(dir);
            if !ended {
                return Err(Error::new(ErrorKind::Io, "the writer thread ended by a panic"));
            }
            flushed
        })
        .await
    }

    fn opened(&self) -> Result<Open> {
        let open = self.shared.open.read().unwrap_or_else(PoisonError::into_inner);
        open.clone().ok_or_else(closed)
    }

    /// Reads on this thread.
    fn read<T>(&self, read: impl FnOnce(&ShardReader<RocksStore>) -> Result<T>) -> Result<T> {
        let open = self.shared.open.read().unwrap_or_else(PoisonError::into_inner);
        read(&open.as_ref().ok_or_else(closed)?.reader)
    }

    /// Reads on a thread that may block, where there is one.
    async fn read_much<T: Send + 'static>(
        &self,
        read: impl FnOnce(&ShardReader<RocksStore>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let reader = self.opened()?.reader;
        off_thread(move || read(&reader)).await
    }

    async fn get_all(&self, keys: Vec<Key>) -> Result<Vec<Option<Record>>> {
        if keys.len() <= INLINE_RECORDS_MAX {
            return self.read(|reader| reader.multi_get(&keys));
        }
        self.read_much(move |reader| reader.multi_get(&keys)).await
    }

    /// A page of a consistent scan. What it leaves out because it has expired, no later read shows.
    async fn view_page(&self, scan: Scan) -> Result<ScanPage> {
        let Open { views, reader, .. } = self.opened()?;
        let wall_ms = self.shared.clock.now_ms();
        let page = move || scan_in_view(&views, &reader, &scan, wall_ms);
        let (page, has_expired) = off_thread(page).await?;
        if has_expired {
            self.submit(Command::MoveClock, None).await?;
        }
        Ok(page)
    }

    async fn scan_page(&self, scan: &Scan) -> Result<ScanPage> {
        if scan.limit <= INLINE_RECORDS_MAX {
            return self.read(|reader| reader.scan(scan));
        }
        let scan = scan.clone();
        self.read_much(move |reader| reader.scan(&scan)).await
    }

    /// Where something was read that has expired since the last write: moves the clock, and says so.
    async fn move_clock_if_expired(&self, expiries: impl IntoIterator<Item = Option<u64>>) -> Result<bool> {
        let expired = have_expired(expiries, self.shared.clock.as_ref());
        if expired {
            // Rare, so that its state weighs on no other read.
            Box::pin(self.submit(Command::MoveClock, None)).await?;
        }
        Ok(expired)
    }

    /// Queues a command and waits for its outcome.
    async fn submit(&self, command: Command, opens: Option<ClientId>) -> Result<Outcome> {
        let requests_tx = {
            let open = self.shared.open.read().unwrap_or_else(PoisonError::into_inner);
            open.as_ref().ok_or_else(closed)?.requests_tx.clone()
        };
        if tokio::runtime::Handle::try_current().is_err()
            && let Some(mut committer) = writer::alone(&self.shared.committer, &self.shared.counts)
            && let Some(committer) = committer.as_mut()
        {
            return refused_as_error(committer.commit_one(opens, command)?);
        }
        let bytes = writer::queue_bytes(&command);
        // What is larger than the whole queue waits for all of it.
        let permits = u32::try_from(bytes.min(self.shared.queue_bytes_max)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.shared.queue_bytes).acquire_many_owned(permits).await;
        let permit = room.map_err(|gone| closed().with_source(gone))?;
        let (answer_tx, answer_rx) = oneshot::channel();
        let place = Place::new(&self.shared.counts, permit);
        let job = Job { opens, command, bytes, answer_tx, place };
        if requests_tx.send(Request::Apply(Box::new(job))).await.is_err() {
            return Err(closed());
        }
        // The thread answers all that it takes, unless it panics.
        let lost = |_| Error::new(ErrorKind::OutcomeUnknown, "the writer thread ended before it answered");
        refused_as_error(answer_rx.await.map_err(lost)??)
    }

    async fn apply_batch(&self, batch: Batch) -> Result<Written> {
        let opens = sessions::opens(&batch);
        match self.submit(Command::Write(batch), opens).await? {
            Outcome::Written(written) => Ok(written),
            other => Err(unexpected(&other)),
        }
    }

    /// Refuses a keyspace that users may not write to, or that was never created.
    async fn check_keyspace(&self, keyspace: Keyspace) -> Result<()> {
        keyspaces::refuse_meta(keyspace)?;
        let known = self.shared.known.read().unwrap_or_else(PoisonError::into_inner).get(&keyspace.id).copied();
        let kind = match known {
            Some(kind) => kind,
            None => self.remember(keyspaces::keyspace_by_id(&Meta(self), keyspace.id).await?.1).kind,
        };
        if kind == keyspace.kind {
            return Ok(());
        }
        Err(Error::invalid(format!("keyspace {} is {kind}, not {}", keyspace.id, keyspace.kind)))
    }

    fn remember(&self, keyspace: Keyspace) -> Keyspace {
        let mut known = self.shared.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(keyspace.id, keyspace.kind);
        keyspace
    }
}

/// The meta keyspace of an engine.
struct Meta<'a>(&'a LocalEngine);

impl MetaStore for Meta<'_> {
    async fn get(&self, key: Key) -> Result<Option<Record>> {
        self.0.read(|reader| reader.get(&key))
    }

    async fn write(&self, batch: Batch) -> Result<Written> {
        batch.validate()?;
        self.0.apply_batch(batch).await
    }
}

impl Engine for LocalEngine {
    async fn keyspace(&self, name: &str, kind: KeyspaceKind) -> Result<Keyspace> {
        keyspaces::ensure_keyspace(&Meta(self), name, kind).await.map(|found| self.remember(found))
    }

    async fn find_keyspace(&self, name: &str) -> Result<Keyspace> {
        keyspaces::find_keyspace(&Meta(self), name).await.map(|found| self.remember(found))
    }

    async fn get(&self, key: Key, _consistency: Consistency) -> Result<Option<Record>> {
        let found = self.read(|reader| reader.get(&key))?;
        if self.move_clock_if_expired(found.as_ref().map(|record| record.expires_at_ms)).await? {
            return self.read(|reader| reader.get(&key));
        }
        Ok(found)
    }

    async fn multi_get(&self, keys: Vec<Key>, _consistency: Consistency) -> Result<Vec<Option<Record>>> {
        let found = self.get_all(keys.clone()).await?;
        if self.move_clock_if_expired(found.iter().flatten().map(|record| record.expires_at_ms)).await? {
            return self.get_all(keys).await;
        }
        Ok(found)
    }

    async fn scan(&self, scan: Scan) -> Result<ScanPage> {
        if scan.consistent {
            return self.view_page(scan).await;
        }
        let page = self.scan_page(&scan).await?;
        if self.move_clock_if_expired(page.records.views().map(|view| view.expires_at_ms)).await? {
            return self.scan_page(&scan).await;
        }
        Ok(page)
    }

    async fn write(&self, batch: Batch) -> Result<Written> {
        batch.validate()?;
        if let Some(key) = batch.partition_key() {
            self.check_keyspace(key.keyspace).await?;
        }
        self.apply_batch(batch).await
    }

    async fn fan_out(&self, fan_out: FanOut) -> Result<FannedOut> {
        fan_out.validate()?;
        self.check_keyspace(fan_out.keyspace).await?;
        match self.submit(Command::FanOut(fan_out), None).await? {
            Outcome::FannedOut(done) => Ok(done),
            other => Err(unexpected(&other)),
        }
    }

    async fn watch(&self, range: WatchRange, from: WatchFrom) -> Result<Watch> {
        let after = match from {
            WatchFrom::Now => None,
            WatchFrom::Only(cursors) if cursors.is_empty() => return Err(watches_nothing()),
            WatchFrom::After(cursors) | WatchFrom::Only(cursors) => match cursors.as_slice() {
                [] => None,
                [cursor] => Some(*cursor),
                _ => return Err(Error::invalid("an embedded engine has one shard, so a watch has one cursor")),
            },
        };
        self.read(|reader| reader.watch(range, after))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The last sender goes, so the thread ends; the store closes before the lock on the folder goes.
        let open = self.open.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let dir = open.map(|open| open.dir);
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            drop(thread.join());
        }
        drop(self.committer.lock().unwrap_or_else(PoisonError::into_inner).take());
        drop(dir);
    }
}

/// Opens the folder and the store in it.
fn open_store(path: &Path, options: &RocksOptions) -> Result<(DataDir, RocksStore)> {
    let store_path = path.join(STORE);
    let options = RocksOptions { wal: true, ..options.clone() };
    if let Some(dir) = DataDir::open(path, Role::Local)? {
        let found = dir.found_store(STORE)?;
        return Ok((dir, RocksStore::open(found, options)?));
    }
    let random = SeededRandom::from_os();
    let (cluster, pair) = (ClusterId(random.next_u128()), random.next_u128());
    let identity = Identity { cluster, pair, role: Role::Local, node: NodeId(1) };
    DataDir::create_with(path, identity, |_| RocksStore::open(&store_path, options))
}

fn remove_unfinished(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            let what = format!("could not remove the unfinished copy in {}", path.display());
            Err(Error::new(ErrorKind::Io, what).with_source(source))
        }
        _ => Ok(()),
    }
}

/// Runs blocking work off the runtime's threads, where a runtime is.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return work() };
    match runtime.spawn_blocking(work).await {
        Ok(done) => done,
        Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
        Err(ended) => Err(Error::new(ErrorKind::Closed, "the async runtime is shutting down").with_source(ended)),
    }
}

/// Whether one of the records that expire at `expiries` has expired. Most reads meet none that ever does: they need not
/// know the time.
fn have_expired(expiries: impl IntoIterator<Item = Option<u64>>, clock: &dyn Clock) -> bool {
    let mut expiring = expiries.into_iter().flatten().peekable();
    expiring.peek().is_some() && has_expired(expiring.map(Some), clock.now_ms())
}

fn refused_as_error(outcome: Outcome) -> Result<Outcome> {
    match outcome {
        Outcome::Refused(error) => Err(error),
        outcome => Ok(outcome),
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the embedded engine is closed")
}

fn unexpected(outcome: &Outcome) -> Error {
    Error::corrupt(format!("a command was answered with an outcome of another kind: {outcome:?}"))
}

#[cfg(test)]
mod tests;
