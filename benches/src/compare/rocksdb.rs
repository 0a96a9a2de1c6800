//! Keevo's embedded engine beside the rocksdb crate itself: the same options, the same load, in turns.

use std::path::PathBuf;

use clap::Args;
use keevo_core::Result;

use super::line::{Line, PeerName, Runs};
use super::plan::Side;
use super::table;
use crate::embedded::{self, EmbeddedCase, Run, SCAN_RECORDS, SideProcess, System};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::machine::{self, Machine};
use crate::output::{Output, note, print};
use crate::{plot, servers};

/// The arguments of `keevo-bench compare rocksdb`.
#[derive(Debug, Args)]
pub(crate) struct RocksdbArgs {
    /// What each thread does, in this order: reads before puts find every key once, in tables of the
    /// last level, on both sides.
    #[arg(long, value_enum, value_delimiter = ',',
        default_values_t = [EmbeddedCase::Get, EmbeddedCase::Scan, EmbeddedCase::Put])]
    case: Vec<EmbeddedCase>,
    /// How many threads at once; each figure is a run of its own.
    #[arg(long, default_values_t = [1, 16, 64], value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..=1_024))]
    clients: Vec<u32>,
    /// How many different keys are written and read, drawn evenly, 1,000 a partition.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
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
    /// How often each side runs, in turns with the other.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// How the result looks.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Where the folders of both are made, and removed afterwards (default: where temporary files go).
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Also draw throughput and latency by threads, as SVG files in this folder.
    #[arg(long, value_name = "FOLDER")]
    svg: Option<PathBuf>,
}

/// Both processes.
struct Sides {
    keevo: SideProcess,
    peer: SideProcess,
}

/// Compares and prints the result.
pub(super) async fn run(args: &RocksdbArgs) -> Result<(), Failure> {
    let mut interrupt = Interrupt::catch()?;
    let folder = servers::parent_folder(args.dir.as_deref())?;
    let machine = Machine::look_and_warn(&folder)?;
    // Whole partitions, so that every scan finds all its records.
    let keys = args.keys - args.keys % 1_000;
    let start = |system| SideProcess::start(system, &folder, keys, value_bytes(args));
    let mut sides = Sides { keevo: start(System::Keevo)?, peer: start(System::Rocksdb)? };
    tokio::select! {
        result = measure(args, keys, &machine, &mut sides) => result.map_err(Failure::from),
        () = interrupt.arrived() => Err(Failure::Interrupted),
    }
}

fn value_bytes(args: &RocksdbArgs) -> usize {
    usize::try_from(args.value_bytes).unwrap_or(usize::MAX)
}

async fn measure(args: &RocksdbArgs, keys: u64, machine: &Machine, sides: &mut Sides) -> Result<()> {
    let before = machine::quiet_or_note();
    sides.keevo.wait_ready().await?;
    sides.peer.wait_ready().await?;
    let version = embedded::version(&sides.peer.folder().join("data"))?;
    let peer = PeerName { name: System::Rocksdb.name().to_owned(), version };
    let mut lines = Vec::new();
    for &case in &args.case {
        for &threads in &args.clients {
            let mut runs = Runs::default();
            for round in 0..args.rounds {
                let run = Run {
                    case,
                    threads,
                    keys,
                    value_bytes: value_bytes(args),
                    warm_up_ms: args.warm_up_seconds * 1_000,
                    measure_ms: args.seconds * 1_000,
                    round,
                };
                let keevo = runs.add(Side::Keevo, sides.keevo.run(&run).await?)?;
                let other = runs.add(Side::Peer, sides.peer.run(&run).await?)?;
                let (case, last) = (case.name(), args.rounds);
                note(&format!(
                    "{case}, threads {threads}, round {} of {last}: keevo {keevo:.0}/s, rocksdb {other:.0}/s",
                    round + 1
                ));
            }
            for failure in runs.failures(&peer.name) {
                note(&format!("{}, threads {threads}: {failure}", case.name()));
            }
            let Some(line) = runs.line((case.name(), threads), value_bytes(args), &peer, machine) else { continue };
            if args.output == Output::Json {
                print(&line.json())?;
            }
            lines.push(line);
        }
    }
    if args.output == Output::Table {
        print(&text(args, keys, &peer, (machine, &before), &lines))?;
    }
    args.svg.as_deref().map_or(Ok(()), |folder| plot::draw(folder, &lines))
}

/// The result for people: what it was taken on, the table, how to read it.
fn text(
    args: &RocksdbArgs,
    keys: u64,
    peer: &PeerName,
    (machine, load_before): (&Machine, &str),
    lines: &[Line],
) -> String {
    format!(
        "Keevo {}, embedded, and RocksDB {} through the rocksdb crate with the same options; values of {} B, {keys} keys\n\
         {}; load average {load_before} before, {} after\n\n{}\n\n\
         Rounds: {}, of {} s, each after {} s of the same load unmeasured; the two take turns, each a process of its own.\n\
         Clients are threads that wait for each call; a put is synced to the disk, a scan reads {SCAN_RECORDS} records.\n\
         ops/s: answers of all rounds over their seconds; ratio: Keevo's ops/s over the peer's. CPU includes the threads.",
        env!("CARGO_PKG_VERSION"),
        peer.version,
        args.value_bytes,
        machine.line(),
        machine::load_average(),
        table::table(lines),
        args.rounds,
        args.seconds,
        args.warm_up_seconds,
    )
}
