//! One case of timelines on both sides: the same activities, users and followers; runs in turns; one line.
//!
//! Invariant: a line is printed only when every entry that was answered is there on both sides.

mod run;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use keevo_core::Result;
use serde::Serialize;

pub(super) use run::{Peer, run};

use super::line::{PeerFigures, PeerName};
use crate::figures::{Figures, Total, rounded};
use crate::load::Measured;
use crate::machine::{self, Machine};
use crate::output::{Output, note, print};
use crate::timelines::{self, KeevoTimelines, PAGE, Pages, Shape, Timelines};

const HEADER: [&str; 12] = [
    "case",
    "system",
    "ops/s",
    "p50 µs",
    "p99 µs",
    "p99.9 µs",
    "CPU s",
    "RSS MiB",
    "RAM B/entry",
    "B written/op",
    "entries/s meanwhile",
    "ratio",
];

/// What every comparison of timelines is told.
#[derive(Debug, Args)]
pub(super) struct TimelineArgs {
    /// How many timelines there are; each gets an entry of every activity.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    followers: u32,
    /// How many activities are there before anything is measured; at least a page.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(25..=100_000))]
    history: u64,
    /// The size of an activity's text, in bytes.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    text_bytes: u32,
    /// How many posts are under way at once where fan-out is measured.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    in_flight: u32,
    /// Pages a second that are due where pages are measured (open loop).
    #[arg(long, value_name = "RATE", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    open: u32,
    /// How many pages are under way at most.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    readers: u32,
    /// Posts a second that are due while pages are measured, each to all followers.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    posts: u32,
    /// How long each run is measured, in seconds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How long the load runs before it is measured, in seconds.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=600))]
    warm_up_seconds: u64,
    /// How often each side runs, in turns with the other.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// What Keevo's nodes may cache in memory, in MiB (default: as keevod takes it).
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(8..=1_048_576))]
    block_cache_mib: Option<u32>,
    /// What Keevo's nodes gather in memory before they write it to tables, in MiB (default: as keevod takes it).
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(8..=1_048_576))]
    write_buffer_mib: Option<u32>,
    /// The keevod to start (default: the one beside this program).
    #[arg(long, value_name = "PATH")]
    keevod: Option<PathBuf>,
    /// Where the servers' folders are made, and removed afterwards (default: where temporary files go).
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// How the result looks.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl TimelineArgs {
    /// What is stored.
    pub(super) fn shape(&self) -> Shape {
        Shape { followers: self.followers, text_bytes: usize::try_from(self.text_bytes).unwrap_or(usize::MAX) }
    }

    /// How many posts are under way at once.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// How keevod is started besides.
    fn keevod_flags(&self) -> Vec<(&'static str, String)> {
        let flags = [("--block-cache-mib", self.block_cache_mib), ("--write-buffer-mib", self.write_buffer_mib)];
        flags.into_iter().filter_map(|(flag, value)| Some((flag, value?.to_string()))).collect()
    }

    fn window(&self) -> (Duration, Duration) {
        (Duration::from_secs(self.warm_up_seconds), Duration::from_secs(self.seconds))
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// Posts, one after another: entries a second.
    FanOut,
    /// Pages at a fixed rate while posts go on: latency.
    Pages,
}

/// A case, as it is named, with how many nodes Keevo has in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) work: Work,
    pub(super) nodes: u16,
}

/// A line, as it is printed. Operations are entries where posts are measured, and pages where those are.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    case: &'static str,
    /// Posts, or pages, that are under way at once.
    clients: u32,
    /// The bytes of an activity's text.
    value_bytes: u32,
    followers: u32,
    /// Keevo's nodes; each holds all.
    nodes: u16,
    /// Pages a second that were due; absent where the loop was closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    offered_per_s: Option<u32>,
    keevo: Side<Figures>,
    peer: Side<PeerFigures>,
    /// Fan-out: `keevo.ops_per_s / peer.ops_per_s`. Pages: `peer.p99_us / keevo.p99_us`. More is better for Keevo.
    ratio: Option<f64>,
    /// `keevo.ram_bytes_per_entry / peer.ram_bytes_per_entry`. Less is better for Keevo.
    ram_ratio: Option<f64>,
    /// What the ratio is made of, each round: Keevo, peer.
    runs: Vec<[f64; 2]>,
    machine: Machine,
}

/// One side's figures.
#[derive(Debug, Serialize)]
struct Side<F> {
    #[serde(flatten)]
    figures: F,
    /// The entries of all timelines at the end.
    entries: u64,
    /// The largest resident set of all its processes over those entries.
    ram_bytes_per_entry: Option<f64>,
    /// Entries that posts wrote a second while pages were read, mean of the rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    fan_out_entries_per_s: Option<f64>,
}

/// One side as it is driven.
struct Driven<'a, T> {
    name: &'a str,
    timelines: T,
    pids: Vec<u32>,
    total: Option<Total>,
    each: Vec<f64>,
    entries_per_s: Vec<f64>,
}

