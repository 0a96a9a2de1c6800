//! `keevo-cli apilog replay`: calls of one cluster, again at another.
//!
//! ```text
//! source, by place ─▶ failed calls are left out ─▶ a queue an app ─▶ requests of up to CALLS calls, one after the other
//! ```
//!
//! Invariant: the calls of an app go out in order, one request at a time; the cursor that says how far they came is kept by
//! the cluster they go to.

use std::collections::BTreeMap;
use std::future::ready;
use std::io::{BufRead, BufReader};
use std::time::Duration;

use bytes::Bytes;
use keevo_core::{Error, ErrorKind};
use keevo_proto::admin::v1 as pb;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::source::{Found, Logs};
use super::{client, file, matches};
use crate::args::apilog::{App, Replay, Which};
use crate::confirm::{Plan, confirmed};
use crate::connect::{Context, Effect, QUICK, SLOW};
use crate::failure::Failure;
use crate::output::{complain, show};
use crate::progress::counter;
use crate::render::apilog::Report;
use crate::run::cluster::admin;
use crate::text::{line, parse_hex};

/// The most calls of one request, and of their bytes.
const CALLS: usize = 64;
const BYTES: usize = 4 << 20;
/// How many calls may wait for each app.
const QUEUE: usize = 512;
/// How often a request that got no answer is sent again, and the pause before the first time.
const TRIES: u32 = 8;
const PAUSE: Duration = Duration::from_millis(100);

/// Where the calls come from.
enum Source {
    Logs(Box<Logs>),
    File { lines: std::io::Lines<BufReader<std::fs::File>>, number: usize },
}

/// A replay of the calls of one app.
struct Worker {
    calls_tx: mpsc::Sender<pb::CallRecord>,
    task: JoinHandle<Result<Report, Failure>>,
}

/// Repeats calls, and shows what became of them.
pub(super) async fn run(context: &Context, args: Replay) -> Result<(), Failure> {
    // A dry run is the target's own: it says what would become of each call.
    if !args.sure.dry_run && !confirmed(context, args.sure, ready(Ok(plan(&args)))).await? {
        return Ok(());
    }
    let target = context.at(args.into.clone());
    let (mut source, cluster, recorded_by) = open(context, &args).await?;
    if !args.into_source {
        refuse_source(&target, &recorded_by).await?;
    }
    let mut workers: BTreeMap<App, Worker> = BTreeMap::new();
    let mut report = Report::new(args.sure.dry_run);
    let mut pace = Pace::new(args.rate);
    let bar = counter("calls");
    while let Some(found) = source.next(&args.which).await? {
        if !matches(&args.which, &found) {
            continue;
        }
        if let Some(kind) = found.failed {
            report.had_failed(&kind);
            continue;
        }
        pace.wait().await;
        bar.inc(1);
        let app = App(found.call.app);
        let worker = workers.entry(app).or_insert_with(|| start(target.clone(), &args, cluster.clone(), app));
        let record = pb::CallRecord { place: Some(found.place), call: Some(found.call), failed: Vec::new() };
        if worker.calls_tx.send(record).await.is_err() {
            break;
        }
    }
    let mut failure = None;
    for (_, Worker { calls_tx, task }) in workers {
        drop(calls_tx);
        match task.await {
            Ok(Ok(one)) => report.add(one),
            Ok(Err(error)) => failure = failure.or(Some(error)),
            Err(error) => complain(&format!("a part of the replay ended early: {error}")),
        }
    }
    bar.finish_and_clear();
    show(context.output, &report)?;
    failure.map_or(Ok(()), Err)
}

fn plan(args: &Replay) -> Plan {
    let from = match &args.file {
        Some(path) => format!("of {}", path.display()),
        None => "of the API log".to_owned(),
    };
    let what = format!("repeat the calls {from} that match at {}; --dry-run counts them", line(&args.into.join(", ")));
    Plan { what, json: json!({ "into": args.into, "file": args.file, "name": args.name }) }
}

/// Where the calls come from, the cluster that the cursor is kept under, and the one that recorded them; empty = not known.
async fn open(context: &Context, args: &Replay) -> Result<(Source, Bytes, Bytes), Failure> {
    let Some(path) = &args.file else {
        let logs = Logs::open(context, &args.which).await?;
        let cluster = logs.cluster.clone();
        return Ok((Source::Logs(Box::new(logs)), cluster.clone(), cluster));
    };
    let unreadable = |error| Failure::io(&format!("{} cannot be read", path.display()), error);
    let file = std::fs::File::open(path).map_err(unreadable)?;
    // An exported file is a cluster of its own: its name goes by what it begins with.
    let mut lines = BufReader::new(file).lines();
    let first = lines.next().transpose().map_err(unreadable)?.unwrap_or_default();
    let cluster = parse_hex(&format!("{:032x}", u128::from(fnv(first.as_bytes())))).unwrap_or_default();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    Ok((Source::File { lines: BufReader::new(file).lines(), number: 0 }, cluster, file::cluster_of(&first)))
}

