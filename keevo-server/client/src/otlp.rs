//! Spans to a collector, by OTLP over gRPC.
//!
//! ```text
//! take ─▶ queue (bounded; what finds no room is dropped and counted) ─▶ batches of at most BATCH_MAX ─▶ collector
//! ```
//!
//! Invariant: taking a span never waits, and a collector that is slow or away costs spans and nothing else. Spans hold names,
//! shards and times only: no key, no value, no text of a caller.

pub mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keevo_core::trace::{Span, SpanSink, TraceContext};
use keevo_core::{Clock, Error, ErrorKind, Random, Result, SeededRandom, SystemClock};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use wire::Resource;

/// How many spans may wait.
const QUEUE_MAX: usize = 8_192;
/// The most spans of one message.
const BATCH_MAX: usize = 512;
/// How long spans wait for company.
const LINGER: Duration = Duration::from_millis(500);
/// How long the collector may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Where spans go, whose they are, and how many of them.
#[derive(Debug, Clone, PartialEq)]
pub struct OtlpOptions {
    /// The collector: `http://host:port`.
    pub endpoint: String,
    /// Whose spans they are, such as `keevod`.
    pub service: String,
    /// Which one of several, such as the node's id.
    pub instance: String,
    /// The share of traces that are recorded of those that begin here, from 0 to 1. Who calls with a trace decides for it.
    pub ratio: f64,
}

/// How many spans went where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OtlpCounts {
    /// Taken by the collector.
    pub sent: u64,
    /// Dropped, since the queue was full or the collector did not take them.
    pub dropped: u64,
}

#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    dropped: AtomicU64,
}

/// Sends spans to a collector. Its task ends when the last handle is dropped and what waits is sent.
#[derive(Debug)]
pub struct Otlp {
    queue_tx: mpsc::Sender<wire::Span>,
    counters: Arc<Counters>,
    random: SeededRandom,
    /// Traces whose random half is below it are recorded.
    below: u64,
    /// A moment by both clocks, by which others are told.
    base: (Instant, u64),
}

impl Otlp {
    /// Begins; connects when there is something to send. `Config`: the endpoint is none, or the ratio is not from 0 to 1.
    pub fn start(options: &OtlpOptions) -> Result<Arc<Self>> {
        let bad = |what: String| Error::new(ErrorKind::Config, what);
        if !options.endpoint.starts_with("http://") {
            return Err(bad(format!("{} is no collector: write http://host:port", options.endpoint)));
        }
        if !(0.0..=1.0).contains(&options.ratio) {
            return Err(bad(format!("{} is no share of traces: write a number from 0 to 1", options.ratio)));
        }
        let endpoint = Endpoint::from_shared(options.endpoint.clone())
            .map_err(|error| bad(format!("{} is no collector", options.endpoint)).with_source(error))?;
        let channel = endpoint.connect_timeout(TIMEOUT).timeout(TIMEOUT).connect_lazy();
        let (queue_tx, queue_rx) = mpsc::channel(QUEUE_MAX);
        let counters = Arc::new(Counters::default());
        let resource = wire::resource(&options.service, &options.instance);
        tokio::spawn(run(channel, resource, queue_rx, Arc::clone(&counters)));
        let base = (Instant::now(), SystemClock::new().now_ms().saturating_mul(1_000_000));
        Ok(Arc::new(Self { queue_tx, counters, random: SeededRandom::from_os(), below: below(options.ratio), base }))
    }

    /// How many spans went where.
    pub fn counts(&self) -> OtlpCounts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        OtlpCounts { sent: load(&self.counters.sent), dropped: load(&self.counters.dropped) }
    }

    /// A moment in nanoseconds since the epoch.
    fn unix_ns(&self, at: Instant) -> u64 {
        let (base, base_ns) = self.base;
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        match at.checked_duration_since(base) {
            Some(after) => base_ns.saturating_add(ns(after)),
            None => base_ns.saturating_sub(ns(base.saturating_duration_since(at))),
        }
    }
}

