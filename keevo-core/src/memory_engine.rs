//! `MemoryEngine`: the contract of [`Engine`] as a plain model over ordered maps.
//!
//! It is the oracle that the other engines are compared with, and the engine for tests of the layers above. So it
//! shares no code with the state machine of the disk engines: records lie in a `BTreeMap` under structured keys,
//! a failed batch is undone, and one mutex orders everything.
//!
//! Invariant: one shard, [`ShardId::LOCAL`]; what is visible depends on the state and its clock alone, and the
//! clock moves with writes only.

mod batch;
mod changes;
mod fan_out;
mod keyspaces;
mod scan;
mod sessions;
mod state;
mod watch;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::batch::{Batch, Written};
use crate::clock::{Clock, Random, SeededRandom, SystemClock};
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::{ClientId, ClusterId, Revision, ShardId};
use crate::key::{Key, Keyspace, KeyspaceKind};
use crate::limits::MULTI_GET_KEYS_MAX;
use crate::read::Consistency;
use crate::record::Record;
use crate::scan::{PageToken, Scan, ScanPage};
use crate::views::{ViewLimits, Views};
use crate::watch::{Cursor, Watch, WatchFrom, WatchRange};
use crate::{FanOut, FannedOut};

use scan::View;
use state::{Place, State};

/// How many entries with changes are retained for watches unless told otherwise.
const RETAINED_ENTRIES: usize = 65_536;

/// An engine that keeps everything in memory and loses it when its last clone is dropped.
///
/// ```
/// # use keevo_core::{Batch, Consistency, Engine, KeyspaceKind, MemoryEngine};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let engine = MemoryEngine::new();
/// let keyspace = engine.keyspace("notes", KeyspaceKind::Hashed).await.unwrap();
/// let key = keyspace.key("alice", "first");
/// engine.write(Batch::new().put(key.clone(), "hello")).await.unwrap();
/// let record = engine.get(key, Consistency::Linearizable).await.unwrap().unwrap();
/// assert_eq!(record.value, "hello");
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct MemoryEngine {
    handle: Arc<Handle>,
}

/// What the clones of an engine share. Watches share only `state`: dropping the handle ends them.
#[derive(Debug)]
struct Handle {
    cluster: ClusterId,
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
    applied_tx: tokio::sync::watch::Sender<Revision>,
    views: Views<View>,
}

impl MemoryEngine {
    /// An empty engine on the operating system's clock.
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock::new()))
    }

    /// An empty engine on `clock`, which is read at every write and every read.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self::with_clock_and_retained(clock, RETAINED_ENTRIES)
    }

    /// An empty engine that retains the changes of the last `retained_entries` writes for watches, at least one.
    pub fn with_clock_and_retained(clock: Arc<dyn Clock>, retained_entries: usize) -> Self {
        let state = Arc::new(Mutex::new(State::new(retained_entries.max(1))));
        let random = SeededRandom::from_os();
        let cluster = ClusterId(random.next_u128());
        let (applied_tx, _) = tokio::sync::watch::channel(Revision(0));
        let limits = ViewLimits { linger: Duration::ZERO, ..ViewLimits::default() };
        let views = Views::new(0, limits, Arc::clone(&clock), &random);
        Self { handle: Arc::new(Handle { cluster, clock, state, applied_tx, views }) }
    }

    /// Opens a client's session, so that its request ids are known; opening an open one is no error.
    /// Sessions idle for [`SESSION_IDLE_MS_MAX`](crate::limits::SESSION_IDLE_MS_MAX), and the least recently used
    /// beyond [`SESSIONS_MAX`](crate::limits::SESSIONS_MAX), are dropped here.
    #[allow(clippy::unused_async, reason = "the same shape as on the engines that wait for a disk or a quorum")]
    pub async fn open_session(&self, client: ClientId) -> Result<()> {
        self.change(|state| state.sessions.open(client, state.now_ms));
        Ok(())
    }

    /// The id that the engine's cursors carry.
    pub fn cluster_id(&self) -> ClusterId {
        self.handle.cluster
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.handle.state)
    }

    /// The state as a reader meets it: its clock stands no earlier than the time.
    fn state_now(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        state.now_ms = state.now_ms.max(self.handle.clock.now_ms());
        state
    }

    /// Runs one write: takes a revision, moves the clock, wakes the watches.
    fn change<T>(&self, write: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        state.begin(self.handle.clock.now_ms());
        let done = write(&mut state);
        self.handle.applied_tx.send_replace(state.revision);
        done
    }

    /// A page of the view that the scan's token names, or of a copy of everything that is made for it.
    fn scan_view(&self, scan: &Scan) -> Result<ScanPage> {
        let views = &self.handle.views;
        let id = if let Some(id) = scan.view() {
            id
        } else {
            let state = self.state_now();
            let (records, now_ms, revision) = (state.records.clone(), state.now_ms, state.revision);
            views.hold(ShardId::LOCAL, View { records, now_ms, revision })?
        };
        let view = views.get(id, ShardId::LOCAL)?;
        let (records, next) = scan::page(&view.records, view.now_ms, scan)?;
        if next.is_none() {
            views.end(id);
        }
        let next = next.map(|PageToken(last)| PageToken::in_view(id, &last));
        Ok(ScanPage { records: records.into(), next, as_of: self.cursor(view.revision) })
    }

    fn cursor(&self, revision: Revision) -> Cursor {
        Cursor { cluster: self.handle.cluster, shard: ShardId::LOCAL, revision, offset: u32::MAX }
    }
}