/// Refuses to repeat calls at the cluster that recorded them.
async fn refuse_source(target: &Context, recorded_by: &Bytes) -> Result<(), Failure> {
    let mut admin = admin(target.channel().await?);
    let map = target.ask(Effect::Reads, QUICK, admin.shard_map(pb::ShardMapRequest {})).await?;
    if recorded_by.is_empty() || map.cluster_id != *recorded_by {
        return Ok(());
    }
    let error =
        Error::invalid("the cluster of --into is the one that recorded these calls, and would record them again");
    Err(Failure::with_advice(error, "Name another cluster, or add --into-source if they shall take place once more."))
}

/// FNV-1a.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

impl Source {
    async fn next(&mut self, which: &Which) -> Result<Option<Found>, Failure> {
        match self {
            Self::Logs(logs) => logs.next().await,
            Self::File { lines, number } => {
                for line in lines.by_ref() {
                    *number += 1;
                    let line = line.map_err(|error| Failure::io("the file cannot be read on", error))?;
                    let found = file::call_of(&line, *number)?;
                    let ms = found.place.hlc >> 16;
                    if which.from.is_none_or(|from| ms >= from) && which.to.is_none_or(|to| ms <= to) {
                        return Ok(Some(found));
                    }
                }
                Ok(None)
            }
        }
    }
}

fn start(target: Context, args: &Replay, cluster: Bytes, app: App) -> Worker {
    let (calls_tx, calls_rx) = mpsc::channel(QUEUE);
    let (name, dry_run, into_source) = (args.name.clone(), args.sure.dry_run, args.into_source);
    let asked =
        pb::ReplayCallsRequest { name, cluster_id: cluster, app: app.0, records: Vec::new(), dry_run, into_source };
    Worker { calls_tx, task: tokio::spawn(work(target, asked, calls_rx)) }
}

/// Sends the calls of one app.
async fn work(
    target: Context,
    asked: pb::ReplayCallsRequest,
    mut calls_rx: mpsc::Receiver<pb::CallRecord>,
) -> Result<Report, Failure> {
    let mut report = Report::default();
    let mut waiting: Vec<pb::CallRecord> = Vec::new();
    loop {
        if waiting.is_empty() && calls_rx.recv_many(&mut waiting, CALLS).await == 0 {
            return Ok(report);
        }
        let mut bytes = 0;
        let fits = waiting.iter().take(CALLS).take_while(|record| {
            bytes += record.call.as_ref().map_or(0, |call| call.request.len());
            bytes <= BYTES
        });
        let count = fits.count().max(1).min(waiting.len());
        let records: Vec<_> = waiting.drain(..count).collect();
        let results = send(&target, pb::ReplayCallsRequest { records: records.clone(), ..asked.clone() }).await?;
        for (record, result) in records.iter().zip(&results) {
            let method = record.call.as_ref().map_or("", |call| call.method.as_str());
            report.count(method, result);
        }
    }
}

/// Sends a request until it is answered: what was done is skipped the next time.
async fn send(target: &Context, request: pb::ReplayCallsRequest) -> Result<Vec<pb::ReplayResult>, Failure> {
    let mut pause = PAUSE;
    let mut tries = 0;
    loop {
        let sent = async {
            let mut client = client(target.channel().await?);
            target.ask(Effect::Reads, SLOW, client.replay_calls(request.clone())).await
        };
        match sent.await {
            Ok(answer) if answer.results.len() == request.records.len() => return Ok(answer.results),
            Ok(_) => return Err(Error::corrupt("a replay was answered by another number of results").into()),
            Err(failure) if tries < TRIES && passes(failure.kind()) => {
                tries += 1;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
            Err(failure) => return Err(failure),
        }
    }
}

fn passes(kind: ErrorKind) -> bool {
    kind.is_retryable() || matches!(kind, ErrorKind::OutcomeUnknown | ErrorKind::DeadlineExceeded)
}

/// Holds calls back to a rate.
struct Pace {
    ticks: Option<tokio::time::Interval>,
}

impl Pace {
    fn new(rate: Option<u32>) -> Self {
        let ticks = rate.map(|rate| {
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
            ticks
        });
        Self { ticks }
    }

    async fn wait(&mut self) {
        if let Some(ticks) = &mut self.ticks {
            ticks.tick().await;
        }
    }
}
