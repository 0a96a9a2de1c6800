//! What the API log costs: puts with it and without, on clusters that start in turns.

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
use crate::servers::{Cluster, Layout, Metrics};

/// What the API log may cost of the throughput of writes, in percent.
const GOAL: u32 = 5;
const HEADER: [&str; 7] = ["round", "API log", "clients", "puts/s", "p50 µs", "p99 µs", "log B/put"];

/// The arguments of `keevo-bench api-log`.
#[derive(Debug, Args)]
pub(crate) struct ApiLogArgs {
    /// How often each of the two is measured, in turns, each time on new nodes.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How many clients put at once.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    clients: u32,
    /// How many different keys are written.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    keys: u64,
    /// The size of a value, in bytes.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    value_bytes: u32,
    /// How long the load is measured each time, in seconds; it has run for one second before.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    #[command(flatten)]
    alone: Alone,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    case: &'static str,
    round: u32,
    api_log: bool,
    clients: u32,
    value_bytes: u32,
    keevo: Cost,
    machine: &'a Machine,
}

#[derive(Debug, Serialize)]
struct Cost {
    #[serde(flatten)]
    figures: Figures,
    /// Bytes that all nodes wrote to their logs, by their own count.
    log_bytes_per_op: Option<f64>,
}

/// Measures and prints the result.
pub(crate) async fn run(args: &ApiLogArgs) -> Result<(), Failure> {
    let mut report = Report::new(args.alone.output, &HEADER);
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        // The one that begins changes, so that what warms up is nobody's gain.
        for on in [round % 2 == 1, round % 2 == 0] {
            let layout = Layout { flags: vec![("--api-log", on.to_string())], ..Layout::default() };
            let figures = if on { &mut with } else { &mut without };
            args.alone
                .with_nodes(&layout, async |cluster, machine| {
                    figures.push(measure(args, (round, on), cluster, machine, &mut report).await?);
                    Ok(())
                })
                .await?;
        }
    }
    report.finish(&words(&mut with, &mut without))?;
    Ok(())
}

/// What the API log takes of the throughput in each round, in percent, ascending; below 0 = it was faster with it.
fn costs(with: &[f64], without: &[f64]) -> Vec<f64> {
    let pairs = with.iter().zip(without).filter(|(_, without)| **without > 0.0);
    let mut costs: Vec<f64> = pairs.map(|(with, without)| (1.0 - with / without) * 100.0).collect();
    costs.sort_by(f64::total_cmp);
    costs
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

/// The result in words; `with` and `without` hold the puts a second of each round.
fn words(with: &mut [f64], without: &mut [f64]) -> String {
    let mut costs = costs(with, without);
    let cost = match (costs.first().copied(), costs.last().copied()) {
        (Some(least), Some(most)) => {
            format!("{:.1} % of the throughput (median of the rounds, {least:.1} to {most:.1})", median(&mut costs))
        }
        _ => "an unknown share of the throughput".to_owned(),
    };
    let (with, without) = (median(with), median(without));
    format!(
        "Three nodes, new ones for each line. Median with the API log {with:.0} puts/s, without {without:.0}. The API log costs\n\
         {cost}; the goal is at most {GOAL} %. Log bytes are of all three nodes together, by their own count."
    )
}

async fn measure(
    args: &ApiLogArgs,
    (round, on): (u32, bool),
    cluster: &mut Cluster,
    machine: &Machine,
    report: &mut Report,
) -> Result<f64> {
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
        round,
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
    let log_bytes_per_op = log_bytes(&before, &after, figures.ops_per_s * measure.as_secs_f64());
    let ops_per_s = figures.ops_per_s;
    note(&format!("API log {on}: {ops_per_s:.0} puts/s"));
    let micros = |value: Option<u64>| value.map_or_else(|| "–".to_owned(), |value| value.to_string());
    let cells = vec![
        round.to_string(),
        if on { "on" } else { "off" }.to_owned(),
        args.clients.to_string(),
        format!("{ops_per_s:.0}"),
        micros(figures.p50_us),
        micros(figures.p99_us),
        known(log_bytes_per_op, 0),
    ];
    let (clients, value_bytes) = (args.clients, args.value_bytes);
    let keevo = Cost { figures, log_bytes_per_op };
    report.add(&Line { case: "api-log", round, api_log: on, clients, value_bytes, keevo, machine }, cells)?;
    Ok(ops_per_s)
}

fn log_bytes(before: &Metrics, after: &Metrics, ops: f64) -> Option<f64> {
    let bytes = after.since(before, "keevo_log_bytes_total")?;
    (ops > 0.0).then(|| rounded(bytes / ops, 10.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_is_of_rounds_and_not_of_medians() {
        assert_eq!((median(&mut [3.0, 1.0, 2.0]), median(&mut [])), (2.0, 0.0));
        // The machine was twice as fast in the second round, for both.
        let told = words(&mut [95.0, 196.0, 97.0], &mut [100.0, 200.0, 100.0]);
        assert!(told.contains("costs\n3.0 % of the throughput (median of the rounds, 2.0 to 5.0)"), "{told}");
        assert!(words(&mut [950.0], &mut [0.0]).contains("an unknown share"));
    }
}
