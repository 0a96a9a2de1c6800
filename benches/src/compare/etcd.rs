//! Keevo beside etcd: both start here, meet the same load in turns, and are ended again.
//!
//! ```text
//! find programs ─▶ start 3 + 3 servers ─▶ all serve ─▶ write the keys on both ─▶ per case and number of clients:
//!                                                      (Keevo, peer, Keevo unary) × rounds ─▶ one line
//! ```
//!
//! Invariant: no ratio is printed that was not measured in this run. On every way out the servers are ended and
//! their folders removed.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use keevo_client::{ClientOptions, RemoteEngine};
use keevo_core::{Error, Result};

use super::line::{Line, PeerName, Runs};
use super::plan::{Plan, Side};
use super::table;
use crate::LoadArgs;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::load::{self, Case};
use crate::machine::{self, Machine};
use crate::output::{Output, note, print};
use crate::plot;
use crate::servers::{self, Cluster, Layout, programs};
use crate::target::{Etcd, Keevo, KeevoUnary};

/// The arguments of `keevo-bench compare etcd`.
#[derive(Debug, Args)]
pub(crate) struct EtcdArgs {
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
    /// Also draw throughput and latency by clients, as SVG files in this folder.
    #[arg(long, value_name = "FOLDER")]
    svg: Option<PathBuf>,
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
pub(crate) async fn run(args: &EtcdArgs) -> Result<(), Failure> {
    let etcd = programs::peer("etcd", "etcd-server")?;
    let keevod = programs::keevod(args.keevod.as_deref())?;
    let mut interrupt = Interrupt::catch()?;
    let peer = PeerName { name: "etcd".to_owned(), version: programs::version(&etcd).await? };
    let folder = servers::parent_folder(args.dir.as_deref())?;
    let machine = Machine::look_and_warn(&folder)?;

    let keevo = servers::start_keevo(&keevod, &folder, &Layout::default())?;
    let mut clusters = vec![keevo, servers::start_etcd(&etcd, &folder)?];
    let result = tokio::select! {
        result = measure(args, &peer, &machine, &mut clusters) => result.map_err(Failure::from),
        () = interrupt.arrived() => Err(Failure::Interrupted),
    };
    servers::stop_all(clusters).await;
    result
}

async fn measure(args: &EtcdArgs, peer: &PeerName, machine: &Machine, clusters: &mut [Cluster]) -> Result<()> {
    let plan = plan(args);
    let before = machine::quiet_or_note();
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
        let Some(mut line) = runs.line((case.name(), clients), plan.value_bytes, peer, machine) else { continue };
        line.offered_per_s = plan.open_per_s;
        if args.load.output == Output::Json {
            print(&line.json())?;
        }
        lines.push(line);
    }
    if args.load.output == Output::Table {
        print(&text(&plan, peer, machine, &before, &lines))?;
    }
    if let Some(folder) = &args.svg {
        plot::draw(folder, &lines)?;
    }
    Ok(())
}

fn plan(args: &EtcdArgs) -> Plan {
    Plan {
        cases: args.load.case.clone(),
        clients: args.load.clients.clone(),
        keys: args.load.keys,
        value_bytes: args.load.value_bytes(),
        warm_up: Duration::from_secs(args.load.warm_up_seconds),
        measure: Duration::from_secs(args.load.seconds),
        rounds: args.rounds,
        unary: !args.no_unary,
        open_per_s: args.load.open,
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
    load::preload(&sides.keevo, 0..plan.keys, plan.value_bytes).await?;
    load::preload(&sides.peer, 0..plan.keys, plan.value_bytes).await?;
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
    let latencies = match plan.open_per_s {
        None => "the clients' own, closed loop, not corrected for coordinated omission".to_owned(),
        Some(rate) => format!(
            "from the moment that a request was due at {rate} requests/s, whether or not a client was free for it"
        ),
    };
    format!(
        "Keevo {} and {} {}, {} nodes each, values of {} B\n{}; load average {load_before} before, {} after\n\n{}\n\n\
         Rounds: {}, of {} s, each after {} s of the same load unmeasured; the systems take turns, and the one that does \
         not run stays up, idle.\nops/s: answers of all rounds over their seconds; ratio: Keevo's ops/s over {}'s. \
         Latencies are {latencies}.\nCPU, memory and bytes written: the {} server processes together, CPU of all rounds.",
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
