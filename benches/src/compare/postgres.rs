//! Keevo's feeds beside PostgreSQL, where a timeline is a table of entries that is joined with activities and users.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use keevo_core::Result;

use super::timelines::{self, Case, Peer, TimelineArgs, Work};
use crate::failure::Failure;
use crate::output::note;
use crate::servers::{self, Cluster, programs};
use crate::timelines::PostgresTimelines;
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
    let peer = Postgres { program: programs::postgres()? };
    timelines::run(&peer, &args.timelines, args.case.iter().map(|case| case.case())).await?;
    note("memory of postgres counts the shared buffers once a process that has touched them");
    Ok(())
}

/// PostgreSQL as a peer.
struct Postgres {
    program: PathBuf,
}

impl Peer for Postgres {
    type Timelines = PostgresTimelines;

    fn name(&self) -> &'static str {
        "postgres"
    }

    fn program(&self) -> &Path {
        &self.program
    }

    fn start(&self, folder: &Path) -> Result<Cluster> {
        servers::start_postgres(&self.program, folder)
    }

    async fn open(&self, cluster: &Cluster, args: &TimelineArgs) -> Result<(PostgresTimelines, Vec<u32>)> {
        let address = cluster.addresses().first().map_or("", String::as_str);
        let timelines = PostgresTimelines::open(address, args.shape()).await?;
        // Its connections are open by now, each with a process of its own.
        Ok((timelines, usage::with_children(&cluster.pids())))
    }
}
