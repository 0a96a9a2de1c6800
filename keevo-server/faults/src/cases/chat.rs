//! Chat under `kill -9` of leaders: many send, many watch on sockets that are dropped and resumed at any node, and in the
//! end all know the same.
//!
//! ```text
//! senders ─ HTTP, any node ─▶ channels, on all shards ─ events, any node ─▶ watchers
//!                                  ▲ the leader of a channel's shard is killed and started again
//! ```
//!
//! What must hold: every message that was answered is in the history once, at the place that its answer named; a sender's
//! messages of a channel are in its order; sequences have no gap; all nodes read the same history; what every watcher has
//! put together of events is that history; unread counts are what a recount of it gives.

mod api;
mod apps;
mod check;
mod history;
mod sender;
mod watcher;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::Method;
use keevo_core::{Clock, Error, ErrorKind, Random, Result, SeededRandom};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::api::Api;
use self::check::Checks;
use self::sender::{Reader, Sender, Sent};
use self::watcher::{Views, Watcher};
use super::Case;
use crate::cluster::{Cluster, Settings};
use crate::lab::{Lab, Round};
use crate::load::Outcome;
use crate::node::POLL;
use crate::output::say;
use crate::tally::Faults;

/// Channels of a round: enough for every shard to have some.
const CHANNELS: usize = 6;
/// How long all watchers may take to subscribe.
const SUBSCRIBED_WITHIN: Duration = Duration::from_mins(1);
/// How long all watchers may take to know the history once nobody sends any more.
const CONVERGED_WITHIN: Duration = Duration::from_mins(1);
/// How long a killed node stays away, and how long the next kill waits after it is back, in milliseconds; up to so much.
const AWAY_MS: u64 = 2_500;
const BETWEEN_MS: u64 = 2_500;
/// How long is sent before the first kill and after the last.
const QUIET: Duration = Duration::from_secs(2);
/// The most complaints that are told.
const COMPLAINTS_MAX: usize = 20;

pub(super) async fn run(lab: &mut Lab) -> Result<()> {
    let mut cluster = lab.cluster(Case::Chat, Settings::default()).await?;
    let app = apps::create(&mut cluster).await?;
    for number in 0..lab.rounds(Case::Chat) {
        if !lab.has_time() {
            break;
        }
        let began = lab.clock.monotonic();
        let detail = "leaders of channels, while many send and watch";
        let what = Round { case: Case::Chat, detail, damage: false };
        let seed = lab.below(u64::MAX);
        let mut faults = Faults::new();
        let size = Size { senders: lab.args.senders, watchers: lab.args.watchers, kills: lab.args.kills };
        let done = round(&mut cluster, app, (number, seed), size, &mut faults).await;
        if !lab.note(&what, done, faults, began, &cluster) {
            break;
        }
    }
    Ok(())
}

/// How much there is of everything in a round.
#[derive(Debug, Clone, Copy)]
struct Size {
    senders: u32,
    watchers: u32,
    kills: u32,
}

/// All who take part.
struct Party {
    api: Api,
    cids: Arc<Vec<String>>,
    paths: Arc<Vec<String>>,
    /// Each watcher's user, and what it knows.
    views: Vec<(String, Arc<Views>)>,
    watchers: Vec<JoinHandle<()>>,
    readers: Vec<(String, JoinHandle<BTreeMap<usize, u64>>)>,
    senders: Vec<(String, JoinHandle<Vec<Sent>>)>,
    /// Ends those who send and mark.
    stop: CancellationToken,
    /// Ends those who watch.
    stop_watching: CancellationToken,
}

impl Drop for Party {
    fn drop(&mut self) {
        self.stop.cancel();
        self.stop_watching.cancel();
    }
}

async fn round(
    cluster: &mut Cluster,
    app: u32,
    (number, seed): (u32, u64),
    size: Size,
    faults: &mut Faults,
) -> Result<Outcome> {
    let random = SeededRandom::new(seed);
    let mut party = Party::gather(cluster, number, size, &random).await?;
    party.wait_subscribed().await?;
    party.start_senders(size, &random);
    tokio::time::sleep(QUIET).await;
    for _ in 0..size.kills {
        kill(cluster, app, &party, &random).await?;
        *faults.entry("kill").or_default() += 1;
        tokio::time::sleep(Duration::from_millis(random.next_u64() % BETWEEN_MS)).await;
    }
    tokio::time::sleep(QUIET).await;
    let checks = party.finish(faults).await?;
    let (answered, unknown) = party.api.counts();
    let mut outcome = Outcome { checked: answered, unknown, complaints: checks.complaints() };
    if let Err(error) = cluster.agree().await {
        outcome.complaints.push(error.to_string());
    }
    let more = outcome.complaints.len().saturating_sub(COMPLAINTS_MAX);
    outcome.complaints.truncate(COMPLAINTS_MAX);
    if more > 0 {
        outcome.complaints.push(format!("and {more} more"));
    }
    Ok(outcome)
}

/// Kills the node that leads the shard of one of the channels, and starts it again.
async fn kill(cluster: &mut Cluster, app: u32, party: &Party, random: &SeededRandom) -> Result<()> {
    let at = usize::try_from(random.next_u64()).unwrap_or(0) % party.cids.len().max(1);
    let cid = party.cids.get(at).map_or("", String::as_str);
    let leader = apps::leader_of_channel(cluster, app, cid).await?;
    cluster.node(leader)?.kill();
    tokio::time::sleep(Duration::from_millis(random.next_u64() % AWAY_MS)).await;
    cluster.node(leader)?.start(None)?;
    cluster.wait_ready().await
}

