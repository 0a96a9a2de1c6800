//! `keevod demo`: a cluster of real processes on loopback, real data, a killed leader, and the proof that nothing is
//! lost.
//!
//! ```text
//! nodes ─▶ data ─▶ load ─▶ show, search ─▶ kill a leader under load ─▶ moderate ─▶ verify ─▶ report ─▶ serve until Ctrl-C
//! ```
//!
//! Invariant: however it ends, no child process and no temporary folder is left behind.

mod admin;
mod kill;
mod moderation;
mod nodes;
mod process;
mod report;
mod search;
mod show;
mod writers;

use std::path::PathBuf;
use std::time::Duration;

use futures::FutureExt;
use keevo_client::{ClientOptions, RemoteEngine};
use keevo_core::{Error, ErrorKind, Result};
use keevo_demo::verify::Verified;
use keevo_demo::{Bars, Dataset, Loaded, Loader, Mismatches, Plan, bundled, verify};

use self::nodes::Cluster;
use self::report::{Report, Screen};

/// Data shards of the demo's cluster.
const SHARDS: u64 = 8;

/// What the demo does.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// How many nodes.
    pub nodes: u64,
    /// Where the nodes' data is kept; `None` = in a temporary folder.
    pub dir: Option<PathBuf>,
    /// Downloaded data; `None` = the bundled extract.
    pub data: Option<PathBuf>,
    /// Whether to verify and stop.
    pub check: bool,
}

/// Runs the demo: to its end with `check`, else until Ctrl-C or SIGTERM.
///
/// `Corrupt` when a figure differs from what the input demands or an acknowledged write is lost.
pub fn demo(options: DemoOptions) -> impl Future<Output = Result<()>> {
    async move {
        let stop = stop_signal();
        tokio::pin!(stop);
        let mut cluster = tokio::select! {
            biased;
            stopped = &mut stop => return stopped,
            done = Box::pin(run(&options)) => done?,
        };
        if !options.check {
            show::hints(Screen, &cluster)?;
            stop.await?;
            Screen.say("\nstopping")?;
        }
        cluster.stop().await;
        Ok(())
    }
    .boxed_local()
}

async fn run(options: &DemoOptions) -> Result<Cluster> {
    let bars = Bars::default();
    let dataset = read_data(options)?;
    Screen.title(&format!("{} nodes", options.nodes))?;
    let mut cluster = Cluster::start(options.nodes, options.dir.as_deref()).await?;
    show::endpoints(Screen, &cluster)?;

    Screen.title("loading")?;
    let client = ClientOptions { deadline: Duration::from_secs(20), ..ClientOptions::default() };
    let engine = RemoteEngine::connect(cluster.addresses(), client).await?;
    let plan = Plan::new(&dataset);
    let loader = Loader::open(engine.clone(), bars.clone()).await?;
    let loaded = loader.load(&plan).await?;
    show::rates(Screen, &loaded)?;

    show::timeline(Screen, &loader, &plan).await?;
    show::aggregated(Screen, &loader, &plan).await?;
    show::notifications(Screen, &loader, &plan).await?;
    show::ranked(Screen, &loader, &plan).await?;
    show::history(Screen, &loader, &plan).await?;
    let mismatches = Mismatches::default();
    search::search(Screen, &cluster, &plan, &mismatches).await?;
    show::live_message(Screen, &loader).await?;
    Screen.title("cluster status")?;
    show::cluster_status(Screen, &cluster).await?;

    let killed = if options.nodes >= 3 {
        Screen.title("killing a leader while writing")?;
        Some(kill::kill_a_leader(Screen, &mut cluster, &engine, &mismatches).await?)
    } else {
        Screen.say("\nfewer than three nodes: no leader is killed, as nobody could take over")?;
        None
    };
    Screen.title("moderation")?;
    let judged = if options.check {
        moderation::check(Screen, &mut cluster, &plan, &bars, &mismatches).await?
    } else {
        moderation::start(Screen, &mut cluster, &mismatches).await?;
        None
    };
    let verified = if options.check {
        Screen.title("verifying every figure")?;
        let read = verify(&loader, &plan, &bars, &mismatches).await?;
        Screen.say(&format!(
            "read {} follows, {} activities, {} timeline entries and {} messages",
            read.follows, read.activities, read.timeline_entries, read.messages
        ))?;
        Some(read)
    } else {
        None
    };
    for mismatch in mismatches.shown() {
        Screen.say(&format!("MISMATCH {mismatch}"))?;
    }
    let shards = admin::shards(&cluster).await?.into_iter().filter(|shard| shard.id != 0).count();
    let figures = Figures { loaded: &loaded, verified, shards, killed: killed.as_ref(), judged };
    print_report(options, &dataset, &figures, &mismatches)?;
    let lost = killed.as_ref().map_or(0, |killed| killed.lost);
    if mismatches.count() > 0 || lost > 0 {
        let message = format!("{} figures differ and {lost} acknowledged writes are lost", mismatches.count());
        return Err(Error::corrupt(message));
    }
    Ok(cluster)
}

