//! Keevo's feeds beside Redis, where timelines are sorted sets and every command is synced before it is answered.

use clap::{Args, ValueEnum};
use keevo_core::{Error, Result};

use super::line::PeerName;
use super::timelines::{self, Case, TimelineArgs, Work};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::machine::{self, Machine};
use crate::output::Output;
use crate::servers::{self, Cluster, Layout, programs};
use crate::timelines::{KeevoTimelines, RedisTimelines};

/// The arguments of `keevo-bench compare redis`.
#[derive(Debug, Args)]
pub(super) struct RedisArgs {
    /// What is measured, each case on systems of its own.
    #[arg(long, value_enum, value_delimiter = ',',
        default_values_t = [RedisCase::FanOut1, RedisCase::FanOut3, RedisCase::Timeline])]
    case: Vec<RedisCase>,
    #[command(flatten)]
    timelines: TimelineArgs,
}

/// What is measured beside Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RedisCase {
    /// Posts to all timelines on one node.
    #[value(name = "fan_out_1")]
    FanOut1,
    /// The same on three nodes, each of which holds all.
    #[value(name = "fan_out_3")]
    FanOut3,
    /// Pages of 25 with their users, on one node, while posts go on.
    #[value(name = "timeline")]
    Timeline,
}

impl RedisCase {
    fn case(self) -> Case {
        let (name, work, nodes) = match self {
            Self::FanOut1 => ("fan_out_1", Work::FanOut, 1),
            Self::FanOut3 => ("fan_out_3", Work::FanOut, 3),
            Self::Timeline => ("timeline", Work::Pages, 1),
        };
        Case { name, work, nodes }
    }
}

/// Compares and prints the result.
pub(super) async fn run(args: &RedisArgs) -> Result<(), Failure> {
    let redis = programs::peer("redis-server", "redis-server")?;
    let keevod = programs::keevod(args.timelines.keevod.as_deref())?;
    let mut interrupt = Interrupt::catch()?;
    let peer = PeerName { name: "redis".to_owned(), version: programs::version(&redis).await? };
    let folder = servers::parent_folder(args.timelines.dir.as_deref())?;
    let machine = Machine::look_and_warn(&folder)?;
    machine::quiet_or_note();
    let mut lines = Vec::new();
    for case in args.case.iter().map(|case| case.case()) {
        let layout = Layout { nodes: case.nodes, ..Layout::default() };
        let keevo = servers::start_keevo(&keevod, &folder, &layout)?;
        let mut clusters = vec![keevo, servers::start_redis(&redis, &folder)?];
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
    let writers = usize::try_from(args.in_flight()).unwrap_or(1);
    let timelines = RedisTimelines::open(address, writers, args.shape()).await?;
    let side = (KeevoTimelines::open(keevo.addresses(), args.shape()).await?, keevo.pids());
    let line = timelines::measure(args, case, side, (name, timelines, peer.pids()), machine).await?;
    line.iter().try_for_each(|line| line.print(args.output))?;
    Ok(line)
}
