//! Values in blob files or in tables: the measurement behind docs/decisions/0014.
//!
//! `cargo run --release -p keevo-core --example blobs [MIB]` writes each size of values both ways, in turns: every key
//! three times in random order, flushed as a node does, then compacted; then it reads keys at random and scans 25 at
//! a time. Figures of one run on one machine compare; those of two do not.

use std::io::Write;
use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use keevo_core::{
    CLASS_HASHED, Clock, Column, Direction, Durability, Error, ErrorKind, ExpiryClock, Random, Record, Result,
    Revision, RocksOptions, RocksStore, SeededRandom, Store, StoreBatch, StoreOp, StoredRecord, SystemClock,
};

const ROUNDS: u64 = 3;
const READS: u64 = 20_000;
const SCANS: u64 = 1_000;
const SCAN_RECORDS: usize = 25;
const BLOB_BYTES_MIN: u64 = 4 << 10;

/// What one way has cost.
struct Figures {
    write_s: f64,
    compact_s: f64,
    /// Bytes written by flushes and compactions, to tables and blobs, per byte of the caller's.
    amplification: f64,
    disk_bytes: u64,
    gets_per_s: f64,
    scans_per_s: f64,
}

fn main() -> Result<()> {
    let mib = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(128_u64);
    say("value     where   write MB/s  compact s  write ampl.  disk MiB    get /s   scan 25 /s")?;
    for value_bytes in [1_usize << 10, 4 << 10, 16 << 10, 64 << 10] {
        for round in 0..2 {
            for (name, blob_bytes_min) in [("tables", 0), ("blobs", BLOB_BYTES_MIN)] {
                let figures = measure(value_bytes, mib << 20, blob_bytes_min)?;
                let written = to_f64((mib << 20) * ROUNDS);
                say(&format!(
                    "{value_bytes:>6} {round} {name:>7} {:>11.1} {:>10.2} {:>12.2} {:>9} {:>9.0} {:>12.0}",
                    written / figures.write_s / 1e6,
                    figures.compact_s,
                    figures.amplification,
                    figures.disk_bytes >> 20,
                    figures.gets_per_s,
                    figures.scans_per_s,
                ))?;
            }
        }
    }
    Ok(())
}

fn measure(value_bytes: usize, total_bytes: u64, blob_bytes_min: u64) -> Result<Figures> {
    let dir = tempfile::tempdir().map_err(|error| Error::new(ErrorKind::Io, "no folder").with_source(error))?;
    let settings = RocksOptions {
        block_cache_bytes: 64 << 20,
        write_buffer_bytes: 32 << 20,
        background_bytes_per_s_max: 0,
        blob_bytes_min,
        ..RocksOptions::without_wal()
    };
    let store = RocksStore::open(dir.path(), settings)?;
    let (clock, random) = (SystemClock::new(), SeededRandom::new(7));
    let count = total_bytes / u64::try_from(value_bytes).unwrap_or(1);
    let write_s = seconds(&clock, || write(&store, &random, count, value_bytes))?;
    let compact_s = seconds(&clock, || store.compact())?;
    let stats = store.stats()?;
    let background = stats.flush_bytes + stats.compaction_bytes + stats.blob_bytes_written;
    let gets_s = seconds(&clock, || {
        for _ in 0..READS {
            store.get(Column::Data, &key(random.next_u64() % count))?;
        }
        Ok(())
    })?;
    let scans_s = seconds(&clock, || {
        for _ in 0..SCANS {
            let mut seen = 0;
            let mut visit = |_: &[u8], _: &[u8]| {
                seen += 1;
                Ok(if seen < SCAN_RECORDS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            };
            store.scan(Column::Data, &key(random.next_u64() % count), b"", Direction::Forward, &mut visit)?;
        }
        Ok(())
    })?;
    Ok(Figures {
        write_s,
        compact_s,
        amplification: to_f64(background) / to_f64(total_bytes * ROUNDS),
        disk_bytes: stats.table_bytes + stats.blob_bytes,
        gets_per_s: to_f64(READS) / gets_s,
        scans_per_s: to_f64(SCANS) / scans_s,
    })
}

/// Writes every key once a round, in random order, a flush after each quarter of a round.
fn write(store: &RocksStore, random: &SeededRandom, count: u64, value_bytes: usize) -> Result<()> {
    // As in a node: compactions look at every record for its expiry.
    let (lower, upper) = (Bytes::from_static(&[CLASS_HASHED]), Bytes::from_static(&[CLASS_HASHED + 1]));
    store.set_expiry(vec![ExpiryClock { lower, upper, now_ms: 1 }]);
    for round in 0..ROUNDS {
        let step = (random.next_u64() | 1) % count.max(2);
        let start = random.next_u64() % count;
        for number in 0..count {
            // Odd steps visit every key of a power of two.
            let place = (start + number.wrapping_mul(step | 1)) % count;
            let key = key(place);
            let record = Record { revision: Revision(round), expires_at_ms: None, value: noise(random, value_bytes) };
            let row = StoredRecord::value(record).encode(&key);
            store.write(StoreBatch { ops: vec![StoreOp::Put(Column::Data, key, row)] }, Durability::Unlogged)?;
            if number % (count / 4).max(1) == 0 {
                store.flush()?;
            }
        }
        store.flush()?;
    }
    Ok(())
}

fn key(number: u64) -> Bytes {
    Bytes::from([&[CLASS_HASHED][..], &number.to_be_bytes()].concat())
}

/// Half of it compresses.
fn noise(random: &SeededRandom, bytes: usize) -> Bytes {
    let mut value = Vec::with_capacity(bytes + 16);
    while value.len() < bytes {
        value.extend_from_slice(&random.next_u64().to_be_bytes());
        value.extend_from_slice(b"the same");
    }
    value.truncate(bytes);
    value.into()
}

fn seconds(clock: &SystemClock, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begun = clock.monotonic();
    work()?;
    Ok((clock.monotonic() - begun).max(Duration::from_micros(1)).as_secs_f64())
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn to_f64(value: u64) -> f64 {
    value as f64
}

fn say(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}").map_err(|error| Error::new(ErrorKind::Io, "no output").with_source(error))
}
