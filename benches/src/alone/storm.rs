//! Many clients that connect at once: how long until each of them is served.
//!
//! Every client comes with connections of its own, as after a restart of all programs that use the cluster.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use keevo_client::{ClientOptions, RemoteEngine};
use keevo_core::{Error, ErrorKind, Result};
use serde::Serialize;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::{Alone, Report, connect};
use crate::failure::Failure;
use crate::figures::{Figures, Total};
use crate::load::{Measured, Tally};
use crate::machine::Machine;
use crate::servers::{Cluster, Layout};
use crate::target::{Keevo, Target, key};
use crate::usage;
use crate::window::Window;

const HEADER: [&str; 7] = ["clients", "served", "failed", "p50 ms", "p99 ms", "CPU s", "RSS MiB"];

/// The arguments of `keevo-bench storm`.
#[derive(Debug, Args)]
pub(crate) struct StormArgs {
    /// How many clients connect at once.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    clients: u32,
    /// How long they may take, in seconds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    within_seconds: u64,
    #[command(flatten)]
    alone: Alone,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    case: &'static str,
    clients: u32,
    value_bytes: u32,
    /// Of the whole span that the clients had; a latency is from the common start to the client's last answer.
    keevo: Figures,
    machine: &'a Machine,
}

/// Measures and prints the result.
pub(crate) async fn run(args: &StormArgs) -> Result<(), Failure> {
    let mut report = Report::new(args.alone.output, &HEADER);
    let work = async |cluster: &mut Cluster, machine: &Machine| measure(args, cluster, machine, &mut report).await;
    args.alone.with_nodes(&Layout::default(), work).await?;
    report.finish(
        "Three nodes. Every client connects, puts one key and reads it back; its time runs from the common start to the \
         last answer.",
    )?;
    Ok(())
}

async fn measure(args: &StormArgs, cluster: &mut Cluster, machine: &Machine, report: &mut Report) -> Result<()> {
    cluster.wait_ready().await?;
    // The keyspace is there before they come.
    drop(connect(cluster).await?);
    let window = Arc::new(Window::after(Duration::ZERO, Duration::from_secs(args.within_seconds)));
    let start = Arc::new(Barrier::new(usize::try_from(args.clients).unwrap_or(usize::MAX)));
    let mut clients = JoinSet::new();
    for number in 0..args.clients {
        let (addresses, window, start) = (cluster.addresses().to_vec(), Arc::clone(&window), Arc::clone(&start));
        clients.spawn(async move {
            start.wait().await;
            let began = window.now();
            let served = tokio::time::timeout(window.until_end(), serve(addresses, number)).await;
            let late =
                |elapsed| Error::new(ErrorKind::DeadlineExceeded, "a client was not served").with_source(elapsed);
            (began, window.now(), served.unwrap_or_else(|elapsed| Err(late(elapsed))))
        });
    }
    let mut tally = Tally::new()?;
    let all = async {
        while let Some(client) = clients.join_next().await {
            let (began, ended, served) =
                client.map_err(|error| Error::new(ErrorKind::Closed, format!("a client ended badly: {error}")))?;
            tally.note(&window, began, ended, served);
        }
        Ok::<_, Error>(window.now())
    };
    let (usage, ended) = usage::until(&cluster.pids(), all).await?;
    if let Some(failure) = &tally.first_failure {
        crate::output::note(&format!("{} clients were not served, the first with {failure}", tally.failed));
    }
    let (served, failed) = (tally.ops, tally.failed);
    let elapsed = ended.saturating_sub(window.began()).max(Duration::from_millis(1));
    let figures = Total::from(Measured { tally, elapsed, usage }).figures();
    let millis = |value: Option<u64>| value.map_or_else(|| "–".to_owned(), |value| (value / 1_000).to_string());
    let cells = vec![
        args.clients.to_string(),
        served.to_string(),
        failed.to_string(),
        millis(figures.p50_us),
        millis(figures.p99_us),
        format!("{:.2}", figures.cpu_s),
        (figures.rss_bytes_max >> 20).to_string(),
    ];
    report.add(&Line { case: "storm", clients: args.clients, value_bytes: 256, keevo: figures, machine }, cells)
}

/// One client: connects, writes, reads back.
async fn serve(addresses: Vec<String>, number: u32) -> Result<()> {
    let target = Keevo::open(RemoteEngine::connect(addresses, ClientOptions::default()).await?).await?;
    let (key, value) = (key(u64::from(number)), Bytes::from(vec![b's'; 256]));
    target.put(key.clone(), value.clone()).await?;
    match target.get(key).await? {
        Some(found) if found == value => Ok(()),
        _ => Err(Error::corrupt("a client did not read what it had written")),
    }
}
