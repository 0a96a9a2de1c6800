//! Keevo beside a peer: both start here, meet the same load in turns, and are ended again.
//!
//! ```text
//! find programs ─▶ start 3 + 3 servers ─▶ all serve ─▶ write the keys on both ─▶ per case and number of clients:
//!                                                      (Keevo, peer, Keevo unary) × rounds ─▶ one line
//! ```
//!
//! Invariant: no ratio is printed that was not measured in this run. On every way out the servers are ended and
//! their folders removed.

mod line;
mod plan;
mod table;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use keevo_client::{ClientOptions, RemoteEngine};
use keevo_core::{Error, ErrorKind, Result};

use crate::LoadArgs;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::load::{self, Case};
use crate::machine::{self, Machine};
use crate::output::{Output, note, print};
use crate::servers::{self, Cluster, programs};
use crate::target::{Etcd, Keevo, KeevoUnary};
use line::{Line, PeerName, Runs};
use plan::{Plan, Side};

/// The load average beyond which a machine is not quiet.
const BUSY: f64 = 0.5;

/// Whom Keevo is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Peer {
    /// etcd, Debian's package etcd-server: three members, default settings.
    Etcd,
}

/// The arguments of `keevo-bench compare`.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// Whom to compare with.
    #[arg(value_enum)]
    peer: Peer,
    #[command(flatten)]
    load: LoadArgs,
    /// How often each side runs, in turns with the others.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Leave out Keevo over unary gRPC calls.
    #[arg(long)]
    no_unary: bool,
    /// The keevod to start (default: the one beside this program).
    #[arg(long, value_name = "PATH")]
    keevod: Option<PathBuf>,
    /// Where the servers' folders are made, and removed afterwards (default: where temporary files go).
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

/// Both systems, and the clients that drive them.
struct Sides {
    keevo: Keevo<RemoteEngine>,
    keevo_pids: Vec<u32>,
    unary: KeevoUnary,
    peer: Etcd,
    peer_pids: Vec<u32>,
}

/// Compares and prints the result.
pub(crate) async fn run(args: &CompareArgs) -> Result<(), Failure> {
    let Peer::Etcd = args.peer;
    let etcd = programs::peer("etcd", "etcd-server")?;
    let keevod = programs::keevod(args.keevod.as_deref())?;
    let mut interrupt = Interrupt::catch()?;
    let peer = PeerName { name: "etcd".to_owned(), version: programs::version(&etcd).await? };
    let folder = folder(args.dir.as_deref())?;
    let machine = Machine::look(&folder)?;
    for warning in machine.warnings() {
        note(&warning);
    }

    let keevo = servers::start_keevo(&keevod, &folder)?;
    let mut clusters = vec![keevo, servers::start_etcd(&etcd, &folder)?];
    let result = tokio::select! {
        result = measure(args, &peer, &machine, &mut clusters) => result.map_err(Failure::from),
        () = interrupt.arrived() => Err(Failure::Interrupted),
    };
    servers::stop_all(clusters).await;
    result
}

/// The folder in which the servers' folders are made.
fn folder(named: Option<&Path>) -> Result<PathBuf> {
    let folder = named.map_or_else(std::env::temp_dir, Path::to_owned);
    std::fs::create_dir_all(&folder).map_err(|error| {
        Error::new(ErrorKind::Io, format!("{} cannot be made", folder.display())).with_source(error)
    })?;
    Ok(folder)
}

