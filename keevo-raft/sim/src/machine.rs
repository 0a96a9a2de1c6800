//! One machine: its disks, its clock, and the node that runs on it until it is crashed.
//!
//! Invariant: a crash leaves exactly what was synced (log) and flushed (data); the runtime is dropped, so no task
//! of the node runs on. A torn write is a part of what was not synced, some sectors of it, reaching the disk all the same.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keevo_core::{Clock, Disk, Error, ErrorKind, Levels, ManualDisk, MemoryStore, Random, Result, Store};
use keevo_raft::log_store::{MemoryDisk, MemoryLogStore};
use keevo_raft::{Identity, IdentityStore, Node, NodeOptions, NodeParts, StorageCare, StorageLimits};

use crate::app::NodeApp;
use crate::net::transport::SimTransport;
use crate::net::{HostId, Wires};
use crate::observe::{Observer, WatchedLog};
use crate::plan::Plan;
use crate::random::Dice;
use crate::runtime::HostRuntime;
use crate::world::{SimClock, SimRandom, lock};

/// The smallest segment of a machine's log; the largest has eight times as many bytes.
const SEGMENT_BYTES_MIN: u64 = 4 << 10;
/// Free bytes below which a node refuses writes.
const LOW_WATER_BYTES: u64 = 1 << 20;

/// A node's identity file.
#[derive(Debug, Default)]
struct SimIdentity(Mutex<Option<Identity>>);

impl IdentityStore for SimIdentity {
    fn load(&self) -> Result<Option<Identity>> {
        Ok(*lock(&self.0))
    }

    fn save(&self, identity: &Identity) -> Result<()> {
        *lock(&self.0) = Some(*identity);
        Ok(())
    }
}

/// A node that runs.
#[derive(Debug)]
struct Running {
    runtime: HostRuntime,
    log: Arc<MemoryLogStore>,
    app: Arc<Mutex<Option<NodeApp>>>,
    /// The host's own time when it was started.
    started_ms: u64,
    /// A sync that is under way: when it is done, and how many calls it covers.
    sync: Option<(u64, usize)>,
    /// Its log's disk has failed: only another start helps.
    log_failed: bool,
}

/// One machine.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) id: HostId,
    join: bool,
    disk: Arc<MemoryDisk>,
    data: MemoryStore,
    /// How much room its disk has, as the node is told.
    space: Arc<ManualDisk>,
    identity: Arc<SimIdentity>,
    pub(crate) clock: Arc<SimClock>,
    dice: Dice,
    boots: u64,
    running: Option<Running>,
    /// Until when the process stands still.
    pub(crate) paused: bool,
    /// The shortest and the longest sync of the log, in milliseconds.
    pub(crate) sync_ms: (u64, u64),
}

/// What all machines of a run share.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) wires: Wires,
    pub(crate) observer: Arc<Observer>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) folder: PathBuf,
}

pub(crate) fn address(id: HostId) -> String {
    format!("node-{id}:7000")
}

impl Machine {
    /// A machine with empty disks, switched off.
    pub(crate) fn new(site: &Site, id: HostId, join: bool) -> Self {
        let dice = Dice::new(site.plan.seed, 1_000 + id);
        let most = site.plan.drift_per_million;
        let clock = Arc::new(SimClock::new(Arc::clone(&site.wires.world), 1_000_000 - most + dice.below(2 * most + 1)));
        Self {
            id,
            join,
            disk: MemoryDisk::with_segments(dice.next_u64(), SEGMENT_BYTES_MIN << dice.below(4)),
            data: MemoryStore::new(),
            space: Arc::default(),
            identity: Arc::default(),
            clock,
            dice,
            boots: 0,
            running: None,
            paused: false,
            sync_ms: site.plan.sync_ms,
        }
    }

    /// Starts the node on what the disks hold.
    pub(crate) fn start(&mut self, site: &Site) -> Result<()> {
        self.boots += 1;
        self.paused = false;
        let world = Arc::clone(&site.wires.world);
        world.note(format_args!("n{} starts, number {}", self.id, self.boots));
        let runtime = HostRuntime::new(self.dice.next_u64())?;
        let log = self.disk.open_unsynced();
        site.observer.opened(self.id, &log);
        let watched = WatchedLog { inner: Arc::clone(&log), observer: Arc::clone(&site.observer), node: self.id };
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let random: Arc<dyn Random> = Arc::new(SimRandom(Dice::new(self.dice.next_u64(), 0)));
        let parts = NodeParts {
            store: self.data.clone().into(),
            log: Arc::new(watched),
            transport: Arc::new(SimTransport { wires: site.wires.clone(), from: self.id }),
            identity: Arc::clone(&self.identity) as Arc<dyn IdentityStore>,
            clock: Arc::clone(&clock),
            random: Arc::clone(&random),
        };
        let app = Arc::new(Mutex::new(None));
        let care = self.care();
        runtime.spawn(run_node(site.clone(), (self.options(site), parts, care), clock, random, Arc::clone(&app)));
        let started_ms = self.clock.local_ms(world.now_ms());
        self.running = Some(Running { runtime, log, app, started_ms, sync: None, log_failed: false });
        Ok(())
    }

    fn care(&self) -> StorageCare {
        let limits = StorageLimits { low_water_bytes: LOW_WATER_BYTES, ..StorageLimits::NONE };
        StorageCare { disk: Arc::clone(&self.space) as Arc<dyn Disk>, limits }
    }

