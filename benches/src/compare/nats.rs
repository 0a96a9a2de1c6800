//! Keevo's chat beside NATS JetStream, whose files are synced before a message is answered; and what chat does besides.
//!
//! Invariant: a line is printed only of what was measured in this run; losses and repetitions are figures of it.

mod print;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use keevo_core::{Error, Result};

use self::print::{Line, Printed};
use super::line::PeerName;
use crate::chat::{self, Api, Asked, Channel, Nats, Pace, Publishing, Runs};
use crate::failure::Failure;
use crate::figures::rounded;
use crate::interrupt::Interrupt;
use crate::machine::{self, Machine};
use crate::output::{Output, note};
use crate::servers::{self, Cluster, Layout, programs};

/// The arguments of `keevo-bench compare nats`.
#[derive(Debug, Args)]
pub(super) struct NatsArgs {
    /// What is measured, each case on systems of its own.
    #[arg(long, value_enum, value_delimiter = ',',
        default_values_t = [Case::Publish, Case::Sockets, Case::Storm, Case::History, Case::Unread])]
    case: Vec<Case>,
    /// How many watch where messages are published: sockets, and consumers.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=8_000))]
    watchers: u32,
    /// Messages a second that are due where latency is measured (open loop).
    #[arg(long, value_name = "RATE", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    open: u32,
    /// Sends under way at once where throughput is measured; also the clients of `history` and `unread`.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    in_flight: u32,
    /// The size of a message's text, in bytes.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(40..=4_096))]
    text_bytes: u32,
    /// How many sockets there are in `sockets` and `storm`.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    sockets: u32,
    /// How many of them watch the same channel.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    per_channel: u32,
    /// Messages a second that go on while a node dies in `storm`.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    meanwhile: u32,
    /// Messages of the channel in `history`.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    history: u64,
    /// Members of the channel in `unread`.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    members: u32,
    /// How long each run is measured, in seconds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How long the load runs before it is measured, in seconds.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=600))]
    warm_up_seconds: u64,
    /// How often each side publishes, in turns with the other.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// The server of NATS (default: the one on the `PATH`); `.ci/nats-server.sh` installs it and prints its path.
    #[arg(long, value_name = "PATH")]
    nats_server: Option<PathBuf>,
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

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    /// Messages to all who watch, on both systems: latency at a fixed rate, and deliveries a second.
    Publish,
    /// Many sockets on one node: their memory, and how long they take to come.
    Sockets,
    /// One of three nodes dies under all sockets: until they are resumed, and what was lost or came twice.
    Storm,
    /// Pages of history.
    History,
    /// Unread counts of a channel with many members.
    Unread,
}

impl NatsArgs {
    fn pace(&self, per_s: Option<u32>, in_flight: u32) -> Pace {
        let Asked { text_bytes, warm_up, measure, .. } = self.asked();
        Pace { per_s, in_flight, text_bytes, warm_up, measure }
    }

    fn asked(&self) -> Asked {
        Asked {
            clients: self.in_flight,
            text_bytes: usize::try_from(self.text_bytes).unwrap_or(usize::MAX),
            warm_up: Duration::from_secs(self.warm_up_seconds),
            measure: Duration::from_secs(self.seconds),
        }
    }
}

/// Sends under way at most where they are due at a fixed rate.
const PACED_IN_FLIGHT: u32 = 256;

/// Compares and prints the result.
pub(super) async fn run(args: &NatsArgs) -> Result<(), Failure> {
    let publishes = args.case.contains(&Case::Publish);
    let nats = if publishes { Some(programs::nats(args.nats_server.as_deref())?) } else { None };
    let keevod = programs::keevod(args.keevod.as_deref())?;
    let mut interrupt = Interrupt::catch()?;
    let version = match &nats {
        Some(program) => programs::version(program).await?,
        None => String::new(),
    };
    let peer = PeerName { name: "nats".to_owned(), version };
    let folder = servers::parent_folder(args.dir.as_deref())?;
    let machine = Machine::look_and_warn(&folder)?;
    machine::quiet_or_note();
    let mut printed = Printed::new(args.output, peer, machine);
    for &case in &args.case {
        let nodes = if case == Case::Storm { 3 } else { 1 };
        let keevo = servers::start_keevo(&keevod, &folder, &Layout { nodes, flags: Vec::new() })?;
        let mut clusters = vec![keevo];
        if let (Some(program), Case::Publish) = (&nats, case) {
            clusters.push(servers::start_nats(program, &folder)?);
        }
        let result = tokio::select! {
            result = Box::pin(one(args, case, &mut clusters, &mut printed)) => result.map_err(Failure::from),
            () = interrupt.arrived() => Err(Failure::Interrupted),
        };
        servers::stop_all(clusters).await;
        result?;
    }
    printed.finish(&notes(args))?;
    Ok(())
}

