//! What a put and a get cost as the keys grow, in steps, on one cluster.

use std::time::Duration;

use clap::Args;
use keevo_core::Result;
use serde::Serialize;

use super::{Alone, Report, connect};
use crate::failure::Failure;
use crate::figures::{Figures, Total};
use crate::load::{self, Case, Load};
use crate::machine::Machine;
use crate::output::note;
use crate::servers::{Cluster, Layout};

const HEADER: [&str; 8] = ["case", "keys", "clients", "ops/s", "p50 µs", "p99 µs", "CPU µs/op", "B written/op"];

/// The arguments of `keevo-bench scale`.
#[derive(Debug, Args)]
pub(crate) struct ScaleArgs {
    /// How many keys there are at each step, ascending.
    #[arg(long, default_values_t = [10_000, 40_000, 160_000], value_delimiter = ',',
        value_parser = clap::value_parser!(u64).range(1..=99_999_999))]
    keys: Vec<u64>,
    /// How many clients at once.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    clients: u32,
    /// The size of a value, in bytes.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    value_bytes: u32,
    /// How long each case is measured at each step, in seconds; it has run for one second before.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    #[command(flatten)]
    alone: Alone,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    case: &'static str,
    keys: u64,
    clients: u32,
    value_bytes: u32,
    keevo: Figures,
    machine: &'a Machine,
}

/// Measures and prints the result.
pub(crate) async fn run(args: &ScaleArgs) -> Result<(), Failure> {
    let mut report = Report::new(args.alone.output, &HEADER);
    let work = async |cluster: &mut Cluster, machine: &Machine| measure(args, cluster, machine, &mut report).await;
    args.alone.with_nodes(&Layout::default(), work).await?;
    report.finish("Three nodes, the same cluster throughout; keys are drawn evenly from all that there are.")?;
    Ok(())
}

async fn measure(args: &ScaleArgs, cluster: &mut Cluster, machine: &Machine, report: &mut Report) -> Result<()> {
    cluster.wait_ready().await?;
    let target = connect(cluster).await?;
    let value_bytes = usize::try_from(args.value_bytes).unwrap_or(usize::MAX);
    let mut there = 0;
    for (step, &keys) in (0..).zip(&args.keys) {
        load::preload(&target, there..keys.max(there), value_bytes).await?;
        there = keys.max(there);
        for case in [Case::Put, Case::Get] {
            let load = Load {
                case,
                clients: args.clients,
                keys: there,
                value_bytes,
                warm_up: Duration::from_secs(1),
                measure: Duration::from_secs(args.seconds),
                round: step,
                open_per_s: None,
            };
            let measured = load::drive(&target, &load, &cluster.pids()).await?;
            let seconds = measured.elapsed.as_secs_f64();
            let figures = Total::from(measured).figures();
            note(&format!("{} over {there} keys: {:.0}/s", case.name(), figures.ops_per_s));
            let micros = |value: Option<u64>| value.map_or_else(|| "–".to_owned(), |value| value.to_string());
            let cells = vec![
                case.name().to_owned(),
                there.to_string(),
                args.clients.to_string(),
                format!("{:.0}", figures.ops_per_s),
                micros(figures.p50_us),
                micros(figures.p99_us),
                format!("{:.1}", figures.cpu_s * 1e6 / (figures.ops_per_s * seconds).max(1.0)),
                super::report::known(figures.bytes_written_per_op, 0),
            ];
            let (clients, value_bytes) = (args.clients, args.value_bytes);
            report
                .add(&Line { case: case.name(), keys: there, clients, value_bytes, keevo: figures, machine }, cells)?;
        }
    }
    Ok(())
}
