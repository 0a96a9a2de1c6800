//! What shards cost that nobody uses: CPU and memory of nodes without any request.

use std::time::Duration;

use clap::Args;
use keevo_core::Result;
use serde::Serialize;

use super::report::known;
use super::{Alone, Report};
use crate::failure::Failure;
use crate::figures::rounded;
use crate::machine::Machine;
use crate::output::note;
use crate::servers::{Cluster, Layout};
use crate::usage;
use crate::window::Window;

const HEADER: [&str; 5] = ["shards", "nodes", "CPU % of a core, a node", "RSS MiB a node", "RSS KiB a further shard"];
/// How long many shards may take until all of them have a leader.
const READY_WITHIN: Duration = Duration::from_mins(5);

/// The arguments of `keevo-bench idle`.
#[derive(Debug, Args)]
pub(crate) struct IdleArgs {
    /// How many data shards; each figure is a cluster of its own, and the first is what the others are held against.
    #[arg(long, default_values_t = [10, 100], value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..=4_096))]
    shards: Vec<u32>,
    /// How many nodes. With three or more every shard lies on three of them, else on one.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=16))]
    nodes: u16,
    /// How long the nodes are left alone before they are measured, in seconds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    settle_seconds: u64,
    /// How long they are measured, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    #[command(flatten)]
    alone: Alone,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    case: &'static str,
    shards: u32,
    nodes: u16,
    keevo: Cost,
    machine: &'a Machine,
}

/// What a node costs, the mean of all.
#[derive(Debug, Serialize)]
struct Cost {
    /// Of one core.
    cpu_percent: f64,
    rss_bytes: u64,
    /// By how much the resident set has grown since the first figure, over the shards that came to it.
    rss_bytes_per_shard: Option<f64>,
}

/// Measures and prints the result.
pub(crate) async fn run(args: &IdleArgs) -> Result<(), Failure> {
    let mut report = Report::new(args.alone.output, &HEADER);
    let mut first = None;
    for &shards in &args.shards {
        let flags = vec![("--shards", shards.to_string()), ("--replication-factor", replicas(args.nodes).to_string())];
        let layout = Layout { nodes: args.nodes, flags };
        let work = async |cluster: &mut Cluster, machine: &Machine| {
            let (cpu_percent, rss_bytes) = measure(args, cluster).await?;
            let (shards_before, rss_before) = *first.get_or_insert((shards, rss_bytes));
            let cost = Cost {
                cpu_percent,
                rss_bytes,
                rss_bytes_per_shard: growth(rss_before, rss_bytes, shards.saturating_sub(shards_before)),
            };
            note(&format!("{shards} shards: {cpu_percent:.1} % of a core"));
            let cells = vec![
                shards.to_string(),
                args.nodes.to_string(),
                format!("{cpu_percent:.2}"),
                (rss_bytes >> 20).to_string(),
                known(cost.rss_bytes_per_shard.map(|bytes| bytes / 1_024.0), 1),
            ];
            report.add(&Line { case: "idle", shards, nodes: args.nodes, keevo: cost, machine }, cells)
        };
        args.alone.with_nodes(&layout, work).await?;
    }
    report.finish("No requests; the nodes' heartbeats and timers alone.")?;
    Ok(())
}

/// How many replicas each shard has.
fn replicas(nodes: u16) -> u16 {
    if nodes < 3 { 1 } else { 3 }
}

async fn measure(args: &IdleArgs, cluster: &mut Cluster) -> Result<(f64, u64)> {
    cluster.wait_ready_within(READY_WITHIN).await?;
    let window = Window::after(Duration::from_secs(args.settle_seconds), Duration::from_secs(args.seconds));
    let usage = usage::over(&cluster.pids(), &window).await?;
    let of_a_core = usage.cpu.as_secs_f64() / window.measured().as_secs_f64() / f64::from(args.nodes);
    Ok((rounded(of_a_core * 100.0, 100.0), usage.rss_bytes_max / u64::from(args.nodes)))
}

/// Bytes a shard; `None` where no shard came to it.
#[allow(clippy::cast_precision_loss, reason = "bytes of memory are far below 2^53")]
fn growth(before: u64, after: u64, shards: u32) -> Option<f64> {
    (shards > 0).then(|| rounded((after as f64 - before as f64) / f64::from(shards), 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_for_the_shards_that_came_to_it() {
        assert_eq!(growth(1_000_000, 3_000_000, 100), Some(20_000.0));
        assert_eq!(growth(3_000, 1_000, 2), Some(-1_000.0), "less is told as less");
        assert_eq!(growth(1, 2, 0), None);
    }
}