    fn options(&self, site: &Site) -> NodeOptions {
        let plan = &site.plan;
        NodeOptions {
            node_id: self.id,
            address: address(self.id),
            peers: (1..=plan.nodes).map(|id| (id, address(id))).collect::<BTreeMap<_, _>>(),
            shards: plan.shards,
            replication_factor: plan.replication_factor,
            join: self.join,
            timing: plan.timing,
            flush_every: Duration::from_millis(plan.flush_every_ms),
            staging: site.folder.join(self.id.to_string()),
            archive: None,
            levels: Levels::OURS,
        }
    }

    /// Cuts the machine's power. With `torn`, a part of what was not synced is on the disk all the same.
    pub(crate) fn crash(&mut self, site: &Site, torn: bool) -> bool {
        let Some(running) = self.running.take() else { return false };
        site.wires.disconnect(self.id);
        let unsynced = running.log.unsynced();
        if torn && unsynced > 0 {
            let count = self.dice.between(1, u64::try_from(unsynced).unwrap_or(u64::MAX));
            running.log.leak(usize::try_from(count).unwrap_or(usize::MAX));
            site.wires.world.count_fault("torn write");
        }
        if unsynced > 0 {
            site.wires.world.count_fault("lost sync");
        }
        site.wires.world.note(format_args!("n{} crashes with {unsynced} unsynced calls, torn: {torn}", self.id));
        // Opened and dropped: the store that was open is cut off from the disk.
        drop(self.disk.open_unsynced());
        self.data = self.data.flushed_copy();
        let app = lock(&running.app).take();
        site.wires.drop_host((running.runtime, app));
        true
    }

    /// Whether a process runs here.
    pub(crate) fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// Whether the process here cannot go on.
    pub(crate) fn is_broken(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.log_failed)
    }

    /// The node, once it has started.
    pub(crate) fn app(&self) -> Option<NodeApp> {
        self.running.as_ref().and_then(|running| lock(&running.app).clone())
    }

    /// How often it was started.
    pub(crate) fn boots(&self) -> u64 {
        self.boots
    }

    pub(crate) fn data(&self) -> &MemoryStore {
        &self.data
    }

    /// Lets the log's disk fail until the machine is started anew.
    pub(crate) fn fail_log(&mut self, kind: ErrorKind) -> bool {
        let Some(running) = &mut self.running else { return false };
        running.log_failed = true;
        running.log.fail_with(&Error::new(kind, "the log store has stopped: the simulated disk refuses the write"));
        true
    }

    /// Leaves no room on the disk: the node is to refuse writes, and to go on by itself once there is room again.
    pub(crate) fn fill_disk(&self) {
        self.space.set_free_bytes(0);
    }

    /// Ends what is wrong with the disk under the data.
    pub(crate) fn mend_disk(&self) {
        self.space.set_free_bytes(u64::MAX);
        self.data.set_fault(None);
    }

    /// Writes the data store's memory to its disk, as a store does when it likes.
    pub(crate) fn flush_data(&self) -> Result<()> {
        self.data.flush()
    }

    /// Moves the machine on to the world's time.
    pub(crate) fn step(&mut self, now_ms: u64) {
        let local_ms = self.clock.local_ms(now_ms);
        let Some(running) = &mut self.running else { return };
        if self.paused {
            return;
        }
        sync(running, now_ms, self.sync_ms, &self.dice);
        running.runtime.run_until(local_ms.saturating_sub(running.started_ms));
    }

    /// Lets a paused process go on, at the time that it is now.
    pub(crate) fn resume(&mut self, now_ms: u64) {
        let local_ms = self.clock.local_ms(now_ms);
        if let (true, Some(running)) = (self.paused, &self.running) {
            running.runtime.jump_to(local_ms.saturating_sub(running.started_ms));
        }
        self.paused = false;
    }
}

/// One sync at a time: it covers what was there when it began.
fn sync(running: &mut Running, now_ms: u64, (low, high): (u64, u64), dice: &Dice) {
    match running.sync {
        Some((done_ms, count)) if done_ms <= now_ms => {
            running.sync = None;
            running.log.flush(count);
        }
        Some(_) => return,
        None => {}
    }
    let unsynced = running.log.unsynced();
    if unsynced > 0 {
        running.sync = Some((now_ms + dice.between(low, high), unsynced));
    }
}

async fn run_node(
    site: Site,
    (options, parts, care): (NodeOptions, NodeParts, StorageCare),
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    slot: Arc<Mutex<Option<NodeApp>>>,
) {
    let (id, world) = (options.node_id, Arc::clone(&site.wires.world));
    let node = match Node::start_with(options, parts, care).await {
        Ok(node) => node,
        Err(error) => return world.note(format_args!("n{id} does not start: {error}")),
    };
    let app = NodeApp::new(node, &clock, &random);
    *lock(&slot) = Some(app.clone());
    let mut job_rx = site.wires.connect(id);
    world.note(format_args!("n{id} is up"));
    if site.plan.workloads.feeds {
        drop(tokio::spawn(app.clone().work_on_feeds()));
    }
    if site.plan.workloads.chat {
        drop(tokio::spawn(app.clone().work_on_chat()));
    }
    while let Some(job) = job_rx.recv().await {
        job(&app);
    }
}
