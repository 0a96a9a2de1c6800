//! One run: machines, network, program and faults, moved on step by step until the program ends or a promise breaks.
//!
//! ```text
//! a step:  what is due happens ► faults ► the clients run ► each machine runs ► the invariants look
//! ```
//!
//! Invariant: one thread does all of it, in this order, so a seed decides everything.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use keevo_core::{Error, ErrorKind, Result};
use keevo_raft::runtime::seed_this_thread;
use tokio::sync::watch;

use crate::machine::{Machine, Site};
use crate::nemesis::Nemesis;
use crate::net::Wires;
use crate::observe::Observer;
use crate::panics;
use crate::plan::Plan;
use crate::random::Dice;
use crate::report::{Failure, Report};
use crate::runtime::HostRuntime;
use crate::sim::{Program, Sim, Violation};
use crate::world::{World, lock};

/// How often the invariants look at who leads, and at the data of all replicas, in milliseconds.
const LOOK_EVERY_MS: u64 = 10;
const LOOK_DEEP_EVERY_MS: u64 = 200;
/// How long a cluster may take until it is ready, in milliseconds.
const READY_WITHIN_MS: u64 = 60_000;

/// The cluster of one run.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) site: Site,
    pub(crate) machines: BTreeMap<u64, Machine>,
    pub(crate) clients: HostRuntime,
    pub(crate) sim: Sim,
    calm_tx: watch::Sender<bool>,
    ready_ms: Option<u64>,
}

/// Runs a program on a cluster as planned.
pub(crate) fn run(plan: Plan, program: Program) -> std::result::Result<Report, Box<Failure>> {
    seed_this_thread(plan.seed);
    panics::watch_this_thread();
    let (seed, chaos_ms) = (plan.seed, plan.chaos_ms);
    let world = World::new(seed, plan.whole_log);
    let outcome = simulate(plan, program, &world);
    world.end();
    let violation = match outcome {
        Ok(()) => world.violation(),
        Err(error) => Some(world.violation().unwrap_or_else(|| format!("the simulation itself failed: {error}"))),
    };
    let report = Report::new(seed, &world);
    match violation {
        None => Ok(report),
        Some(what) => {
            let tail = world.log().tail();
            Err(Box::new(Failure { seed, what, at_ms: world.now_ms(), chaos_ms, tail, report }))
        }
    }
}

fn simulate(plan: Plan, program: Program, world: &Arc<World>) -> Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("keevo-sim")
        .tempdir_in(scratch())
        .map_err(|error| Error::new(ErrorKind::Io, "no folder for snapshots can be made").with_source(error))?;
    let mut cluster = Cluster::new(plan, world, folder.path().to_owned())?;
    let mut nemesis = Nemesis::new(&cluster.site.plan);
    for machine in cluster.machines.values_mut() {
        machine.start(&cluster.site)?;
    }
    let ended = cluster.spawn_program(program);
    while lock(&ended).is_none() && world.violation().is_none() {
        world.step();
        cluster.step(&mut nemesis)?;
    }
    let ended = lock(&ended).take();
    if let Some(Err(Violation(what))) = ended {
        world.violate(what);
    }
    cluster.look(true);
    cluster.site.observer.count_checks();
    for machine in cluster.machines.values_mut() {
        machine.crash(&cluster.site, false);
    }
    Ok(())
}

/// Where files lie: in memory, if the machine has a place for that.
fn scratch() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

impl Cluster {
    fn new(plan: Plan, world: &Arc<World>, folder: PathBuf) -> Result<Self> {
        let wires = Wires::new(Arc::clone(world));
        wires.with_links(|links| links.delay = plan.delay_ms);
        let site = Site {
            wires,
            observer: Observer::new(Arc::clone(world), plan.judged_lease_ms()),
            plan: Arc::new(plan),
            folder,
        };
        let ids = 1..=site.plan.nodes;
        let machines = ids.clone().map(|id| (id, Machine::new(&site, id, false))).collect();
        let clients = HostRuntime::new(Dice::new(site.plan.seed, 4).next_u64())?;
        let (calm_tx, calm_rx) = watch::channel(false);
        let sim = Sim::new(site.wires.clone(), Arc::clone(&site.plan), calm_rx, ids.collect());
        Ok(Self { site, machines, clients, sim, calm_tx, ready_ms: None })
    }

    fn spawn_program(&self, program: Program) -> Arc<Mutex<Option<std::result::Result<(), Violation>>>> {
        let ended = Arc::new(Mutex::new(None));
        let (slot, sim) = (Arc::clone(&ended), self.sim.clone());
        self.clients.spawn(async move {
            let outcome = program(sim).await;
            *lock(&slot) = Some(outcome);
        });
        ended
    }

    fn world(&self) -> &Arc<World> {
        &self.site.wires.world
    }

    fn step(&mut self, nemesis: &mut Nemesis) -> Result<()> {
        let now_ms = self.world().now_ms();
        match self.ready_ms {
            None => self.wait_ready(now_ms, nemesis),
            Some(_) => nemesis.step(self, now_ms)?,
        }
        self.clients.run_until(now_ms);
        for machine in self.machines.values_mut() {
            machine.step(now_ms);
        }
        if now_ms.is_multiple_of(LOOK_EVERY_MS) {
            self.look(now_ms.is_multiple_of(LOOK_DEEP_EVERY_MS));
        }
        if let Some(panic) = panics::take() {
            self.world().violate(format!("a task panicked: {panic}"));
        }
        if now_ms > self.site.plan.limit_ms {
            self.world().violate(format!("liveness: the program did not end within {now_ms} ms"));
        }
        Ok(())
    }

    /// Faults begin when every replica knows its leader.
    fn wait_ready(&mut self, now_ms: u64, nemesis: &mut Nemesis) {
        let knows_leaders = |machine: &Machine| {
            machine.app().is_some_and(|app| {
                let replicas = app.node.replicas();
                app.node.map().is_some() && !replicas.is_empty() && replicas.iter().all(|one| one.leader_node > 0)
            })
        };
        if now_ms.is_multiple_of(LOOK_EVERY_MS) && self.machines.values().all(knows_leaders) {
            self.world().note(format_args!("the cluster is ready"));
            self.ready_ms = Some(now_ms);
            nemesis.begin(now_ms);
        } else if now_ms > READY_WITHIN_MS {
            self.world().violate(format!("liveness: the cluster was not ready after {now_ms} ms without faults"));
        }
    }

    /// Has the invariants look at every node.
    fn look(&self, deep: bool) {
        for machine in self.machines.values() {
            if let Some(app) = machine.app() {
                self.site.observer.look(&app.node, machine.boots(), machine.data(), deep);
            }
        }
    }

    /// Ends all faults, and tells the program.
    pub(crate) fn calm(&mut self, now_ms: u64) -> Result<()> {
        self.world().note(format_args!("the faults are over"));
        self.site.wires.with_links(crate::net::links::Links::mend_all);
        self.site.wires.release();
        for machine in self.machines.values_mut() {
            machine.resume(now_ms);
            machine.mend_disk();
            machine.sync_ms = self.site.plan.sync_ms;
            if machine.is_broken() {
                machine.crash(&self.site, false);
            }
            if !machine.is_up() && !self.sim.is_removed(machine.id) {
                machine.start(&self.site)?;
            }
        }
        self.calm_tx.send_replace(true);
        Ok(())
    }
}
