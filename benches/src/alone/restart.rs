//! How long nodes take until they serve again after they were killed with much log that is not flushed.
//!
//! ```text
//! write until the log holds so much ─▶ kill -9 all nodes ─▶ start them again ─▶ read and write keys of all shards
//!                                                           └──────── serving_ms ─────────┘
//! ```
//!
//! The data store is kept from flushing: its buffers and bounds are larger than all that is written, and the timer is set to
//! an hour.
//! What was acknowledged is read back afterwards; a value that is missing is an error, not a figure.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use keevo_client::RemoteEngine;
use keevo_core::{Clock, Error, ErrorKind, Result, SeededRandom, SystemClock};
use serde::Serialize;
use tokio::task::JoinSet;

use super::report::known;
use super::{Alone, Report, connect};
use crate::failure::Failure;
use crate::figures::rounded;
use crate::load::Values;
use crate::machine::Machine;
use crate::output::note;
use crate::servers::{Cluster, Layout};
use crate::target::{Keevo, Target, key};
use crate::usage;

const HEADER: [&str; 9] = [
    "nodes",
    "log MiB a node",
    "flushed MiB a node",
    "serving ms",
    "ready ms",
    "reads ms",
    "writes ms",
    "CPU s",
    "RSS MiB a node",
];
/// How many clients write at once.
const WRITERS: u64 = 128;
/// How many keys, spread over all shards, have to be read and written before the cluster counts as serving.
const PROBES: u64 = 64;
/// How many acknowledged keys are read back.
const CHECKED: u64 = 1_000;
/// How long the nodes may take until they serve again.
const SERVING_WITHIN: Duration = Duration::from_mins(10);
const PAUSE: Duration = Duration::from_millis(10);

/// The arguments of `keevo-bench restart`.
#[derive(Debug, Args)]
pub(crate) struct RestartArgs {
    /// How much log is written before the kill, in bytes of values.
    #[arg(long, default_value_t = 1 << 30, value_parser = clap::value_parser!(u64).range(1 << 20..=1 << 36))]
    log_bytes: u64,
    /// How many bytes of values are written a second at most.
    #[arg(long, default_value_t = 64 << 20, value_parser = clap::value_parser!(u64).range(1 << 16..))]
    bytes_per_s_max: u64,
    /// How many nodes. With three or more every shard lies on three of them, else on one.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=16))]
    nodes: u16,
    /// The size of a value, in bytes.
    #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    value_bytes: u32,
    #[command(flatten)]
    alone: Alone,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    case: &'static str,
    nodes: u16,
    value_bytes: u32,
    keevo: Restart,
    machine: &'a Machine,
}

/// What the restart cost; times are from the moment that the processes were started again.
#[derive(Debug, Serialize)]
struct Restart {
    /// Until every probed key had been read and written once.
    serving_ms: u64,
    /// Until all nodes said that they are ready.
    ready_ms: u64,
    reads_ms: u64,
    writes_ms: u64,
    /// Bytes of entries in a node's log at the kill, by its own count; the mean of the nodes.
    log_bytes: Option<f64>,
    /// Bytes that a node's data store had flushed by then, all of them at the start.
    flushed_bytes: Option<f64>,
    /// Of all nodes, from the start to serving.
    cpu_s: f64,
    /// The largest sum of the resident sets of all nodes meanwhile.
    rss_bytes_max: u64,
}

/// Measures and prints the result.
pub(crate) async fn run(args: &RestartArgs) -> Result<(), Failure> {
    let mut report = Report::new(args.alone.output, &HEADER);
    // Records and recent changes lie in memory, both with the values.
    let buffer_mib = 4 * (args.log_bytes >> 20) + 256;
    let replicas = if args.nodes < 3 { 1 } else { 3 };
    let flags = vec![
        ("--flush-every-ms", "3600000".to_owned()),
        ("--write-buffer-mib", buffer_mib.to_string()),
        ("--unflushed-mib-flush", buffer_mib.to_string()),
        ("--unflushed-mib-max", (2 * buffer_mib).to_string()),
        ("--replication-factor", replicas.to_string()),
    ];
    let layout = Layout { nodes: args.nodes, flags };
    let work = async |cluster: &mut Cluster, machine: &Machine| measure(args, cluster, machine, &mut report).await;
    args.alone.with_nodes(&layout, work).await?;
    report.finish(
        "All nodes are killed at once (SIGKILL) and started again on their folders. Serving: keys of all shards have been \
         read\nand written. After a start a node neither votes nor stands for election until every lease that it may have \
         granted has run out.",
    )?;
    Ok(())
}

