//! A comparison of timelines from its start to its end: both systems are started for each case, driven, and stopped.
//!
//! Invariant: what is started is stopped, whatever fails and whoever interrupts.

use std::path::Path;

use keevo_core::{Error, Result};

use super::{Case, Line, TimelineArgs, measure, print_table};
use crate::compare::line::PeerName;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::machine::{self, Machine};
use crate::output::Output;
use crate::servers::{self, Cluster, Layout, programs};
use crate::timelines::{KeevoTimelines, Timelines};

/// A system that Keevo is compared with.
pub(in crate::compare) trait Peer {
    /// How it is driven.
    type Timelines: Timelines;

    /// What it is called.
    fn name(&self) -> &'static str;

    /// The program of its server.
    fn program(&self) -> &Path;

    /// Starts it; its data goes to a folder made in `folder`.
    fn start(&self, folder: &Path) -> Result<Cluster>;

    /// Connects to it, once it serves; with the processes that it has by then.
    async fn open(&self, cluster: &Cluster, args: &TimelineArgs) -> Result<(Self::Timelines, Vec<u32>)>;
}

/// Compares Keevo with `peer` in all `cases` and prints the result.
pub(in crate::compare) async fn run<P: Peer>(
    peer: &P,
    args: &TimelineArgs,
    cases: impl IntoIterator<Item = Case>,
) -> Result<(), Failure> {
    let keevod = programs::keevod(args.keevod.as_deref())?;
    let mut interrupt = Interrupt::catch()?;
    let name = PeerName { name: peer.name().to_owned(), version: programs::version(peer.program()).await? };
    let folder = servers::parent_folder(args.dir.as_deref())?;
    let machine = Machine::look_and_warn(&folder)?;
    machine::quiet_or_note();
    let mut lines = Vec::new();
    for case in cases {
        let layout = Layout { nodes: case.nodes, flags: args.keevod_flags() };
        let keevo = servers::start_keevo(&keevod, &folder, &layout)?;
        let mut clusters = vec![keevo, peer.start(&folder)?];
        let result = tokio::select! {
            result = one(peer, args, case, &name, &machine, &mut clusters) => result.map_err(Failure::from),
            () = interrupt.arrived() => Err(Failure::Interrupted),
        };
        servers::stop_all(clusters).await;
        lines.extend(result?);
    }
    if args.output == Output::Table {
        print_table(args, &name, &machine, &lines)?;
    }
    Ok(())
}

async fn one<P: Peer>(
    peer: &P,
    args: &TimelineArgs,
    case: Case,
    name: &PeerName,
    machine: &Machine,
    clusters: &mut [Cluster],
) -> Result<Option<Line>> {
    for cluster in clusters.iter_mut() {
        cluster.wait_ready().await?;
    }
    let [keevo, other] = clusters else { return Err(Error::invalid("a comparison has two sides")) };
    let (timelines, pids) = peer.open(other, args).await?;
    let side = (KeevoTimelines::open(keevo.addresses(), args.shape()).await?, keevo.pids());
    let line = measure(args, case, side, (name, timelines, pids), machine).await?;
    line.iter().try_for_each(|line| line.print(args.output))?;
    Ok(line)
}
