//! keevo-bench: load on a cluster that runs, measured from outside.
//!
//! Closed loop: each client sends its next request when the one before is answered. The ratio to a peer is printed
//! only by a comparison that starts both, which is not there yet: absolute figures do not carry between machines.

mod load;
mod report;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use keevo_client::{ClientOptions, RemoteEngine};
use keevo_core::{Error, Result};

use load::{Case, Load};
use report::Row;

/// Drives a running cluster through keevo-client and reports throughput and latency.
#[derive(Debug, Parser)]
#[command(name = "keevo-bench", version)]
struct Args {
    /// Nodes of the cluster, host:port, comma-separated.
    #[arg(long, env = "KEEVO_ENDPOINTS", default_value = "127.0.0.1:7101", value_delimiter = ',')]
    endpoints: Vec<String>,
    /// What each client does.
    #[arg(long, value_enum, default_values_t = [Case::Put, Case::Get], value_delimiter = ',')]
    case: Vec<Case>,
    /// How many clients at once; each figure is a run of its own.
    #[arg(long, default_values_t = [1, 64, 256], value_delimiter = ',')]
    clients: Vec<u32>,
    /// How long each run is measured, in seconds, after one second of warm-up.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// The size of a value, in bytes.
    #[arg(long, default_value_t = 256)]
    value_bytes: usize,
    /// How the result looks.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// One JSON object a line.
    Json,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Error::invalid(format!("the runtime cannot be started: {error}"))),
    };
    match runtime.block_on(run(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &Error) -> ExitCode {
    // With standard error gone there is nobody to tell.
    drop(writeln!(std::io::stderr(), "keevo-bench: {error}"));
    ExitCode::from(error.kind().row().exit_code)
}

async fn run(args: &Args) -> Result<()> {
    let engine = RemoteEngine::connect(args.endpoints.clone(), ClientOptions::default()).await?;
    let mut rows = Vec::new();
    for &case in &args.case {
        for &clients in &args.clients {
            let load = Load {
                case,
                clients,
                value_bytes: args.value_bytes,
                warm_up: Duration::from_secs(1),
                measure: Duration::from_secs(args.seconds.clamp(1, 600)),
            };
            let row = Row::new(&load, &load::drive(&engine, &load).await?);
            if args.output == Output::Json {
                print(&format!("{}\n", row.json()))?;
            }
            rows.push(row);
        }
    }
    if args.output == Output::Table {
        print(&format!("{}\n", report::table(&rows)))?;
    }
    Ok(())
}

fn print(text: &str) -> Result<()> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| Error::invalid("the output is closed").with_source(error))
}