fn notes(args: &NatsArgs) -> String {
    format!(
        "Texts of {} B. publish: {} watchers; rounds: {}, of {} s, each after {} s unmeasured, in turns. publish_paced: {} \
         messages are due a second, latencies run from then until a watcher has one; ratio: the peer's p99 over Keevo's. \
         publish: {} sends under way; ratio: Keevo's deliveries a second over the peer's. Keevo keeps the history, read \
         states and unread counts of all watchers, who are members of the channel.",
        args.text_bytes, args.watchers, args.rounds, args.seconds, args.warm_up_seconds, args.open, args.in_flight
    )
}

async fn one(args: &NatsArgs, case: Case, clusters: &mut [Cluster], printed: &mut Printed) -> Result<()> {
    for cluster in clusters.iter_mut() {
        cluster.wait_ready().await?;
    }
    let size = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    let (sockets, per_channel) = (size(args.sockets), size(args.per_channel));
    let [keevo, others @ ..] = clusters else { return Err(Error::invalid("nothing was started")) };
    let (api, pids) = (Api::open(keevo).await?, keevo.pids());
    match case {
        Case::Publish => {
            let other = others.first().ok_or_else(|| Error::invalid("a comparison has two sides"))?;
            Box::pin(publish(args, (&api, pids.as_slice()), other, printed)).await
        }
        Case::Sockets => {
            note(&format!("sockets: {sockets} come"));
            let crowd = Box::pin(chat::crowd(&api, sockets, per_channel, &pids)).await?;
            printed.add(&Line::of("sockets", args.sockets, args.text_bytes, &crowd)?)
        }
        Case::Storm => {
            note(&format!("storm: {sockets} sockets on the node that dies"));
            let storm = Box::pin(chat::storm(&api, keevo, (sockets, per_channel), args.meanwhile)).await?;
            printed.add(&Line::of("storm", args.sockets, args.text_bytes, &storm)?)
        }
        Case::History => {
            note(&format!("history: {} messages are written", args.history));
            let figures = Box::pin(chat::history(&api, args.history, args.asked(), &pids)).await?;
            printed.add(&Line::of("history", args.in_flight, args.text_bytes, &figures)?)
        }
        Case::Unread => {
            note(&format!("unread: {} members are added", args.members));
            let figures = Box::pin(chat::unread(&api, size(args.members), args.asked(), &pids)).await?;
            printed.add(&Line::of("unread", args.members, args.text_bytes, &figures)?)
        }
    }
}

/// Publishes on both sides in turns: at a fixed rate, and as fast as they answer.
async fn publish(
    args: &NatsArgs,
    (api, keevo_pids): (&Api, &[u32]),
    other: &Cluster,
    printed: &mut Printed,
) -> Result<()> {
    let watchers = usize::try_from(args.watchers).unwrap_or(usize::MAX);
    note(&format!("publish: {watchers} watchers come on both sides"));
    let address = other.addresses().first().cloned().unwrap_or_default();
    let connections = usize::try_from(args.in_flight.max(PACED_IN_FLIGHT.min(args.open))).unwrap_or(1);
    let mut keevo = Publishing::open(Channel::open(api, watchers).await?, watchers).await?;
    let mut peer = Publishing::open(Nats::open(&address, connections).await?, watchers).await?;
    let peer_pids = other.pids();
    let paces =
        [("publish_paced", args.pace(Some(args.open), PACED_IN_FLIGHT)), ("publish", args.pace(None, args.in_flight))];
    for (case, pace) in paces {
        let mut sums: [Option<Runs>; 2] = [None, None];
        let mut each = Vec::new();
        for round in 0..args.rounds {
            let one = keevo.run(pace, keevo_pids).await?;
            let two = peer.run(pace, &peer_pids).await?;
            let told = |runs: &Runs| (runs.figures().deliveries_per_s, runs.figures().p99_us);
            note(&format!(
                "{case}, round {} of {}: keevo {:?}, nats {:?} (deliveries/s, p99 µs)",
                round + 1,
                args.rounds,
                told(&one),
                told(&two)
            ));
            each.push([figure(case, &one), figure(case, &two)]);
            for (sum, run) in sums.iter_mut().zip([one, two]) {
                match sum {
                    Some(sum) => sum.add(&run)?,
                    None => *sum = Some(run),
                }
            }
        }
        let [Some(one), Some(two)] = sums else { return Ok(()) };
        let (own, others) = (figure(case, &one), figure(case, &two));
        let (above, below) = if case == "publish" { (own, others) } else { (others, own) };
        let line = Line::of(case, args.watchers, args.text_bytes, &one.figures())?;
        let ratio = (below > 0.0).then(|| rounded(above / below, 1_000.0));
        printed.add(&line.beside(&two.figures(), ratio, each)?)?;
    }
    Ok(())
}

/// What a case compares: deliveries a second, or the p99 in microseconds.
#[allow(clippy::cast_precision_loss, reason = "latencies in microseconds are far below 2^53")]
fn figure(case: &str, runs: &Runs) -> f64 {
    let figures = runs.figures();
    if case == "publish" { figures.deliveries_per_s } else { figures.p99_us as f64 }
}