impl<'a, T: Timelines> Driven<'a, T> {
    fn new(name: &'a str, timelines: T, pids: Vec<u32>) -> Self {
        Self { name, timelines, pids, total: None, each: Vec::new(), entries_per_s: Vec::new() }
    }

    async fn run(&mut self, args: &TimelineArgs, work: Work, round: u32) -> Result<()> {
        let (warm_up, measure) = args.window();
        let measured = match work {
            Work::FanOut => {
                let load = (args.followers, args.in_flight);
                timelines::fan_outs(&self.timelines, load, (warm_up, measure), &self.pids).await?
            }
            Work::Pages => {
                let load = Pages {
                    per_s: args.open,
                    readers: args.readers,
                    posts_per_s: args.posts,
                    followers: args.followers,
                    warm_up,
                    measure,
                    round,
                };
                let paced = timelines::pages(&self.timelines, &load, &self.pids).await?;
                self.entries_per_s.push(paced.posts_per_s * f64::from(args.followers));
                paced.pages
            }
        };
        self.add(measured, work)
    }

    fn add(&mut self, measured: Measured, work: Work) -> Result<()> {
        let alone = Total::from(measured);
        let figures = alone.figures();
        let told = match work {
            Work::FanOut => figures.ops_per_s,
            Work::Pages => figures.p99_us.map_or(f64::NAN, micros),
        };
        note(&format!("{}: {:.0}/s, p99 {} µs", self.name, figures.ops_per_s, figures.p99_us.unwrap_or_default()));
        if let Some(failure) = alone.first_failure() {
            note(&format!("{}: {} requests failed, the first with {failure}", self.name, figures.failed));
        }
        self.each.push(told);
        match &mut self.total {
            Some(total) => total.append(alone)?,
            None => self.total = Some(alone),
        }
        Ok(())
    }

    async fn side(&self) -> Result<Option<Side<Figures>>> {
        let entries = self.timelines.entries().await?;
        let Some(figures) = self.total.as_ref().map(Total::figures) else { return Ok(None) };
        let ram_bytes_per_entry = (entries > 0).then(|| rounded(float(figures.rss_bytes_max) / float(entries), 10.0));
        let rounds = u32::try_from(self.entries_per_s.len()).unwrap_or(u32::MAX);
        let fan_out_entries_per_s =
            (rounds > 0).then(|| rounded(self.entries_per_s.iter().sum::<f64>() / f64::from(rounds), 1.0));
        Ok(Some(Side { figures, entries, ram_bytes_per_entry, fan_out_entries_per_s }))
    }
}

/// Measures one case on both sides, which serve and are empty but for users and followers.
async fn measure<T: Timelines>(
    args: &TimelineArgs,
    case: Case,
    (keevo, keevo_pids): (KeevoTimelines, Vec<u32>),
    (peer, timelines, peer_pids): (&PeerName, T, Vec<u32>),
    machine: &Machine,
) -> Result<Option<Line>> {
    let mut keevo = Driven::new("keevo", keevo, keevo_pids);
    let mut other = Driven::new(&peer.name, timelines, peer_pids);
    note(&format!("{}: both systems serve; posting {} activities on both", case.name, args.history));
    timelines::preload(&keevo.timelines, args.history, args.in_flight).await?;
    timelines::preload(&other.timelines, args.history, args.in_flight).await?;
    for round in 0..args.rounds {
        note(&format!("{}, round {} of {}", case.name, round + 1, args.rounds));
        keevo.run(args, case.work, round).await?;
        other.run(args, case.work, round).await?;
    }
    let (Some(one), Some(two)) = (keevo.side().await?, other.side().await?) else { return Ok(None) };
    let ratio = match case.work {
        Work::FanOut => quotient(Some(one.figures.ops_per_s), Some(two.figures.ops_per_s)),
        Work::Pages => quotient(two.figures.p99_us.map(micros), one.figures.p99_us.map(micros)),
    };
    let ram_ratio = quotient(one.ram_bytes_per_entry, two.ram_bytes_per_entry);
    let Side { figures, entries, ram_bytes_per_entry, fan_out_entries_per_s } = two;
    let figures = PeerFigures { name: peer.clone(), figures };
    Ok(Some(Line {
        case: case.name,
        clients: if case.work == Work::Pages { args.readers } else { args.in_flight },
        value_bytes: args.text_bytes,
        followers: args.followers,
        nodes: case.nodes,
        offered_per_s: (case.work == Work::Pages).then_some(args.open),
        keevo: one,
        peer: Side { figures, entries, ram_bytes_per_entry, fan_out_entries_per_s },
        ratio,
        ram_ratio,
        runs: keevo.each.into_iter().zip(other.each).map(|(one, two)| [one, two]).collect(),
        machine: machine.clone(),
    }))
}

impl Line {
    /// Prints it as JSON, where that was asked for.
    fn print(&self, output: Output) -> Result<()> {
        match output {
            Output::Json => print(&serde_json::to_string(self).unwrap_or_default()),
            Output::Table => Ok(()),
        }
    }
}

