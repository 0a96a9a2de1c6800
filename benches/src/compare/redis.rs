//! Keevo's feeds beside Redis, where timelines are sorted sets and every command is synced before it is answered.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use keevo_core::Result;

use super::timelines::{self, Case, Peer, TimelineArgs, Work};
use crate::failure::Failure;
use crate::servers::{self, Cluster, programs};
use crate::timelines::RedisTimelines;

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
    let peer = Redis { program: programs::peer("redis-server", "redis-server")? };
    timelines::run(&peer, &args.timelines, args.case.iter().map(|case| case.case())).await
}

/// Redis as a peer.
struct Redis {
    program: PathBuf,
}

impl Peer for Redis {
    type Timelines = RedisTimelines;

    fn name(&self) -> &'static str {
        "redis"
    }

    fn program(&self) -> &Path {
        &self.program
    }

    fn start(&self, folder: &Path) -> Result<Cluster> {
        servers::start_redis(&self.program, folder)
    }

    async fn open(&self, cluster: &Cluster, args: &TimelineArgs) -> Result<(RedisTimelines, Vec<u32>)> {
        let address = cluster.addresses().first().map_or("", String::as_str);
        let writers = usize::try_from(args.in_flight()).unwrap_or(1);
        Ok((RedisTimelines::open(address, writers, args.shape()).await?, cluster.pids()))
    }
}
