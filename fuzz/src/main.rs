//! `keevo-fuzz`: every decoder fed with damaged inputs for as long as it is told; exits 1 when one fails.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use keevo_core::{Clock, Random, SeededRandom, SystemClock};
use keevo_fuzz::{Failure, Stop, Target, find, run, targets};

/// Feeds every decoder of Keevo with damaged inputs.
#[derive(Debug, Parser)]
#[command(name = "keevo-fuzz", version)]
struct Arguments {
    /// Seconds, shared evenly among the targets.
    #[arg(long, default_value_t = 60)]
    secs: u64,
    /// Only this target.
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Replays a run; without it, one is drawn and printed.
    #[arg(long)]
    seed: Option<u64>,
    /// Lists the targets and ends.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match fuzz(&arguments, &mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Where stdout is gone, stderr may be too: then the exit code is all that is left to say.
            drop(writeln!(io::stderr(), "keevo-fuzz: {error}"));
            ExitCode::from(2)
        }
    }
}

/// Whether no target failed.
fn fuzz(arguments: &Arguments, out: &mut impl Write) -> io::Result<bool> {
    if arguments.list {
        for target in targets() {
            writeln!(out, "{}", target.name)?;
        }
        return Ok(true);
    }
    let targets: Vec<Target> = match &arguments.target {
        Some(name) => vec![find(name).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("there is no target '{name}'; --list names them"))
        })?],
        None => targets(),
    };
    let seed = arguments.seed.unwrap_or_else(|| SeededRandom::from_os().next_u64());
    let clock = SystemClock::new();
    let share = Duration::from_secs(arguments.secs) / u32::try_from(targets.len()).unwrap_or(1).max(1);
    let (mut executions, mut passed, mut failed) = (0, 0, 0);
    for target in &targets {
        let tally = run(target, seed, Stop::After(share), &clock);
        executions += tally.executions;
        writeln!(out, "{:18} {:>12} executions {:>12} accepted", target.name, tally.executions, tally.accepted)?;
        passed += u64::from(tally.failure.is_none() && tally.executions > 0);
        if let Some(Failure { input, message }) = tally.failure {
            failed += 1;
            writeln!(out, "{} FAILED under seed {seed}: {message}\n  input {}", target.name, hex(&input))?;
        }
    }
    let seconds = clock.monotonic().as_secs_f64();
    writeln!(
        out,
        "fuzz: {passed} passed, {failed} failed, {} targets, {executions} executions, seed {seed}, {seconds:.1} s",
        targets.len()
    )?;
    Ok(passed > 0 && failed == 0)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes what is written to it");
        text
    })
}
