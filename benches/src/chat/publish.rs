//! Messages to many who watch: how long until each of them has one, and how many arrive a second.
//!
//! A message carries its number and when it was due, on the clock of this program; whoever watches counts it and takes the
//! time. In the end every watcher must have had every message once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use hdrhistogram::Histogram;
use keevo_core::{Error, ErrorKind, Result};
use serde::Serialize;
use serde_json::json;
use tokio::task::JoinSet;

use super::api::{Api, Kind, user};
use super::socket::Socket;
use crate::figures::{per_second, rounded};
use crate::load::Tally;
use crate::load::arrivals::Arrivals;
use crate::usage::{self, Usage};
use crate::window::Window;

/// Watchers that connect together.
const AT_ONCE: usize = 32;
/// How long the last messages may take to arrive.
const ARRIVE_WITHIN: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);
/// Histograms that the watchers share.
const HISTOGRAMS: usize = 8;

/// A system that takes messages and gives them to all who watch.
pub(crate) trait Broker: Send + Sync + 'static {
    /// Somebody who watches.
    type Watcher: Watching;

    /// Has one more watch, from now on.
    fn watcher(&self, number: usize) -> impl Future<Output = Result<Self::Watcher>> + Send;

    /// Sends a message; it is durable when this returns.
    fn send(&self, number: u64, text: &str) -> impl Future<Output = Result<()>> + Send;
}

/// Somebody who watches.
pub(crate) trait Watching: Send + 'static {
    /// The next thing that comes, a message or not.
    fn next(&mut self) -> impl Future<Output = Result<Bytes>> + Send;
}

/// A channel of Keevo whose watchers are its members.
pub(crate) struct Channel {
    api: Api,
    id: &'static str,
}

impl Channel {
    /// Makes the channel.
    pub(crate) async fn open(api: &Api, members: usize) -> Result<Self> {
        let id = "publish";
        api.channel(Kind::Team, id, members).await?;
        Ok(Self { api: api.clone(), id })
    }
}

impl Broker for Channel {
    type Watcher = Socket;

    async fn watcher(&self, number: usize) -> Result<Socket> {
        let nodes = self.api.nodes();
        let node = nodes.get(number % nodes.len().max(1)).ok_or_else(|| Error::invalid("there is no node"))?;
        let (mut socket, _) = Socket::open(*node, &user(number), None).await?;
        socket.subscribe(&format!("team:{}", self.id)).await?;
        Ok(socket)
    }

    async fn send(&self, number: u64, text: &str) -> Result<()> {
        let body = json!({ "id": format!("m{number}"), "text": text });
        self.api.send(None, Kind::Team, self.id, &body).await.map(drop)
    }
}

impl Watching for Socket {
    async fn next(&mut self) -> Result<Bytes> {
        Ok(Socket::next(self).await?.into())
    }
}

/// What one run showed, or several added up.
#[derive(Debug)]
pub(crate) struct Runs {
    messages: u64,
    deliveries: u64,
    elapsed: Duration,
    latency_us: Histogram<u64>,
    lost: u64,
    doubled: u64,
    failed: u64,
    usage: Usage,
}

/// The figures of runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Published {
    pub(crate) messages: u64,
    /// Messages that a watcher had a second, of all watchers together.
    pub(crate) deliveries_per_s: f64,
    /// From when a message was due until a watcher had it.
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    /// Messages that a watcher never had, and that it had once more, summed over the watchers.
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    /// Sends that failed.
    pub(crate) failed: u64,
    pub(crate) cpu_s: f64,
    pub(crate) rss_bytes_max: u64,
}

/// How messages are sent in a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Messages that are due a second; `None` = the next one when one before was answered.
    pub(crate) per_s: Option<u32>,
    /// Sends under way at most.
    pub(crate) in_flight: u32,
    pub(crate) text_bytes: usize,
    pub(crate) warm_up: Duration,
    pub(crate) measure: Duration,
}

/// What the watchers note in a run.
struct Phase {
    window: Arc<Window>,
    /// The number of its first message.
    first: u64,
    /// Each watcher's count of messages, and the sum of their numbers.
    counts: Vec<(AtomicU64, AtomicU64)>,
    latency_us: Vec<Mutex<Histogram<u64>>>,
    in_window: AtomicU64,
}

/// A system with its watchers.
pub(crate) struct Publishing<B: Broker> {
    broker: Arc<B>,
    phase: Arc<RwLock<Arc<Phase>>>,
    watchers: usize,
    next: Arc<AtomicU64>,
    listening: JoinSet<Error>,
}