impl Party {
    /// Makes the channels of a round, and has the watchers come.
    async fn gather(cluster: &Cluster, number: u32, size: Size, random: &SeededRandom) -> Result<Self> {
        let nodes = cluster.nodes.values().map(|node| node.http).collect();
        let api = Api::new(nodes, random.next_u64());
        let senders: Vec<String> = (0..size.senders).map(|one| format!("sender{one}")).collect();
        let watchers: Vec<String> = (0..size.watchers).map(|one| format!("watcher{one}")).collect();
        let members: Vec<&String> = senders.iter().chain(&watchers).collect();
        let owner = senders.first().ok_or_else(|| Error::invalid("nobody sends"))?;
        let (mut cids, mut paths) = (Vec::new(), Vec::new());
        for channel in 0..CHANNELS {
            let id = format!("round{number}-{channel}");
            let body = json!({ "type": "team", "id": id, "members": members });
            api.call(&Method::POST, "channels", owner, &body).await?;
            cids.push(format!("team:{id}"));
            paths.push(format!("channels/team/{id}"));
        }
        let (cids, paths) = (Arc::new(cids), Arc::new(paths));
        let mut party = Self {
            api,
            cids,
            paths,
            views: Vec::new(),
            watchers: Vec::new(),
            readers: Vec::new(),
            senders: Vec::new(),
            stop: CancellationToken::new(),
            stop_watching: CancellationToken::new(),
        };
        for user in watchers {
            let views = Arc::new(Views::new(CHANNELS));
            let channels = (&party.cids, &party.paths);
            let watcher =
                Watcher::new(&party.api, user.clone(), channels, &views, random.next_u64(), &party.stop_watching);
            party.watchers.push(tokio::spawn(watcher.run()));
            let reader = Reader {
                api: party.api.clone(),
                user: user.clone(),
                channels: Arc::clone(&party.paths),
                views: Arc::clone(&views),
                random: SeededRandom::new(random.next_u64()),
                stop: party.stop.clone(),
            };
            party.readers.push((user.clone(), tokio::spawn(reader.run())));
            party.views.push((user, views));
        }
        Ok(party)
    }

    /// Waits until every watcher has subscribed to every channel.
    async fn wait_subscribed(&self) -> Result<()> {
        let channels = u64::try_from(CHANNELS).unwrap_or(u64::MAX);
        let subscribed = async {
            while !self.views.iter().all(|(_, one)| one.subscribed.load(Ordering::Relaxed) >= channels) {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(SUBSCRIBED_WITHIN, subscribed).await.map_err(|elapsed| {
            let message = format!("not every watcher has subscribed after {} s", SUBSCRIBED_WITHIN.as_secs());
            Error::new(ErrorKind::Unavailable, message).with_source(elapsed)
        })
    }

    fn start_senders(&mut self, size: Size, random: &SeededRandom) {
        for one in 0..size.senders {
            let sender = Sender {
                api: self.api.clone(),
                user: format!("sender{one}"),
                channels: Arc::clone(&self.paths),
                random: SeededRandom::new(random.next_u64()),
                stop: self.stop.clone(),
            };
            self.senders.push((format!("sender{one}"), tokio::spawn(sender.run())));
        }
    }

    /// Ends everybody, and looks at what came of it.
    async fn finish(&mut self, faults: &mut Faults) -> Result<Checks> {
        let panicked = |error| Error::new(ErrorKind::Closed, "a client has ended early").with_source(error);
        self.stop.cancel();
        let mut checks = Checks::new(&self.api, &self.paths);
        for (user, sender) in self.senders.drain(..) {
            checks.sent(user, sender.await.map_err(panicked)?);
        }
        for (user, reader) in self.readers.drain(..) {
            checks.marked(user, reader.await.map_err(panicked)?);
        }
        checks.read(&self.cids).await?;
        // Those who watch are dropped and resumed all the while.
        let converged = async {
            while self.views.iter().any(|(_, view)| view.difference(checks.histories()).is_some()) {
                tokio::time::sleep(POLL * 5).await;
            }
        };
        let began = tokio::time::Instant::now();
        drop(tokio::time::timeout(CONVERGED_WITHIN, converged).await);
        let took = began.elapsed();
        self.stop_watching.cancel();
        for watcher in self.watchers.drain(..) {
            watcher.await.map_err(panicked)?;
        }
        for (user, view) in &self.views {
            checks.known(user, view);
        }
        checks.count_unread().await?;
        let sum = |count: fn(&Views) -> &AtomicU64| -> u64 {
            self.views.iter().map(|(_, view)| count(view).load(Ordering::Relaxed)).sum()
        };
        let (drops, resumes, moves) = (sum(|view| &view.drops), sum(|view| &view.resumes), sum(|view| &view.moves));
        *faults.entry("drop").or_default() += drops;
        say(&format!(
            "        {} messages of {} senders in {CHANNELS} channels; {} watchers had {drops} drops and {resumes} resumes, \
             {moves} of them at another node, and {} reloads; all knew the history {:.1} s after it was read; {} unread \
             counts are as recounted",
            checks.messages(),
            checks.senders(),
            self.views.len(),
            sum(|view| &view.reloads),
            took.as_secs_f64(),
            checks.counted(),
        ));
        Ok(checks)
    }
}
