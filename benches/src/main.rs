//! keevo-bench: Keevo under load, beside its peers or alone.
//!
//! `compare PEER` starts Keevo and the peer side by side and drives both; `load` drives a cluster that runs already; the
//! other subcommands start Keevo alone and measure one thing each.

mod alone;
mod channels;
mod chat;
mod compare;
mod embedded;
mod failure;
mod figures;
mod interrupt;
mod load;
mod machine;
mod moderation;
mod output;
mod plot;
mod report;
mod servers;
mod target;
mod timelines;
mod usage;
mod window;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use keevo_client::{ClientOptions, RemoteEngine};
use keevo_core::{Error, ErrorKind, Result};

use alone::{ApiLogArgs, FanOutArgs, GroupsArgs, IdleArgs, RestartArgs, ScaleArgs, StormArgs};
use compare::CompareArgs;
use embedded::SideArgs;
use failure::Failure;
use load::{Case, Load};
use moderation::ModerationArgs;
use output::{Output, note, print};
use report::Row;
use target::Keevo;

/// Measures Keevo: beside a peer under the same load, or a cluster that runs already.
#[derive(Debug, Parser)]
#[command(name = "keevo-bench", version)]
struct Cli {
    #[command(subcommand)]
    work: Work,
}

#[derive(Debug, Subcommand)]
enum Work {
    /// Starts Keevo and a peer, drives both in turns, and prints both and the ratio.
    Compare(CompareArgs),
    /// Drives a running cluster through keevo-client and prints throughput and latency.
    Load(RunningArgs),
    /// What the API log costs: puts with it and without.
    ApiLog(ApiLogArgs),
    /// Cost of a post as its followers grow, in steps.
    FanOut(FanOutArgs),
    /// Syncs and bytes that a put costs as the groups (shards) of three nodes grow.
    Groups(GroupsArgs),
    /// CPU and memory of shards that nobody uses.
    Idle(IdleArgs),
    /// The moderation sidecar beside Flask, and its classifier beside onnxruntime.
    Moderation(ModerationArgs),
    /// Time until nodes serve again that were killed with much unflushed log.
    Restart(RestartArgs),
    /// Cost of puts and gets as the keys grow, in steps.
    Scale(ScaleArgs),
    /// Many clients that connect at once.
    Storm(StormArgs),
    /// Runs one embedded store for `compare rocksdb`, which starts it.
    #[command(hide = true)]
    Side(SideArgs),
}

/// What every kind of run is told.
#[derive(Debug, Args)]
struct LoadArgs {
    /// What each client does.
    #[arg(long, value_enum, default_values_t = [Case::Put, Case::Get], value_delimiter = ',')]
    case: Vec<Case>,
    /// How many clients at once; each figure is a run of its own.
    #[arg(long, default_values_t = [1, 64, 256], value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..=4_096))]
    clients: Vec<u32>,
    /// How many different keys are written and read, drawn evenly.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    keys: u64,
    /// The size of a value, in bytes.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    value_bytes: u32,
    /// How long each run is measured, in seconds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How long the load runs before it is measured, in seconds.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=600))]
    warm_up_seconds: u64,
    /// How the result looks.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Let requests be due at this rate a second, whatever the system does (open loop); then `clients` only bounds how
    /// many are under way, and latencies count from when a request was due.
    #[arg(long, value_name = "RATE", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    open: Option<u32>,
}

impl LoadArgs {
    fn value_bytes(&self) -> usize {
        usize::try_from(self.value_bytes).unwrap_or(usize::MAX)
    }
}

#[derive(Debug, Args)]
struct RunningArgs {
    /// Nodes of the cluster, host:port, comma-separated.
    #[arg(long, env = "KEEVO_ENDPOINTS", default_value = "127.0.0.1:7101", value_delimiter = ',')]
    endpoints: Vec<String>,
    #[command(flatten)]
    load: LoadArgs,
}

/// Threads of the load, whatever the system: as many as keevod takes, so that none of them is what a request waits for.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(4, |count| count.get().max(4))
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(workers()).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let error = Error::new(ErrorKind::Io, "the runtime cannot be started").with_source(error);
            return fail(&Failure::Failed(error));
        }
    };
    let done = match &cli.work {
        Work::Side(args) => embedded::run(args).map_err(Failure::from),
        Work::Compare(args) => runtime.block_on(compare::run(args)),
        Work::ApiLog(args) => runtime.block_on(alone::api_log(args)),
        Work::FanOut(args) => runtime.block_on(alone::fan_out(args)),
        Work::Groups(args) => runtime.block_on(alone::groups(args)),
        Work::Idle(args) => runtime.block_on(alone::idle(args)),
        Work::Moderation(args) => runtime.block_on(moderation::run(args)),
        Work::Restart(args) => runtime.block_on(alone::restart(args)),
        Work::Scale(args) => runtime.block_on(alone::scale(args)),
        Work::Storm(args) => runtime.block_on(alone::storm(args)),
        Work::Load(args) => runtime.block_on(load_running(args)).map_err(Failure::from),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

fn fail(failure: &Failure) -> ExitCode {
    note(&failure.to_string());
    if let Failure::Failed(error) = failure {
        let mut cause = std::error::Error::source(error);
        while let Some(source) = cause {
            note(&format!("because: {source}"));
            cause = source.source();
        }
    }
    ExitCode::from(failure.exit_code())
}

async fn load_running(args: &RunningArgs) -> Result<()> {
    let engine = RemoteEngine::connect(args.endpoints.clone(), ClientOptions::default()).await?;
    let target = Keevo::open(engine).await?;
    let value_bytes = args.load.value_bytes();
    load::preload(&target, 0..args.load.keys, value_bytes).await?;
    let mut rows = Vec::new();
    for &case in &args.load.case {
        for &clients in &args.load.clients {
            let load = Load {
                case,
                clients,
                keys: args.load.keys,
                value_bytes,
                warm_up: Duration::from_secs(args.load.warm_up_seconds),
                measure: Duration::from_secs(args.load.seconds),
                round: 0,
                open_per_s: args.load.open,
            };
            let row = Row::new(&load, &load::drive(&target, &load, &[]).await?);
            if args.load.output == Output::Json {
                print(&row.json())?;
            }
            rows.push(row);
        }
    }
    if args.load.output == Output::Table {
        print(&report::table(&rows))?;
    }
    Ok(())
}
