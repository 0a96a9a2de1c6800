//! A node dies under its sockets: how long until all of them are resumed elsewhere, and whether anything is missed.
//!
//! All clients are on one node, which is killed with SIGKILL while messages go on. As the protocol asks, each waits a random
//! time of up to a second and doubles it after a failure. Sequences say whether an event was lost, or came twice.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use keevo_core::{Clock, Error, ErrorKind, Random, Result, SeededRandom, SystemClock};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::api::{Api, Kind, user};
use super::crowd::{AT_ONCE, channel_of};
use super::socket::{Said, Socket};
use crate::figures::rounded;
use crate::load::Tally;
use crate::servers::Cluster;

/// The longest random wait before the first attempt, and before any.
const WAIT_FIRST: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(30);
/// How long messages go on before the node dies.
const QUIET: Duration = Duration::from_secs(2);
/// How long all clients may take to be resumed, and then to have everything.
const RESUMED_WITHIN: Duration = Duration::from_mins(3);
const COMPLETE_WITHIN: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(50);

/// What a storm showed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Storm {
    pub(crate) sockets: usize,
    /// From the kill until a client was welcome again.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) all_ms: f64,
    /// Clients that were not.
    pub(crate) never: usize,
    /// Attempts that failed.
    pub(crate) attempts_failed: u64,
    /// Channels that a client had to read again.
    pub(crate) reloads: u64,
    /// Events that a client missed, and that came once more.
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    /// Messages that were sent meanwhile, and how many each of them went to.
    pub(crate) messages: u64,
    pub(crate) per_channel: usize,
}

/// What all clients share.
struct Shared {
    clock: SystemClock,
    /// When the node was killed, in microseconds of the clock; 0 = not yet.
    killed_us: AtomicU64,
    resumed_us: Mutex<Vec<u64>>,
    attempts_failed: AtomicU64,
    reloads: AtomicU64,
    lost: AtomicU64,
    doubled: AtomicU64,
    /// The last sequence of each channel that was answered.
    last: Vec<AtomicU64>,
    /// The last sequence that each client had.
    had: Vec<AtomicU64>,
    is_over: AtomicBool,
    stop: CancellationToken,
}

/// Connects the clients, kills their node and counts. `cluster` has the nodes of `api`.
pub(crate) async fn storm(
    api: &Api,
    cluster: &mut Cluster,
    (sockets, per_channel): (usize, usize),
    per_s: u32,
) -> Result<Storm> {
    let channels = sockets.div_ceil(per_channel.max(1));
    for number in 0..channels {
        api.channel(Kind::Livestream, &channel_of(number * per_channel, per_channel), 0).await?;
    }
    let shared = Arc::new(Shared {
        clock: SystemClock::new(),
        killed_us: AtomicU64::new(0),
        resumed_us: Mutex::default(),
        attempts_failed: AtomicU64::new(0),
        reloads: AtomicU64::new(0),
        lost: AtomicU64::new(0),
        doubled: AtomicU64::new(0),
        last: (0..channels).map(|_| AtomicU64::new(0)).collect(),
        had: (0..sockets).map(|_| AtomicU64::new(0)).collect(),
        is_over: AtomicBool::new(false),
        stop: CancellationToken::new(),
    });
    let _stop = shared.stop.clone().drop_guard();
    let nodes = api.nodes().to_vec();
    let (victim, others) = nodes.split_first().ok_or_else(|| Error::invalid("there is no node"))?;
    let others: Arc<[SocketAddr]> = others.into();
    let connecting = (0..sockets).map(|number| {
        let (shared, others) = (Arc::clone(&shared), Arc::clone(&others));
        async move { Client::connect(*victim, others, number, per_channel, shared).await }
    });
    let connected: Vec<Client> = futures::stream::iter(connecting).buffer_unordered(AT_ONCE).try_collect().await?;
    let mut clients = JoinSet::new();
    for client in connected {
        clients.spawn(client.run());
    }
    let sender = tokio::spawn(send(api.clone(), Arc::clone(&shared), per_channel, per_s));
    tokio::time::sleep(QUIET).await;
    shared.killed_us.store(shared.now_us().max(1), Ordering::SeqCst);
    cluster.kill_node(0);
    let resumed = || shared.resumed_us.lock().unwrap_or_else(PoisonError::into_inner).len();
    let all = async {
        while resumed() < sockets {
            tokio::time::sleep(POLL).await;
        }
    };
    drop(tokio::time::timeout(RESUMED_WITHIN, all).await);
    shared.is_over.store(true, Ordering::SeqCst);
    let messages =
        sender.await.map_err(|error| Error::new(ErrorKind::Closed, format!("the sender failed: {error}")))??;
    let complete = async {
        while shared.missing(per_channel) > 0 {
            tokio::time::sleep(POLL).await;
        }
    };
    drop(tokio::time::timeout(COMPLETE_WITHIN, complete).await);
    shared.stop.cancel();
    while let Some(client) = clients.join_next().await {
        client.map_err(|error| Error::new(ErrorKind::Closed, format!("a client failed: {error}")))?;
    }
    shared.lost.fetch_add(shared.missing(per_channel), Ordering::SeqCst);
    shared.sum(sockets, per_channel, messages)
}

