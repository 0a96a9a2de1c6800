//! The process that runs one store: opens it, writes the keys, then measures what it is asked to.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use keevo_core::{Error, ErrorKind, Random, Result, SeededRandom};
use serde::Serialize;

use super::keevo::KeevoSide;
use super::rocks::RocksSide;
use super::wire::{Answer, Ready, Run};
use super::{Embedded, EmbeddedCase, PARTITION_KEYS, SCAN_RECORDS, System};
use crate::load::{Measured, Tally, Values};
use crate::usage;
use crate::window::Window;

/// How many threads write the keys at first.
const PRELOAD_THREADS: u64 = 64;

/// The arguments of `keevo-bench side`, which `keevo-bench compare rocksdb` starts.
#[derive(Debug, Args)]
pub(crate) struct SideArgs {
    /// Which store.
    #[arg(value_enum)]
    system: System,
    /// Its folder, which is new.
    #[arg(long)]
    dir: PathBuf,
    /// How many keys are written at first.
    #[arg(long)]
    keys: u64,
    /// The size of a value, in bytes.
    #[arg(long)]
    value_bytes: usize,
}

/// Serves until its input ends.
pub(crate) fn run(args: &SideArgs) -> Result<()> {
    let data = args.dir.join("data");
    match args.system {
        System::Keevo => serve(&KeevoSide::open(&data)?, args),
        System::Rocksdb => serve(&RocksSide::open(&data, &args.dir.join("pattern"))?, args),
    }
}

fn serve(store: &impl Embedded, args: &SideArgs) -> Result<()> {
    preload(store, args.keys, args.value_bytes)?;
    say(&Ready { keys: args.keys })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|error| Error::new(ErrorKind::Io, "the runtime cannot be started").with_source(error))?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| Error::new(ErrorKind::Io, "the input cannot be read").with_source(error))?;
        let run: Run = serde_json::from_str(&line)
            .map_err(|error| Error::invalid(format!("'{line}' is no run")).with_source(error))?;
        say(&Answer::new(&drive(store, &run, &runtime)?))?;
    }
    Ok(())
}

fn say(what: &impl Serialize) -> Result<()> {
    let closed = |error: std::io::Error| Error::new(ErrorKind::Io, "the output is closed").with_source(error);
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(what).unwrap_or_default()).and_then(|()| out.flush()).map_err(closed)
}

/// Writes every key once and moves all of them to tables of the last level, so that reads find the same shape on both sides:
/// how many files a load leaves is chance.
fn preload(store: &impl Embedded, keys: u64, value_bytes: usize) -> Result<()> {
    let values = Values::new(value_bytes, u64::MAX);
    let write = |number: u64| -> Result<()> {
        let random = SeededRandom::new(number);
        for key in (number..keys).step_by(usize::try_from(PRELOAD_THREADS).unwrap_or(1)) {
            store.put(key, values.next(&random))?;
        }
        Ok(())
    };
    let written: Vec<Result<()>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..PRELOAD_THREADS).map(|number| scope.spawn(move || write(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(ended_badly()))).collect()
    });
    written.into_iter().collect::<Result<()>>()?;
    store.compact()
}

/// Drives the store with threads, and measures them and this process.
fn drive(store: &impl Embedded, run: &Run, runtime: &tokio::runtime::Runtime) -> Result<Measured> {
    let values = Values::new(run.value_bytes, u64::from(run.round));
    let window = Window::after(Duration::from_millis(run.warm_up_ms), Duration::from_millis(run.measure_ms));
    let (window, values) = (&window, &values);
    let thread = |number: u32| -> Result<Tally> {
        let random = SeededRandom::new((u64::from(run.round) << 32) | u64::from(number));
        let mut tally = Tally::new()?;
        loop {
            let began = window.now();
            if window.has_ended_at(began) {
                return Ok(tally);
            }
            let done = request(store, run, values, &random);
            let failed = done.is_err();
            tally.note(window, began, window.now(), done);
            if failed {
                std::thread::park_timeout(Duration::from_millis(10));
            }
        }
    };
    let thread = &thread;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..run.threads).map(|number| scope.spawn(move || thread(number))).collect();
        let usage = runtime.block_on(usage::over(&[std::process::id()], window));
        let mut tally = Tally::new()?;
        for thread in threads {
            tally.add(&thread.join().unwrap_or_else(|_| Err(ended_badly()))?)?;
        }
        Ok(Measured { tally, elapsed: window.measured(), usage: usage? })
    })
}

fn request(store: &impl Embedded, run: &Run, values: &Values, random: &SeededRandom) -> Result<()> {
    let key = random.next_u64() % run.keys;
    match run.case {
        EmbeddedCase::Put => store.put(key, values.next(random)),
        EmbeddedCase::Get => match store.get(key)? {
            Some(length) if length == run.value_bytes => Ok(()),
            Some(length) => Err(Error::corrupt(format!("a value has {length} bytes"))),
            None => Err(Error::new(ErrorKind::NotFound, "a key that was written is not there")),
        },
        EmbeddedCase::Scan => {
            let records = u64::try_from(SCAN_RECORDS).unwrap_or(u64::MAX);
            let from = key - key % PARTITION_KEYS + (key % PARTITION_KEYS).min(PARTITION_KEYS - records);
            match store.scan(from)? {
                SCAN_RECORDS => Ok(()),
                found => Err(Error::corrupt(format!("a scan found {found} records"))),
            }
        }
    }
}

fn ended_badly() -> Error {
    Error::new(ErrorKind::Closed, "a thread ended badly")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_stores_do_what_they_are_asked_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let keevo = KeevoSide::open(&folder.path().join("keevo")).expect("opened");
        let rocks = RocksSide::open(&folder.path().join("rocks"), &folder.path().join("pattern")).expect("opened");
        assert!(super::super::version(&folder.path().join("rocks")).expect("a version").starts_with(char::is_numeric));
        check(&keevo, &runtime);
        check(&rocks, &runtime);
    }

    fn check(store: &impl Embedded, runtime: &tokio::runtime::Runtime) {
        let run =
            |case| Run { case, threads: 4, keys: 2_000, value_bytes: 32, warm_up_ms: 0, measure_ms: 100, round: 0 };
        let empty = drive(store, &run(EmbeddedCase::Get), runtime).expect("a run").tally;
        assert!(empty.ops == 0 && empty.failed > 0, "nothing is there yet");
        preload(store, 2_000, 32).expect("written");
        assert_eq!((store.get(1_999).expect("read"), store.get(2_000).expect("read")), (Some(32), None));
        assert_eq!((store.scan(975).expect("read"), store.scan(990).expect("read")), (25, 10), "within a partition");
        for case in [EmbeddedCase::Put, EmbeddedCase::Get, EmbeddedCase::Scan] {
            let measured = drive(store, &run(case), runtime).expect("a run");
            assert!(measured.tally.ops > 10 && measured.tally.failed == 0, "{case:?}: {measured:?}");
        }
        let long = Run { value_bytes: 33, ..run(EmbeddedCase::Get) };
        assert!(drive(store, &long, runtime).expect("a run").tally.failed > 0, "values of another length");
    }
}
