//! keevo-bench: Keevo under load, beside its peers or alone.
//!
//! `compare PEER` starts Keevo and the peer side by side and drives both; `load` drives a cluster that runs already.
//! Closed loop: each client sends its next request when the one before is answered.

mod channels;
mod compare;
mod failure;
mod figures;
mod interrupt;
mod load;
mod machine;
mod output;
mod report;
mod servers;
mod target;
mod usage;
mod window;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use keevo_client::{ClientOptions, RemoteEngine};
use keevo_core::{Error, ErrorKind, Result};

use compare::CompareArgs;
use failure::Failure;
use load::{Case, Load};
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
    /// Starts three nodes of Keevo and three of a peer, drives both in turns, and prints both and the ratio.
    Compare(CompareArgs),
    /// Drives a running cluster through keevo-client and prints throughput and latency.
    Load(RunningArgs),
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

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let error = Error::new(ErrorKind::Io, "the runtime cannot be started").with_source(error);
            return fail(&Failure::Failed(error));
        }
    };
    let done = match &cli.work {
        Work::Compare(args) => runtime.block_on(compare::run(args)),
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
    load::preload(&target, args.load.keys, value_bytes).await?;
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