impl Shared {
    fn now_us(&self) -> u64 {
        u64::try_from(self.clock.monotonic().as_micros()).unwrap_or(u64::MAX)
    }

    /// Messages at the ends of channels that their clients have not had, together.
    fn missing(&self, per_channel: usize) -> u64 {
        let of = |(number, had): (usize, &AtomicU64)| {
            let last = self.last.get(number / per_channel.max(1)).map_or(0, |last| last.load(Ordering::SeqCst));
            last.saturating_sub(had.load(Ordering::SeqCst))
        };
        self.had.iter().enumerate().map(of).sum()
    }

    fn sum(&self, sockets: usize, per_channel: usize, messages: u64) -> Result<Storm> {
        let resumed = self.resumed_us.lock().unwrap_or_else(PoisonError::into_inner);
        let mut histogram = Tally::new()?.latency_us;
        resumed.iter().for_each(|micros| histogram.saturating_record(*micros));
        let millis = |micros: u64| rounded(Duration::from_micros(micros).as_secs_f64() * 1_000.0, 10.0);
        Ok(Storm {
            sockets,
            p50_ms: millis(histogram.value_at_quantile(0.5)),
            p99_ms: millis(histogram.value_at_quantile(0.99)),
            all_ms: millis(resumed.iter().copied().max().unwrap_or(0)),
            never: sockets.saturating_sub(resumed.len()),
            attempts_failed: self.attempts_failed.load(Ordering::SeqCst),
            reloads: self.reloads.load(Ordering::SeqCst),
            lost: self.lost.load(Ordering::SeqCst),
            doubled: self.doubled.load(Ordering::SeqCst),
            messages,
            per_channel,
        })
    }
}

/// Sends to one channel after the other, at nodes that are alive, each message until it is answered.
async fn send(api: Api, shared: Arc<Shared>, per_channel: usize, per_s: u32) -> Result<u64> {
    let mut pace = tokio::time::interval(Duration::from_secs(1) / per_s.max(1));
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut sent = 0_u64;
    while !shared.is_over.load(Ordering::SeqCst) && !shared.stop.is_cancelled() {
        pace.tick().await;
        let at = usize::try_from(sent).unwrap_or(0) % shared.last.len().max(1);
        let id = channel_of(at * per_channel, per_channel);
        let body = json!({ "id": format!("m{sent}"), "text": format!("message {sent}") });
        loop {
            let dead = (shared.killed_us.load(Ordering::SeqCst) > 0).then_some(0);
            match api.send(dead, Kind::Livestream, &id, &body).await {
                Ok(answer) => {
                    let sequence = answer.pointer("/message/sequence").and_then(Value::as_u64).unwrap_or(0);
                    if let Some(last) = shared.last.get(at) {
                        last.fetch_max(sequence, Ordering::SeqCst);
                    }
                    break;
                }
                Err(error) if shared.stop.is_cancelled() => return Err(error),
                Err(_again) => tokio::time::sleep(POLL).await,
            }
        }
        sent += 1;
    }
    Ok(sent)
}

