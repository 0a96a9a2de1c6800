//! What a post costs as its followers grow, in steps, each on nodes of its own.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use keevo_core::Result;
use serde::Serialize;

use super::{Alone, Report};
use crate::failure::Failure;
use crate::figures::{Figures, Total};
use crate::machine::Machine;
use crate::output::note;
use crate::plot;
use crate::servers::{Cluster, Layout};
use crate::timelines::{self, KeevoTimelines, Shape, Timelines};

const HEADER: [&str; 7] =
    ["followers", "in flight", "entries/s", "post p50 ms", "CPU µs/entry", "B written/entry", "RSS MiB"];
/// A post is measured at least this often, however long it takes.
const POSTS_MIN: u64 = 8;

/// The arguments of `keevo-bench fan-out`.
#[derive(Debug, Args)]
pub(crate) struct FanOutArgs {
    /// How many followers there are at each step.
    #[arg(long, default_values_t = [1_000, 10_000, 100_000, 1_000_000], value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    followers: Vec<u32>,
    /// How many posts are under way at once.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    in_flight: u32,
    /// The size of an activity's text, in bytes.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    text_bytes: u32,
    /// How many entries each step writes at least; it posts eight times at least.
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000_000))]
    entries: u64,
    /// How many nodes there are.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    /// Also draw entries a second by followers, as `fan-out-followers.svg` in this folder.
    #[arg(long, value_name = "FOLDER")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    alone: Alone,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    case: &'static str,
    followers: u32,
    clients: u32,
    value_bytes: u32,
    nodes: u16,
    keevo: Figures,
    machine: &'a Machine,
}

/// Measures and prints the result.
pub(crate) async fn run(args: &FanOutArgs) -> Result<(), Failure> {
    let mut report = Report::new(args.alone.output, &HEADER);
    let mut points = Vec::new();
    for &followers in &args.followers {
        let layout = Layout { nodes: args.nodes, ..Layout::default() };
        let mut entries_per_s = 0.0;
        let work = async |cluster: &mut Cluster, machine: &Machine| {
            entries_per_s = measure(args, followers, cluster, machine, &mut report).await?;
            Ok(())
        };
        args.alone.with_nodes(&layout, work).await?;
        points.push((followers.to_string(), entries_per_s));
    }
    report.finish("An entry is one row of one timeline, durable. Each step has nodes of its own, empty before.")?;
    if let Some(folder) = &args.svg {
        let title = "fan-out: entries a second by followers";
        plot::draw_curve(folder, ("fan-out-followers", title), "followers", points)?;
    }
    Ok(())
}

async fn measure(
    args: &FanOutArgs,
    followers: u32,
    cluster: &mut Cluster,
    machine: &Machine,
    report: &mut Report,
) -> Result<f64> {
    cluster.wait_ready().await?;
    note(&format!("{followers} followers: making the follows"));
    let shape = Shape { followers, text_bytes: usize::try_from(args.text_bytes).unwrap_or(usize::MAX) };
    let timelines = KeevoTimelines::open(cluster.addresses(), shape).await?;
    timelines::preload(&timelines, u64::from(args.in_flight), args.in_flight).await?;
    let posts = (args.entries / u64::from(followers)).max(POSTS_MIN);
    let measured = timelines::post_all(&timelines, (posts, followers, args.in_flight), &cluster.pids()).await?;
    timelines.entries().await?;
    let elapsed: Duration = measured.elapsed;
    let figures = Total::from(measured).figures();
    note(&format!("{followers} followers: {:.0} entries/s", figures.ops_per_s));
    let entries = (figures.ops_per_s * elapsed.as_secs_f64()).max(1.0);
    let p50_us = u32::try_from(figures.p50_us.unwrap_or_default()).unwrap_or(u32::MAX);
    let cells = vec![
        followers.to_string(),
        args.in_flight.to_string(),
        format!("{:.0}", figures.ops_per_s),
        format!("{:.1}", f64::from(p50_us) / 1_000.0),
        format!("{:.2}", figures.cpu_s * 1e6 / entries),
        super::report::known(figures.bytes_written_per_op, 0),
        (figures.rss_bytes_max >> 20).to_string(),
    ];
    let (entries_per_s, nodes, value_bytes) = (figures.ops_per_s, args.nodes, args.text_bytes);
    let (case, clients) = ("fan_out", args.in_flight);
    report.add(&Line { case, followers, clients, value_bytes, nodes, keevo: figures, machine }, cells)?;
    Ok(entries_per_s)
}