impl SpanSink for Otlp {
    fn take(&self, span: Span) {
        let (began, ended) = (self.unix_ns(span.began), self.unix_ns(span.ended));
        let id = span.id.unwrap_or_else(|| self.new_id());
        if self.queue_tx.try_send(wire::Span::of(span, id, began, ended)).is_err() {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn new_id(&self) -> u64 {
        self.random.next_u64().max(1)
    }

    fn sample(&self) -> Option<TraceContext> {
        let trace_id = self.random.next_u128().max(1);
        let half = u64::try_from(trace_id & u128::from(u64::MAX)).unwrap_or(u64::MAX);
        (half < self.below).then(|| TraceContext { trace_id, span_id: self.new_id(), sampled: true })
    }
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of all numbers: its last digits matter to nobody, and the cast saturates"
)]
fn below(ratio: f64) -> u64 {
    (ratio * u64::MAX as f64) as u64
}

/// Sends what waits until nobody is left who could take a span.
async fn run(channel: Channel, resource: Resource, mut queue_rx: mpsc::Receiver<wire::Span>, counters: Arc<Counters>) {
    let mut client = wire::Collector::new(channel);
    let mut reachable = true;
    loop {
        let mut batch = Vec::new();
        if queue_rx.recv_many(&mut batch, BATCH_MAX).await == 0 {
            return;
        }
        let linger = tokio::time::sleep(LINGER);
        tokio::pin!(linger);
        while batch.len() < BATCH_MAX {
            let room = BATCH_MAX.saturating_sub(batch.len());
            tokio::select! {
                count = queue_rx.recv_many(&mut batch, room) => if count == 0 { break },
                () = &mut linger => break,
            }
        }
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let sent = client.export(&resource, batch).await;
        let counter = if sent.is_ok() { &counters.sent } else { &counters.dropped };
        counter.fetch_add(count, Ordering::Relaxed);
        if sent.is_ok() != reachable {
            reachable = sent.is_ok();
            match sent {
                Ok(()) => tracing::info!("the collector of traces takes spans again"),
                Err(status) => tracing::warn!(error = status.message(), "the collector of traces takes no spans"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use keevo_core::trace::SpanKind;

    use super::*;

    fn options(ratio: f64) -> OtlpOptions {
        // Nobody listens there.
        let endpoint = "http://127.0.0.1:1".to_owned();
        OtlpOptions { endpoint, service: "test".into(), instance: "1".into(), ratio }
    }

    #[tokio::test]
    async fn traces_are_recorded_by_the_ratio() {
        let count = |otlp: &Otlp| (0..1_000).filter(|_| otlp.sample().is_some()).count();
        assert_eq!(count(&Otlp::start(&options(1.0)).expect("good")), 1_000);
        assert_eq!(count(&Otlp::start(&options(0.0)).expect("good")), 0);
        assert!((150..350).contains(&count(&Otlp::start(&options(0.25)).expect("good"))));
        for (endpoint, ratio) in [("localhost:1", 1.0), ("", 1.0), ("http://127.0.0.1:1", 1.5)] {
            let options = OtlpOptions { endpoint: endpoint.into(), ..options(ratio) };
            assert_eq!(Otlp::start(&options).expect_err("refused").kind(), ErrorKind::Config, "{endpoint} {ratio}");
        }
    }

    #[tokio::test]
    async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
        let otlp = Otlp::start(&options(1.0)).expect("good");
        let now = Instant::now();
        let span = || Span {
            name: "test".into(),
            kind: SpanKind::Internal,
            trace_id: 1,
            parent: None,
            id: None,
            shard: None,
            began: now,
            ended: now,
            failed: false,
        };
        let all = u64::try_from(2 * QUEUE_MAX).expect("few");
        (0..all).for_each(|_| otlp.take(span()));
        let half = u64::try_from(QUEUE_MAX).expect("few");
        assert_eq!(otlp.counts(), OtlpCounts { sent: 0, dropped: half }, "the queue is full");
        let deadline = Instant::now() + Duration::from_secs(30);
        while otlp.counts().dropped < all {
            assert!(Instant::now() < deadline, "{:?}", otlp.counts());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
