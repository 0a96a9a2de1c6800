//! `keevo-faults`: three real keevod under real faults, and checkers of what they promised.
//!
//! ```text
//! main ─▶ isolate (namespaces of its own) ─▶ lab ─▶ cases ─▶ cluster + load ─▶ tally: the last line
//! ```
//!
//! Invariant: however it ends, no process, namespace, mount or loop device of its own is left.

mod args;
mod cases;
mod cluster;
mod disks;
mod interrupt;
mod isolate;
mod lab;
mod load;
mod network;
mod node;
mod output;
mod tally;
mod tools;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use keevo_core::{Error, ErrorKind, Random, Result, SeededRandom};

use self::args::Args;
use self::interrupt::Interrupt;
use self::isolate::Privileges;
use self::lab::Lab;
use self::output::say;

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Error::new(ErrorKind::Io, "the runtime cannot be started").with_source(error)),
    };
    match runtime.block_on(run(args)) {
        Ok(code) => code,
        Err(error) => fail(&error),
    }
}

fn fail(error: &Error) -> ExitCode {
    say(&format!("keevo-faults: {error}"));
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        say(&format!("  because: {source}"));
        cause = source.source();
    }
    ExitCode::FAILURE
}

/// The first start makes the folder and goes inside; the second one, or the only one, does the work.
async fn run(args: Args) -> Result<ExitCode> {
    if let (Some(_), Some(folder)) = (&args.inside, &args.dir) {
        let folder = folder.clone();
        return work(args, &folder).await;
    }
    let temporary = match args.dir {
        Some(_) => None,
        None => Some(
            tempfile::Builder::new()
                .prefix("keevo-faults-")
                .tempdir()
                .map_err(|error| Error::new(ErrorKind::Io, "no temporary folder can be made").with_source(error))?,
        ),
    };
    let folder = match (&temporary, &args.dir) {
        (Some(temporary), _) => temporary.path().to_owned(),
        (None, Some(folder)) => folder.clone(),
        (None, None) => return Err(Error::invalid("no folder")),
    };
    let privileges = if args.loopback { Privileges::None } else { Privileges::probe() };
    let code = if privileges == Privileges::None {
        work(args, &folder).await?
    } else {
        isolate::run_inside(privileges, &folder, &passed_on()).await?
    };
    if code != ExitCode::SUCCESS
        && code != isolate::stopped()
        && let Some(temporary) = temporary
    {
        say(&format!("what the nodes wrote and said is kept in {}", temporary.keep().display()));
    }
    Ok(code)
}

/// The arguments of the first start, less the folder, which the second one is told anew.
fn passed_on() -> Vec<String> {
    let mut arguments = std::env::args().skip(1);
    let mut kept = Vec::new();
    while let Some(argument) = arguments.next() {
        if argument == "--dir" {
            arguments.next();
        } else if !argument.starts_with("--dir=") {
            kept.push(argument);
        }
    }
    kept
}

async fn work(args: Args, folder: &Path) -> Result<ExitCode> {
    let mut interrupt = Interrupt::catch()?;
    let inside = args.inside.is_some();
    let seed = args.seed.unwrap_or_else(|| SeededRandom::from_os().next_u64() % 1_000_000);
    let mut lab = Lab::open(args, folder.to_owned(), seed)?;
    // What is under way is dropped, and with it every node.
    let done = tokio::select! {
        done = cases::run(&mut lab) => done,
        () = interrupt.arrived() => Err(Error::new(ErrorKind::Closed, "stopped by a signal")),
        () = isolate::outer_ended(), if inside => Err(Error::new(ErrorKind::Closed, "the outer program has ended")),
    };
    let stopped = done.is_err();
    if let Err(error) = &done {
        lab.tally.failed += 1;
        say(&format!("FAILED  {error}"));
    }
    if !lab.tally.is_good() {
        say(&format!("the plan of faults is the one of --seed {seed}"));
    }
    say(&lab.tally.line());
    Ok(match (lab.tally.is_good(), stopped) {
        (_, true) => isolate::stopped(),
        (true, false) => ExitCode::SUCCESS,
        (false, false) => ExitCode::FAILURE,
    })
}
