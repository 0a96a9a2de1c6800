//! How many syncs and bytes a put costs as the groups of a node grow: the appends of all groups share the log's syncs.

use std::time::Duration;

use clap::Args;
use keevo_core::Result;
use serde::Serialize;

use super::report::known;
use super::{Alone, Report, connect};
use crate::failure::Failure;
use crate::figures::{Figures, Total, rounded};
use crate::load::{self, Case, Load};
use crate::machine::Machine;
use crate::output::note;
use crate::servers::{Cluster, Layout, Metrics, NODES};

const HEADER: [&str; 9] = [
    "groups",
    "clients",
    "puts/s",
    "p50 µs",
    "p99 µs",
    "syncs/s a node",
    "syncs/put a node",
    "log B/put",
    "B written/put",
];

/// The arguments of `keevo-bench groups`.
#[derive(Debug, Args)]
pub(crate) struct GroupsArgs {
    /// How many data shards the three nodes have; each figure is a cluster of its own.
    #[arg(long, default_values_t = [1, 8, 64], value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..=4_096))]
    groups: Vec<u32>,
    /// How many clients put at once, over all shards.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    clients: u32,
    /// How many different keys are written.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    keys: u64,
    /// The size of a value, in bytes.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    value_bytes: u32,
    /// How long the load is measured, in seconds; it has run for one second before.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    #[command(flatten)]
    alone: Alone,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    case: &'static str,
    groups: u32,
    clients: u32,
    value_bytes: u32,
    keevo: Cost,
    machine: &'a Machine,
}

/// What the puts cost. Each is one proposal, which every node appends to its log.
#[derive(Debug, Serialize)]
struct Cost {
    #[serde(flatten)]
    figures: Figures,
    /// Syncs of a node's log, the mean of the nodes, from their own counters; absent where they do not tell.
    syncs_per_s: Option<f64>,
    syncs_per_proposal: Option<f64>,
    /// Bytes that all nodes wrote to their logs, by their own count.
    log_bytes_per_op: Option<f64>,
}

impl Cost {
    fn new(figures: Figures, seconds: f64, before: &Metrics, after: &Metrics) -> Self {
        let per_s = |name| after.since(before, name).map(|count| count / seconds);
        let syncs_per_s = per_s("keevo_log_syncs_total").map(|all| all / f64::from(NODES));
        let a_put = |per_s: f64| (figures.ops_per_s > 0.0).then(|| per_s / figures.ops_per_s);
        Self {
            syncs_per_s: syncs_per_s.map(|value| rounded(value, 10.0)),
            syncs_per_proposal: syncs_per_s.and_then(a_put).map(|value| rounded(value, 10_000.0)),
            log_bytes_per_op: per_s("keevo_log_bytes_total").and_then(a_put).map(|value| rounded(value, 10.0)),
            figures,
        }
    }
}

/// Measures and prints the result.
pub(crate) async fn run(args: &GroupsArgs) -> Result<(), Failure> {
    let mut report = Report::new(args.alone.output, &HEADER);
    for &groups in &args.groups {
        let layout = Layout { flags: vec![("--shards", groups.to_string())], ..Layout::default() };
        args.alone
            .with_nodes(&layout, async |cluster, machine| measure(args, groups, cluster, machine, &mut report).await)
            .await?;
    }
    report.finish(
        "Three nodes; every put is appended to the log of each. Syncs are the log's own count, the mean of the nodes; log \
         bytes\nand bytes written are of all three nodes together, the latter as the kernel counts them (/proc/PID/io).",
    )?;
    Ok(())
}

async fn measure(
    args: &GroupsArgs,
    groups: u32,
    cluster: &mut Cluster,
    machine: &Machine,
    report: &mut Report,
) -> Result<()> {
    cluster.wait_ready().await?;
    let target = connect(cluster).await?;
    let value_bytes = usize::try_from(args.value_bytes).unwrap_or(usize::MAX);
    load::preload(&target, 0..args.keys, value_bytes).await?;
    let (warm_up, measure) = (Duration::from_secs(1), Duration::from_secs(args.seconds));
    let load = Load {
        case: Case::Put,
        clients: args.clients,
        keys: args.keys,
        value_bytes,
        warm_up,
        measure,
        round: 0,
        open_per_s: None,
    };
    let counters = async {
        tokio::time::sleep(warm_up).await;
        let before = cluster.metrics().await?;
        tokio::time::sleep(measure).await;
        Ok::<_, keevo_core::Error>((before, cluster.metrics().await?))
    };
    let pids = cluster.pids();
    let (measured, counters) = tokio::join!(load::drive(&target, &load, &pids), counters);
    let (measured, (before, after)) = (measured?, counters?);
    let figures = Total::from(measured).figures();
    let cost = Cost::new(figures, measure.as_secs_f64(), &before, &after);
    note(&format!("{groups} groups: {:.0} puts/s", cost.figures.ops_per_s));
    let micros = |value: Option<u64>| value.map_or_else(|| "–".to_owned(), |value| value.to_string());
    let cells = vec![
        groups.to_string(),
        args.clients.to_string(),
        format!("{:.0}", cost.figures.ops_per_s),
        micros(cost.figures.p50_us),
        micros(cost.figures.p99_us),
        known(cost.syncs_per_s, 0),
        known(cost.syncs_per_proposal, 4),
        known(cost.log_bytes_per_op, 0),
        known(cost.figures.bytes_written_per_op, 0),
    ];
    let (clients, value_bytes) = (args.clients, args.value_bytes);
    report.add(&Line { case: "groups", groups, clients, value_bytes, keevo: cost, machine }, cells)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::tests::run;

    #[test]
    fn syncs_are_told_for_one_node_and_bytes_for_all() {
        let (before, mut after) = (Metrics::default(), Metrics::default());
        after.add("keevo_log_syncs_total 600\nkeevo_log_bytes_total 1800000\n");
        let cost = Cost::new(Total::from(run(2_000, 100, 2, 0)).figures(), 2.0, &before, &after);
        assert_eq!(
            (cost.syncs_per_s, cost.syncs_per_proposal, cost.log_bytes_per_op),
            (Some(100.0), Some(0.1), Some(900.0))
        );
        let silent = Cost::new(Total::from(run(2_000, 100, 2, 0)).figures(), 2.0, &before, &before);
        assert_eq!((silent.syncs_per_s, silent.syncs_per_proposal), (None, None));
    }
}