impl Default for MemoryEngine {
    fn default() -> Self {
        Self::new()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[allow(clippy::unused_async, reason = "the trait is async for engines that wait; memory answers at once")]
impl Engine for MemoryEngine {
    async fn keyspace(&self, name: &str, kind: KeyspaceKind) -> Result<Keyspace> {
        self.state().keyspaces.open(name, kind)
    }

    async fn find_keyspace(&self, name: &str) -> Result<Keyspace> {
        self.state().keyspaces.find(name)
    }

    async fn get(&self, key: Key, _consistency: Consistency) -> Result<Option<Record>> {
        key.validate()?;
        Ok(self.state_now().visible(&Place::of(&key)).cloned())
    }

    async fn multi_get(&self, keys: Vec<Key>, _consistency: Consistency) -> Result<Vec<Option<Record>>> {
        if keys.len() > MULTI_GET_KEYS_MAX {
            return Err(Error::new(
                ErrorKind::BatchTooLarge,
                format!("the read names {} keys, more than {MULTI_GET_KEYS_MAX}", keys.len()),
            ));
        }
        keys.iter().try_for_each(Key::validate)?;
        let state = self.state_now();
        Ok(keys.iter().map(|key| state.visible(&Place::of(key)).cloned()).collect())
    }

    async fn scan(&self, scan: Scan) -> Result<ScanPage> {
        scan.validate()?;
        if scan.consistent {
            return self.scan_view(&scan);
        }
        let state = self.state_now();
        let (records, next) = scan::page(&state.records, state.now_ms, &scan)?;
        Ok(ScanPage { records: records.into(), next, as_of: self.cursor(state.revision) })
    }

    async fn write(&self, batch: Batch) -> Result<Written> {
        batch.validate()?;
        if let Some(key) = batch.partition_key() {
            self.state().keyspaces.check(key.keyspace)?;
        }
        self.change(|state| batch::write(state, &batch))
    }

    async fn fan_out(&self, fan_out: FanOut) -> Result<FannedOut> {
        fan_out.validate()?;
        self.state().keyspaces.check(fan_out.keyspace)?;
        Ok(self.change(|state| fan_out::expand(state, &fan_out)))
    }

    async fn watch(&self, range: WatchRange, from: WatchFrom) -> Result<Watch> {
        watch::open(&self.handle, range, from)
    }
}

#[cfg(test)]
mod tests;