async fn measure(args: &CompareArgs, peer: &PeerName, machine: &Machine, clusters: &mut [Cluster]) -> Result<()> {
    let plan = plan(args);
    let before = machine::load_average();
    if before.parse::<f64>().is_ok_and(|load| load > BUSY) {
        note(&format!("other work runs on this machine (load average {before}): the figures will tell of it too"));
    }
    let sides = ready(clusters, &plan).await?;
    let mut lines = Vec::new();
    for (case, clients) in plan.lines() {
        let mut runs = Runs::default();
        for (round, side) in plan.order() {
            let ops_per_s = runs.add(side, sides.drive(&plan, (case, clients), round, side).await?)?;
            note(&format!(
                "{}, clients {clients}, round {} of {}: {} {ops_per_s:.0}/s",
                case.name(),
                round + 1,
                plan.rounds,
                match side {
                    Side::Keevo => "keevo",
                    Side::Peer => peer.name.as_str(),
                    Side::KeevoUnary => "keevo unary",
                }
            ));
        }
        for failure in runs.failures(&peer.name) {
            note(&format!("{}, clients {clients}: {failure}", case.name()));
        }
        let Some(line) = runs.line((case, clients), plan.value_bytes, peer, machine) else { continue };
        if args.load.output == Output::Json {
            print(&line.json())?;
        }
        lines.push(line);
    }
    if args.load.output == Output::Table {
        print(&text(&plan, peer, machine, &before, &lines))?;
    }
    Ok(())
}

fn plan(args: &CompareArgs) -> Plan {
    Plan {
        cases: args.load.case.clone(),
        clients: args.load.clients.clone(),
        keys: args.load.keys,
        value_bytes: args.load.value_bytes(),
        warm_up: Duration::from_secs(args.load.warm_up_seconds),
        measure: Duration::from_secs(args.load.seconds),
        rounds: args.rounds,
        unary: !args.no_unary,
    }
}

/// Waits until all servers serve, connects to them and writes the keys on both sides.
async fn ready(clusters: &mut [Cluster], plan: &Plan) -> Result<Sides> {
    for cluster in clusters.iter_mut() {
        cluster.wait_ready().await?;
    }
    let [keevo, peer] = clusters else { return Err(Error::invalid("a comparison has two sides")) };
    let engine = RemoteEngine::connect(keevo.addresses().to_vec(), ClientOptions::default()).await?;
    let target = Keevo::open(engine).await?;
    let sides = Sides {
        unary: KeevoUnary::connect(target.clone(), keevo.addresses()).await?,
        keevo: target,
        keevo_pids: keevo.pids(),
        peer: Etcd::connect(peer.addresses()).await?,
        peer_pids: peer.pids(),
    };
    note("both systems serve; writing the keys on both");
    load::preload(&sides.keevo, plan.keys, plan.value_bytes).await?;
    load::preload(&sides.peer, plan.keys, plan.value_bytes).await?;
    Ok(sides)
}

impl Sides {
    async fn drive(&self, plan: &Plan, (case, clients): (Case, u32), round: u32, side: Side) -> Result<load::Measured> {
        let load = plan.load(case, clients, round);
        match side {
            Side::Keevo => load::drive(&self.keevo, &load, &self.keevo_pids).await,
            Side::Peer => load::drive(&self.peer, &load, &self.peer_pids).await,
            Side::KeevoUnary => load::drive(&self.unary, &load, &self.keevo_pids).await,
        }
    }
}

/// The result for people: what it was taken on, the table, how to read it.
fn text(plan: &Plan, peer: &PeerName, machine: &Machine, load_before: &str, lines: &[Line]) -> String {
    format!(
        "Keevo {} and {} {}, {} nodes each, values of {} B\n{}; load average {load_before} before, {} after\n\n{}\n\n\
         Rounds: {}, of {} s, each after {} s of the same load unmeasured; the systems take turns, and the one that does \
         not run stays up, idle.\nops/s: answers of all rounds over their seconds; ratio: Keevo's ops/s over {}'s. \
         Latencies are the clients' own, closed loop, not corrected for\ncoordinated omission. CPU, memory and bytes \
         written: the {} server processes together, CPU of all rounds.",
        env!("CARGO_PKG_VERSION"),
        peer.name,
        peer.version,
        servers::NODES,
        plan.value_bytes,
        machine.line(),
        machine::load_average(),
        table::table(lines),
        plan.rounds,
        plan.measure.as_secs(),
        plan.warm_up.as_secs(),
        peer.name,
        servers::NODES,
    )
}