/// Prints all lines as a table, with what has to be known to read it.
fn print_table(args: &TimelineArgs, peer: &PeerName, machine: &Machine, lines: &[Line]) -> Result<()> {
    print(&format!(
        "Keevo {} and {} {}; {} timelines, {} activities of {} B of text in each before\n{}; load average {} after\n\n{}\n\n\
         Rounds: {}, of {} s, each after {} s unmeasured; the systems take turns, and the other stays up, idle.\n\
         fan_out: an op is one entry, durable; {} posts are under way at once, a latency is that of a post to all \
         timelines; ratio: Keevo's ops/s over the peer's.\n\
         timeline: an op is a page of {PAGE} activities with their users, {} due a second while {} posts a second go on; \
         latencies count from when a page was due; ratio: the peer's p99 over Keevo's.\n\
         RAM a entry: the largest resident set of all server processes over all entries at the end.",
        env!("CARGO_PKG_VERSION"),
        peer.name,
        peer.version,
        args.followers,
        args.history,
        args.text_bytes,
        machine.line(),
        machine::load_average(),
        table(lines),
        args.rounds,
        args.seconds,
        args.warm_up_seconds,
        args.in_flight,
        args.open,
        args.posts,
    ))
}

fn table(lines: &[Line]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(HEADER);
    for line in lines {
        let ratio = line.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        table.add_row(row(line.case, &format!("keevo × {}", line.nodes), &line.keevo.figures, &line.keevo, ratio));
        let PeerFigures { name, figures } = &line.peer.figures;
        table.add_row(row(line.case, &name.name, figures, &line.peer, String::new()));
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(comfy_table::CellAlignment::Right);
    }
    table.to_string()
}

fn row<F>(case: &str, system: &str, figures: &Figures, side: &Side<F>, ratio: String) -> Vec<String> {
    let known = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
    let whole = |value: f64| format!("{value:.0}");
    vec![
        case.to_owned(),
        system.to_owned(),
        whole(figures.ops_per_s),
        known(figures.p50_us.map(|value| value.to_string())),
        known(figures.p99_us.map(|value| value.to_string())),
        known(figures.p999_us.map(|value| value.to_string())),
        format!("{:.2}", figures.cpu_s),
        (figures.rss_bytes_max >> 20).to_string(),
        known(side.ram_bytes_per_entry.map(|value| format!("{value:.1}"))),
        known(figures.bytes_written_per_op.map(whole)),
        known(side.fan_out_entries_per_s.map(whole)),
        ratio,
    ]
}

fn quotient(above: Option<f64>, below: Option<f64>) -> Option<f64> {
    let (above, below) = above.zip(below)?;
    (below > 0.0).then(|| rounded(above / below, 1_000.0))
}

#[allow(clippy::cast_precision_loss, reason = "latencies in microseconds are far below 2^53")]
fn micros(value: u64) -> f64 {
    value as f64
}

#[allow(clippy::cast_precision_loss, reason = "counts of bytes and entries are far below 2^53")]
fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::tests::run;

    fn side<F>(figures: F, ram: f64) -> Side<F> {
        Side { figures, entries: 1_000, ram_bytes_per_entry: Some(ram), fan_out_entries_per_s: Some(50_000.0) }
    }

    #[test]
    fn a_line_is_one_json_object_and_two_rows() {
        let machine = crate::compare::line::tests::line(false).machine;
        let figures = |ops| Total::from(run(ops, 100, 1, 0)).figures();
        let name = PeerName { name: "redis".to_owned(), version: "7.0.15".to_owned() };
        let line = Line {
            case: "timeline",
            clients: 64,
            value_bytes: 200,
            followers: 10,
            nodes: 1,
            offered_per_s: Some(1_000),
            keevo: side(figures(1_000), 20.0),
            peer: side(PeerFigures { name, figures: figures(900) }, 80.0),
            ratio: quotient(Some(300.0), Some(200.0)),
            ram_ratio: quotient(Some(20.0), Some(80.0)),
            runs: vec![[200.0, 300.0]],
            machine,
        };
        let json: serde_json::Value = serde_json::to_value(&line).expect("JSON");
        assert_eq!((json["ratio"].as_f64(), json["ram_ratio"].as_f64()), (Some(1.5), Some(0.25)));
        assert_eq!((json["peer"]["name"].as_str(), json["peer"]["p99_us"].as_u64()), (Some("redis"), Some(100)));
        assert_eq!(json["keevo"]["ram_bytes_per_entry"].as_f64(), Some(20.0));
        let table = table(&[line]);
        assert_eq!(table.lines().count(), 4, "{table}");
        assert!(table.contains("keevo × 1") && table.contains("50000") && table.contains("1.50"), "{table}");
        assert_eq!(quotient(Some(1.0), Some(0.0)), None);
        assert_eq!(quotient(None, Some(1.0)), None);
    }
}
