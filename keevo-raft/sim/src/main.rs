//! `keevo-sim`: runs seeds of the simulation. Exit code 0 if all of them kept all promises, else 1.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use keevo_sim::{RunnerOptions, run_seeds, run_swarm};

/// Runs whole clusters of Keevo from seeds, with faults, and checks what they promise.
#[derive(Debug, Parser)]
#[command(name = "keevo-sim", version)]
struct Args {
    /// How many seeds to run
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Run this one seed
    #[arg(long, conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
    /// Stop at the first seed that fails
    #[arg(long)]
    until_failure: bool,
    /// Run one seed of so many twice, and compare the event logs byte for byte; 0 = none
    #[arg(long, default_value_t = 50)]
    replay_every: u64,
    /// Write the event log of the one seed to this file
    #[arg(long, requires = "seed")]
    log: Option<PathBuf>,
    /// Print what the nodes trace, at the levels of `RUST_LOG`
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.trace {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_writer(std::io::stderr)
            .without_time()
            .with_ansi(false)
            .init();
    }
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody is left to tell that nothing can be told.
            let _told = writeln!(std::io::stderr(), "keevo-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> std::io::Result<bool> {
    let mut out = std::io::stdout().lock();
    if let (Some(seed), Some(path)) = (args.seed, &args.log) {
        let outcome = run_swarm(seed, true);
        let report = match &outcome {
            Ok(report) => report,
            Err(failure) => &failure.report,
        };
        std::fs::write(path, report.log.as_deref().unwrap_or_default())?;
        writeln!(out, "{} lines #{:016x}", report.log_lines, report.log_hash)?;
        if let Err(failure) = &outcome {
            writeln!(out, "{failure}")?;
        }
        return Ok(outcome.is_ok());
    }
    let options = RunnerOptions {
        first: args.seed.unwrap_or(args.first),
        seeds: if args.seed.is_some() { 1 } else { args.seeds },
        until_failure: args.until_failure,
        replay_every: args.replay_every,
    };
    let summary = run_seeds(&options, &mut out)?;
    writeln!(out, "operations {:?}", summary.operations)?;
    writeln!(out, "checks {:?}", summary.checks)?;
    writeln!(out, "{summary}")?;
    Ok(summary.is_ok())
}