impl<B: Broker> Publishing<B> {
    /// Connects the watchers.
    pub(crate) async fn open(broker: B, watchers: usize) -> Result<Self> {
        let broker = Arc::new(broker);
        let connecting = (0..watchers).map(|number| {
            let broker = Arc::clone(&broker);
            async move { broker.watcher(number).await }
        });
        let connected: Vec<B::Watcher> = futures::stream::iter(connecting).buffered(AT_ONCE).try_collect().await?;
        let window = Arc::new(Window::after(Duration::ZERO, Duration::ZERO));
        let phase = Arc::new(RwLock::new(Arc::new(Phase::new(window, 0, watchers)?)));
        let mut listening = JoinSet::new();
        for (at, watcher) in connected.into_iter().enumerate() {
            listening.spawn(listen(watcher, at, Arc::clone(&phase)));
        }
        Ok(Self { broker, phase, watchers, next: Arc::new(AtomicU64::new(0)), listening })
    }

    /// Sends as `pace` says and waits until all have arrived; `pids` are those of the servers.
    pub(crate) async fn run(&mut self, pace: Pace, pids: &[u32]) -> Result<Runs> {
        let window = Arc::new(Window::after(pace.warm_up, pace.measure));
        let first = self.next.load(Ordering::SeqCst);
        let phase = Arc::new(Phase::new(Arc::clone(&window), first, self.watchers)?);
        *self.phase.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&phase);
        let arrivals = pace.per_s.map(|per_s| Arrivals::start(per_s, &window)).transpose()?;
        let mut senders = JoinSet::new();
        for _ in 0..pace.in_flight {
            let (broker, next, window) = (Arc::clone(&self.broker), Arc::clone(&self.next), Arc::clone(&window));
            senders.spawn(send(broker, next, window, arrivals.clone(), pace.text_bytes));
        }
        let mut tally = Tally::new()?;
        let (mut sent, mut sum) = (0, 0_u64);
        let sending = async {
            while let Some(sender) = senders.join_next().await {
                let sender =
                    sender.map_err(|error| Error::new(ErrorKind::Closed, format!("a sender failed: {error}")))?;
                let (own, numbers) = sender?;
                tally.add(&own)?;
                sent += u64::try_from(numbers.len()).unwrap_or(u64::MAX);
                sum = numbers.iter().fold(sum, |sum, number| sum.wrapping_add(*number));
            }
            Ok::<_, Error>(())
        };
        let (usage, sending) = tokio::join!(usage::over(pids, &window), sending);
        sending?;
        let usage = usage?;
        let all = || phase.counts.iter().all(|(count, _)| count.load(Ordering::SeqCst) >= sent);
        let arriving = async {
            while !all() {
                tokio::time::sleep(POLL).await;
            }
        };
        drop(tokio::time::timeout(ARRIVE_WITHIN, arriving).await);
        if let Some(ended) = self.listening.try_join_next() {
            return Err(
                ended.unwrap_or_else(|error| Error::new(ErrorKind::Closed, format!("a watcher failed: {error}")))
            );
        }
        if let Some(failure) = &tally.first_failure {
            crate::output::note(&format!("{} sends failed, the first with {failure}", tally.failed));
        }
        let mut latency_us = Tally::new()?.latency_us;
        for one in &phase.latency_us {
            let one = one.lock().unwrap_or_else(PoisonError::into_inner);
            latency_us.add(&*one).map_err(|error| Error::invalid("the histograms do not add up").with_source(error))?;
        }
        let (lost, doubled) = phase.wrong(sent, sum);
        Ok(Runs {
            messages: sent,
            deliveries: phase.in_window.load(Ordering::SeqCst),
            elapsed: window.measured(),
            latency_us,
            lost,
            doubled,
            failed: tally.failed,
            usage,
        })
    }
}

impl Runs {
    /// Adds a later run.
    pub(crate) fn add(&mut self, later: &Self) -> Result<()> {
        self.latency_us
            .add(&later.latency_us)
            .map_err(|error| Error::invalid("the histograms do not add up").with_source(error))?;
        self.messages += later.messages;
        self.deliveries += later.deliveries;
        self.elapsed += later.elapsed;
        self.lost += later.lost;
        self.doubled += later.doubled;
        self.failed += later.failed;
        self.usage = self.usage.and(later.usage);
        Ok(())
    }

    /// Their figures.
    pub(crate) fn figures(&self) -> Published {
        Published {
            messages: self.messages,
            deliveries_per_s: per_second(self.deliveries, self.elapsed),
            p50_us: self.latency_us.value_at_quantile(0.5),
            p99_us: self.latency_us.value_at_quantile(0.99),
            p999_us: self.latency_us.value_at_quantile(0.999),
            lost: self.lost,
            doubled: self.doubled,
            failed: self.failed,
            cpu_s: rounded(self.usage.cpu.as_secs_f64(), 100.0),
            rss_bytes_max: self.usage.rss_bytes_max,
        }
    }
}