/// The data: from the folder, with the bundled extract for what is missing there.
fn read_data(options: &DemoOptions) -> Result<Dataset> {
    Screen.title("data")?;
    let (dataset, source) = match &options.data {
        Some(folder) => (Dataset::read(folder)?.or(bundled()?), folder.display().to_string()),
        None => (bundled()?, "the bundled extract".to_owned()),
    };
    Screen.say(&format!(
        "{} packages, {} dependencies, {} changelog entries (the newest {} of each package), {} mails, from {source}",
        dataset.packages.len(),
        dataset.follows(),
        dataset.changes.len(),
        keevo_demo::CHANGES_PER_PACKAGE,
        dataset.mails.len(),
    ))?;
    Ok(dataset)
}

/// What a run has shown.
struct Figures<'a> {
    loaded: &'a Loaded,
    /// What was read back; nothing without a check.
    verified: Option<Verified>,
    shards: usize,
    killed: Option<&'a kill::Killed>,
    /// Nothing without a check, or without a sidecar.
    judged: Option<moderation::Judged>,
}

/// Prints the figures: those that were read back where everything was, else those that the cluster acknowledged.
fn print_report(
    options: &DemoOptions,
    dataset: &Dataset,
    figures: &Figures<'_>,
    mismatches: &Mismatches,
) -> Result<()> {
    let Figures { loaded, verified, shards, killed, judged } = figures;
    let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let messages = verified.map_or(loaded.messages, |read| read.messages);
    let mut report = Report::default();
    report.add("nodes", options.nodes);
    report.add("shards", shards);
    report.add("packages", dataset.packages.len());
    report.add("follows", verified.map_or(loaded.follows, |read| read.follows));
    report.add("activities", verified.map_or(loaded.activities, |read| read.activities));
    if let Some(read) = verified {
        report.add("timeline_entries", read.timeline_entries);
        report.add("groups", read.groups);
        report.add("ranked_entries", read.ranked);
    }
    report.add("channels", loaded.channels);
    report.add("messages", messages);
    report.add("leader_kills_survived", u64::from(killed.is_some()));
    report.add("writes_acknowledged", killed.map_or(0, |killed| killed.acknowledged));
    report.add("acknowledged_writes_lost", killed.map_or(0, |killed| killed.lost));
    if let Some(judged) = judged {
        report.add("mails_judged", judged.mails);
        report.add("late_verdicts", judged.late);
        report.add("texts_in_review", judged.in_queue);
    }
    if options.check {
        report.add("mismatches", mismatches.count());
    }
    let entries = verified.map_or(loaded.timeline_entries, |read| wide(read.timeline_entries));
    report.add("entries_per_second", report::rate(entries, loaded.activity_time));
    report.add("messages_per_second", report::rate(wide(messages), loaded.chat_time));
    report.print(Screen)
}

/// Waits for Ctrl-C or SIGTERM.
async fn stop_signal() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let no_handler =
        |error: std::io::Error| Error::new(ErrorKind::Io, "no signal handler can be set").with_source(error);
    let mut terminate = signal(SignalKind::terminate()).map_err(no_handler)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_handler)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