async fn measure(args: &RestartArgs, cluster: &mut Cluster, machine: &Machine, report: &mut Report) -> Result<()> {
    cluster.wait_ready().await?;
    let values = Values::new(usize::try_from(args.value_bytes).unwrap_or(usize::MAX), 0);
    let target = connect(cluster).await?;
    let keys = write(args, &target, &values).await?;
    drop(target);
    let metrics = cluster.metrics().await?;
    let a_node = |name| metrics.value(name).map(|all| rounded(all / f64::from(args.nodes), 1.0));
    let (log_bytes, flushed_bytes) = (a_node("keevo_log_bytes_total"), a_node("keevo_store_flush_bytes_total"));
    cluster.kill();
    note(&format!("{keys} values written; the nodes are killed and start again"));
    let clock = SystemClock::new();
    cluster.start_again()?;
    let pids = cluster.pids();
    let addresses = cluster.addresses().to_vec();
    let ready = async {
        cluster.wait_ready_within(SERVING_WITHIN).await?;
        Ok::<_, Error>(millis(clock.monotonic()))
    };
    let serving = async {
        let serve = tokio::time::timeout(SERVING_WITHIN, serve(&addresses, keys, &values, &clock));
        let (ready_ms, times) = tokio::join!(ready, serve);
        let late =
            |elapsed| Error::new(ErrorKind::DeadlineExceeded, "the nodes do not serve again").with_source(elapsed);
        Ok((ready_ms?, times.map_err(late)??))
    };
    let (usage, (ready_ms, (reads_ms, writes_ms))) = usage::until(&pids, serving).await?;
    let target = connect(cluster).await?;
    check(&target, keys, &values).await?;
    let restart = Restart {
        serving_ms: reads_ms.max(writes_ms),
        ready_ms,
        reads_ms,
        writes_ms,
        log_bytes,
        flushed_bytes,
        cpu_s: rounded(usage.cpu.as_secs_f64(), 100.0),
        rss_bytes_max: usage.rss_bytes_max,
    };
    let mib = |bytes: Option<f64>| known(bytes.map(|bytes| bytes / 1_048_576.0), 1);
    let cells = vec![
        args.nodes.to_string(),
        mib(restart.log_bytes),
        mib(restart.flushed_bytes),
        restart.serving_ms.to_string(),
        restart.ready_ms.to_string(),
        restart.reads_ms.to_string(),
        restart.writes_ms.to_string(),
        format!("{:.2}", restart.cpu_s),
        ((restart.rss_bytes_max / u64::from(args.nodes)) >> 20).to_string(),
    ];
    let (nodes, value_bytes) = (args.nodes, args.value_bytes);
    report.add(&Line { case: "restart", nodes, value_bytes, keevo: restart, machine }, cells)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The value of a key: always the same one.
fn value_of(values: &Values, number: u64) -> Bytes {
    values.next(&SeededRandom::new(number))
}

/// Writes one key after another until there is enough, no faster than is allowed. Returns how many.
async fn write(args: &RestartArgs, target: &Keevo<RemoteEngine>, values: &Values) -> Result<u64> {
    let (clock, next) = (Arc::new(SystemClock::new()), Arc::new(AtomicU64::new(0)));
    let value_bytes = u64::from(args.value_bytes);
    let (keys, per_s) = (args.log_bytes.div_ceil(value_bytes), args.bytes_per_s_max);
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (target, values, clock, next) = (target.clone(), values.clone(), Arc::clone(&clock), Arc::clone(&next));
        writers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= keys {
                    return Ok::<_, Error>(());
                }
                let due_ms = number.saturating_mul(value_bytes).saturating_mul(1_000) / per_s;
                tokio::time::sleep(Duration::from_millis(due_ms).saturating_sub(clock.monotonic())).await;
                target.put(key(number), value_of(&values, number)).await?;
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.map_err(|error| Error::new(ErrorKind::Closed, format!("a writer ended badly: {error}")))??;
    }
    Ok(keys)
}

/// Reads and writes keys of all shards until each has succeeded once; returns when the last read and the last write had,
/// in milliseconds.
async fn serve(addresses: &[String], keys: u64, values: &Values, clock: &SystemClock) -> Result<(u64, u64)> {
    let target = loop {
        let engine = RemoteEngine::connect(addresses.to_vec(), keevo_client::ClientOptions::default()).await;
        match async { Keevo::open(engine?).await }.await {
            Ok(target) => break target,
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    };
    let mut probes = JoinSet::new();
    for number in 0..PROBES.min(keys) {
        let (target, value) = (target.clone(), value_of(values, number));
        let clock = clock.clone();
        probes.spawn(async move {
            let found = loop {
                match target.get(key(number)).await {
                    Ok(found) => break found,
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            };
            let read = clock.monotonic();
            while target.put(key(number), value.clone()).await.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
            (found == Some(value), millis(read), millis(clock.monotonic()))
        });
    }
    let (mut reads_ms, mut writes_ms) = (0, 0);
    while let Some(probe) = probes.join_next().await {
        let probe = probe.map_err(|error| Error::new(ErrorKind::Closed, format!("a probe ended badly: {error}")));
        let (intact, read, written) = probe?;
        if !intact {
            return Err(Error::corrupt("a value that was acknowledged before the kill is lost or another"));
        }
        (reads_ms, writes_ms) = (read.max(reads_ms), written.max(writes_ms));
    }
    Ok((reads_ms, writes_ms))
}

/// Reads acknowledged keys back: the last ones, and others all over.
async fn check(target: &Keevo<RemoteEngine>, keys: u64, values: &Values) -> Result<()> {
    let step = usize::try_from((keys / CHECKED).max(1)).unwrap_or(usize::MAX);
    for number in (0..keys).step_by(step).chain(keys.saturating_sub(WRITERS)..keys) {
        if target.get(key(number)).await? != Some(value_of(values, number)) {
            return Err(Error::corrupt(format!("the acknowledged value of key {number} is lost or another")));
        }
    }
    Ok(())
}