/// One sender, until the window ends: what its sends met with, and the numbers that were answered.
async fn send<B: Broker>(
    broker: Arc<B>,
    next: Arc<AtomicU64>,
    window: Arc<Window>,
    arrivals: Option<Arrivals>,
    text_bytes: usize,
) -> Result<(Tally, Vec<u64>)> {
    let (mut tally, mut numbers) = (Tally::new()?, Vec::new());
    loop {
        let due = match &arrivals {
            Some(arrivals) => arrivals.next().await,
            None => window.now(),
        };
        if window.has_ended_at(due) {
            return Ok((tally, numbers));
        }
        let number = next.fetch_add(1, Ordering::SeqCst);
        let mut text = mark(number, due);
        text.extend(std::iter::repeat_n('x', text_bytes.saturating_sub(text.len())));
        let done = broker.send(number, &text).await;
        if done.is_ok() {
            numbers.push(number);
        }
        tally.note(&window, due, window.now(), done);
    }
}

/// Somebody who watches, until it cannot any more.
async fn listen<W: Watching>(mut watcher: W, at: usize, phase: Arc<RwLock<Arc<Phase>>>) -> Error {
    loop {
        let frame = match watcher.next().await {
            Ok(frame) => frame,
            Err(error) => return error,
        };
        if let Some((number, due)) = marked(&frame) {
            let phase = Arc::clone(&phase.read().unwrap_or_else(PoisonError::into_inner));
            phase.note(at, number, due);
        }
    }
}

impl Phase {
    fn new(window: Arc<Window>, first: u64, watchers: usize) -> Result<Self> {
        let histograms = (0..HISTOGRAMS).map(|_| Ok::<_, Error>(Mutex::new(Tally::new()?.latency_us)));
        Ok(Self {
            window,
            first,
            counts: (0..watchers).map(|_| (AtomicU64::new(0), AtomicU64::new(0))).collect(),
            latency_us: histograms.collect::<Result<_>>()?,
            in_window: AtomicU64::new(0),
        })
    }

    fn note(&self, at: usize, number: u64, due: Duration) {
        let now = self.window.now();
        let Some((count, sum)) = self.counts.get(at).filter(|_| number >= self.first) else { return };
        count.fetch_add(1, Ordering::SeqCst);
        sum.fetch_add(number, Ordering::SeqCst);
        let counts = self.window.has_started_at(now) && !self.window.has_ended_at(now);
        self.in_window.fetch_add(u64::from(counts), Ordering::Relaxed);
        if let Some(latency_us) = self.latency_us.get(at % HISTOGRAMS).filter(|_| self.window.has_started_at(due)) {
            let micros = u64::try_from(now.saturating_sub(due).as_micros()).unwrap_or(u64::MAX);
            latency_us.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(micros);
        }
    }

    /// How many deliveries are missing, and how many came twice. One of each, at one watcher, shows in the sum.
    fn wrong(&self, sent: u64, numbers: u64) -> (u64, u64) {
        let of = |(count, sum): &(AtomicU64, AtomicU64)| {
            let (count, sum) = (count.load(Ordering::SeqCst), sum.load(Ordering::SeqCst));
            let (lost, doubled) = (sent.saturating_sub(count), count.saturating_sub(sent));
            let both = u64::from(count == sent && sum != numbers);
            (lost + both, doubled + both)
        };
        self.counts.iter().map(of).fold((0, 0), |(lost, doubled), one| (lost + one.0, doubled + one.1))
    }
}

fn mark(number: u64, due: Duration) -> String {
    format!("#{number}:{}#", due.as_micros())
}

/// The number of a message, and when it was due, wherever they stand in what came.
fn marked(frame: &[u8]) -> Option<(u64, Duration)> {
    let start = frame.iter().position(|byte| *byte == b'#')? + 1;
    let rest = frame.get(start..)?;
    let end = rest.iter().position(|byte| *byte == b'#')?;
    let text = std::str::from_utf8(rest.get(..end)?).ok()?;
    let (number, due) = text.split_once(':')?;
    Some((number.parse().ok()?, Duration::from_micros(due.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_in_what_came() {
        let frame = format!(r#"{{"type":"message.new","text":"{}xxx"}}"#, mark(7, Duration::from_micros(1_234)));
        assert_eq!(marked(frame.as_bytes()), Some((7, Duration::from_micros(1_234))));
        assert_eq!(marked(b"{}"), None);
        assert_eq!(marked(b"#x:1#"), None);
    }

    #[test]
    fn what_is_lost_or_comes_twice_is_counted() {
        let window = Arc::new(Window::after(Duration::ZERO, Duration::from_mins(1)));
        let phase = Phase::new(window, 10, 3).expect("a phase");
        // The first watcher has both messages, the second one of them twice, the third one of three kinds.
        for (at, number) in [(0, 10), (0, 11), (1, 10), (1, 10), (2, 11), (2, 9)] {
            phase.note(at, number, Duration::ZERO);
        }
        assert_eq!(phase.wrong(2, 21), (2, 1));
    }
}