/// One client.
struct Client {
    shared: Arc<Shared>,
    others: Arc<[SocketAddr]>,
    number: usize,
    cid: String,
    socket: Option<Socket>,
    resume: String,
    seen: Option<(u64, u32)>,
    last: u64,
    /// Whether it is counted as resumed.
    resumed: bool,
    random: SeededRandom,
}

impl Client {
    async fn connect(
        node: SocketAddr,
        others: Arc<[SocketAddr]>,
        number: usize,
        per_channel: usize,
        shared: Arc<Shared>,
    ) -> Result<Self> {
        let (mut socket, _) = Socket::open(node, &user(number), None).await?;
        let cid = format!("livestream:{}", channel_of(number, per_channel));
        let reply = socket.subscribe(&cid).await?;
        let random = SeededRandom::new(u64::try_from(number).unwrap_or(0));
        let mut client = Self {
            shared,
            others,
            number,
            cid,
            socket: None,
            resume: String::new(),
            seen: None,
            last: 0,
            resumed: false,
            random,
        };
        client.hear(&reply);
        client.socket = Some(socket);
        Ok(client)
    }

    /// Listens and resumes until it is told to stop.
    async fn run(mut self) {
        let stop = self.shared.stop.clone();
        stop.run_until_cancelled(self.listen()).await;
    }

    async fn listen(&mut self) {
        loop {
            let Some(socket) = &mut self.socket else {
                self.come_back().await;
                continue;
            };
            match socket.next().await {
                Ok(frame) => self.hear(&frame),
                Err(_ended) => self.socket = None,
            }
        }
    }

    /// Connects to another node, again and again.
    async fn come_back(&mut self) {
        let mut wait = WAIT_FIRST;
        for attempt in 0_usize.. {
            let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX).max(1);
            tokio::time::sleep(Duration::from_micros(self.random.next_u64() % micros)).await;
            let node = self.others.get((self.number + attempt) % self.others.len().max(1)).copied();
            let Some(node) = node else { return std::future::pending().await };
            let seen: Map<String, Value> = self.seen.iter().map(|seen| (self.cid.clone(), json!(seen))).collect();
            match Socket::open(node, &user(self.number), Some((self.resume.as_str(), Value::Object(seen)))).await {
                Ok((socket, welcome)) => {
                    if !welcome.contains(r#""status":"ok""#) {
                        self.shared.reloads.fetch_add(1, Ordering::SeqCst);
                    }
                    self.hear(&welcome);
                    self.socket = Some(socket);
                    let killed = self.shared.killed_us.load(Ordering::SeqCst);
                    if killed > 0 && !std::mem::replace(&mut self.resumed, true) {
                        let took = self.shared.now_us().saturating_sub(killed);
                        self.shared.resumed_us.lock().unwrap_or_else(PoisonError::into_inner).push(took);
                    }
                    return;
                }
                Err(_again) => {
                    self.shared.attempts_failed.fetch_add(1, Ordering::SeqCst);
                    wait = (wait * 2).min(WAIT_MAX);
                }
            }
        }
    }

    fn hear(&mut self, frame: &str) {
        let Ok(said) = serde_json::from_str::<Said<'_>>(frame) else { return };
        if let Some(resume) = said.resume {
            resume.clone_into(&mut self.resume);
        }
        if let Some(position) = said.version.zip(said.index) {
            self.seen = Some(position);
        }
        let sequence = said.message.and_then(|message| message.sequence).filter(|_| said.kind == "message.new");
        if let Some(sequence) = sequence {
            let expected = self.last + 1;
            self.shared.lost.fetch_add(sequence.saturating_sub(expected), Ordering::SeqCst);
            self.shared.doubled.fetch_add(u64::from(sequence < expected), Ordering::SeqCst);
            self.last = self.last.max(sequence);
            if let Some(had) = self.shared.had.get(self.number) {
                had.store(self.last, Ordering::SeqCst);
            }
        }
        if said.kind == "channel.reload" {
            self.shared.reloads.fetch_add(1, Ordering::SeqCst);
        }
    }
}
