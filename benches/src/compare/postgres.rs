//! Keevo's feeds beside PostgreSQL, where a timeline is a table of entries that is joined with activities and users.

use clap::{Args, ValueEnum};
use keevo_core::{Error, Result};

use super::line::PeerName;
use super::timelines::{self, Case, TimelineArgs, Work};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::machine::{self, Machine};
use crate::output::{Output, note};
use crate::servers::{self, Cluster, Layout, programs};
use crate::timelines::{KeevoTimelines, PostgresTimelines};
use crate::usage;

/// The arguments of `keevo-bench compare postgres`.
#[derive(Debug, Args)]
pub(super) struct PostgresArgs {
    /// What is measured.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [PostgresCase::Timeline])]
    case: Vec<PostgresCase>,
    #[command(flatten)]
    timelines: TimelineArgs,
}

/// What is measured beside PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PostgresCase {
    /// Pages of 25 with their users, on one node, while posts go on.
    Timeline,
    /// Posts to all timelines on one node.
    #[value(name = "fan_out_1")]
    FanOut1,
}

impl PostgresCase {
    fn case(self) -> Case {
        let (name, work) = match self {
            Self::Timeline => ("timeline", Work::Pages),
            Self::FanOut1 => ("fan_out_1", Work::FanOut),
        };
        Case { name, work, nodes: 1 }
    }
}

/// Compares and prints the result.
pub(super) async fn run(args: &PostgresArgs) -> Result<(), Failure> {
    let postgres = programs::postgres()?;
    let keevod = programs::keevod(args.timelines.keevod.as_deref())?;
    let mut interrupt = Interrupt::catch()?;
    let peer = PeerName { name: "postgres".to_owned(), version: programs::version(&postgres).await? };
    let folder = servers::parent_folder(args.timelines.dir.as_deref())?;
    let machine = Machine::look_and_warn(&folder)?;
    machine::quiet_or_note();
    let mut lines = Vec::new();
    for case in args.case.iter().map(|case| case.case()) {
        let layout = Layout { nodes: case.nodes, ..Layout::default() };
        let keevo = servers::start_keevo(&keevod, &folder, &layout)?;
        let mut clusters = vec![keevo, servers::start_postgres(&postgres, &folder)?];
        let result = tokio::select! {
            result = measure(&args.timelines, case, &peer, &machine, &mut clusters) => result.map_err(Failure::from),
            () = interrupt.arrived() => Err(Failure::Interrupted),
        };
        servers::stop_all(clusters).await;
        lines.extend(result?);
    }
    if args.timelines.output == Output::Table {
        timelines::print_table(&args.timelines, &peer, &machine, &lines)?;
    }
    note("memory of postgres counts the shared buffers once a process that has touched them");
    Ok(())
}

async fn measure(
    args: &TimelineArgs,
    case: Case,
    name: &PeerName,
    machine: &Machine,
    clusters: &mut [Cluster],
) -> Result<Option<timelines::Line>> {
    for cluster in clusters.iter_mut() {
        cluster.wait_ready().await?;
    }
    let [keevo, peer] = clusters else { return Err(Error::invalid("a comparison has two sides")) };
    let address = peer.addresses().first().map_or("", String::as_str);
    let timelines = PostgresTimelines::open(address, args.shape()).await?;
    // Its connections are open by now, each with a process of its own.
    let pids = usage::with_children(&peer.pids());
    let side = (KeevoTimelines::open(keevo.addresses(), args.shape()).await?, keevo.pids());
    let line = timelines::measure(args, case, side, (name, timelines, pids), machine).await?;
    line.iter().try_for_each(|line| line.print(args.output))?;
    Ok(line)
}
