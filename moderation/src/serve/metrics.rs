//! What the sidecar counts, in Prometheus' text format.
//!
//! Invariant: counting is a few relaxed atomic additions; nothing on the way of a request takes a lock for it.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keevo_core::ErrorKind;

/// The interfaces, as labels.
pub(crate) const APIS: [&str; 4] = ["openai", "tei", "perspective", "grpc"];
/// Upper bounds of the latency buckets, in microseconds.
const LATENCY_US: [u64; 14] = [
    500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 125_000, 250_000, 500_000, 1_000_000, 4_000_000,
    16_000_000,
];
/// Upper bounds of the buckets of texts in a batch.
const BATCH_TEXTS: [u64; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

#[derive(Debug)]
struct Histogram<const N: usize> {
    bounds: [u64; N],
    counts: [AtomicU64; N],
    count: AtomicU64,
    sum: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    fn new(bounds: [u64; N]) -> Self {
        let counts = std::array::from_fn(|_| AtomicU64::new(0));
        Self { bounds, counts, count: AtomicU64::new(0), sum: AtomicU64::new(0) }
    }

    fn observe(&self, value: u64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.counts.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// `scale`: how many of the counted units make one of the unit that is shown.
    fn render(&self, out: &mut String, name: &str, help: &str, scale: f64) {
        head(out, name, help, "histogram");
        let mut below = 0;
        for (bound, bucket) in self.bounds.iter().zip(&self.counts) {
            below += bucket.load(Ordering::Relaxed);
            line(out, format_args!("{name}_bucket{{le=\"{}\"}} {below}", to_f64(*bound) / scale));
        }
        let count = self.count.load(Ordering::Relaxed);
        line(out, format_args!("{name}_bucket{{le=\"+Inf\"}} {count}"));
        line(out, format_args!("{name}_sum {}", to_f64(self.sum.load(Ordering::Relaxed)) / scale));
        line(out, format_args!("{name}_count {count}"));
    }
}

/// The counters of one sidecar.
#[derive(Debug)]
pub(crate) struct Metrics {
    requests: [[AtomicU64; 2]; APIS.len()],
    errors: Vec<(ErrorKind, AtomicU64)>,
    texts: AtomicU64,
    tokens: AtomicU64,
    batches: AtomicU64,
    busy_us: AtomicU64,
    refused: AtomicU64,
    queue: [AtomicU64; 3],
    batch_texts: Histogram<{ BATCH_TEXTS.len() }>,
    waited: Histogram<{ LATENCY_US.len() }>,
    ran: Histogram<{ LATENCY_US.len() }>,
    answered: Histogram<{ LATENCY_US.len() }>,
    batch_tokens_max: u64,
}

impl Metrics {
    pub(crate) fn new(batch_tokens_max: usize) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            requests: std::array::from_fn(|_| [zero(), zero()]),
            errors: keevo_core::ERROR_TABLE.iter().map(|row| (row.kind, zero())).collect(),
            texts: zero(),
            tokens: zero(),
            batches: zero(),
            busy_us: zero(),
            refused: zero(),
            queue: [zero(), zero(), zero()],
            batch_texts: Histogram::new(BATCH_TEXTS),
            waited: Histogram::new(LATENCY_US),
            ran: Histogram::new(LATENCY_US),
            answered: Histogram::new(LATENCY_US),
            batch_tokens_max: batch_tokens_max as u64,
        }
    }

    /// A request was answered: which interface (place in [`APIS`]), how, and after how long.
    pub(crate) fn answered(&self, api: usize, error: Option<ErrorKind>, took: Duration) {
        if let Some(outcome) = self.requests.get(api).and_then(|both| both.get(usize::from(error.is_some()))) {
            outcome.fetch_add(1, Ordering::Relaxed);
        }
        if let Some((_, count)) = self.errors.iter().find(|(kind, _)| Some(*kind) == error) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.answered.observe(micros(took));
    }

    /// The queue refused a request.
    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// What waits now.
    pub(crate) fn queue(&self, realtime: usize, bulk: usize, tokens: usize) {
        for (gauge, value) in self.queue.iter().zip([realtime, bulk, tokens]) {
            gauge.store(value as u64, Ordering::Relaxed);
        }
    }

    /// A piece waited for its batch.
    pub(crate) fn waited(&self, waited: Duration) {
        self.waited.observe(micros(waited));
    }

    /// A batch has run.
    pub(crate) fn ran(&self, texts: usize, tokens: usize, took: Duration) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.texts.fetch_add(texts as u64, Ordering::Relaxed);
        self.tokens.fetch_add(tokens as u64, Ordering::Relaxed);
        self.busy_us.fetch_add(micros(took), Ordering::Relaxed);
        self.batch_texts.observe(texts as u64);
        self.ran.observe(micros(took));
    }

    /// Tokens a second of the model while it was busy; `None` before the first batch.
    pub(crate) fn tokens_per_second(&self) -> Option<f64> {
        let busy_us = self.busy_us.load(Ordering::Relaxed);
        (busy_us > 0).then(|| to_f64(self.tokens.load(Ordering::Relaxed)) * 1e6 / to_f64(busy_us))
    }

    /// Everything, as Prometheus reads it.
    pub(crate) fn render(&self, ready: bool) -> String {
        let mut out = String::with_capacity(8_192);
        gauge(&mut out, "ready", "1 while texts are judged.", u64::from(ready));
        head(&mut out, "keevo_moderation_requests_total", "Requests answered.", "counter");
        for (api, both) in APIS.iter().zip(&self.requests) {
            for (outcome, count) in ["ok", "error"].iter().zip(both) {
                let count = count.load(Ordering::Relaxed);
                line(
                    &mut out,
                    format_args!("keevo_moderation_requests_total{{api=\"{api}\",outcome=\"{outcome}\"}} {count}"),
                );
            }
        }
        head(&mut out, "keevo_moderation_errors_total", "Requests refused or failed, by kind of error.", "counter");
        for (kind, count) in &self.errors {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                line(&mut out, format_args!("keevo_moderation_errors_total{{kind=\"{}\"}} {count}", kind.row().name));
            }
        }
        for (name, help, value) in [
            ("texts_total", "Texts and windows of long texts judged.", &self.texts),
            ("tokens_total", "Tokens judged; its rate is tokens a second.", &self.tokens),
            ("batches_total", "Batches run.", &self.batches),
            ("queue_refusals_total", "Requests refused because the queue was full.", &self.refused),
        ] {
            let name = format!("keevo_moderation_{name}");
            head(&mut out, &name, help, "counter");
            line(&mut out, format_args!("{name} {}", value.load(Ordering::Relaxed)));
        }
        let name = "keevo_moderation_busy_seconds_total";
        head(&mut out, name, "Time the model was at work.", "counter");
        line(&mut out, format_args!("{name} {}", to_f64(self.busy_us.load(Ordering::Relaxed)) / 1e6));
        let [realtime, bulk, tokens] = &self.queue;
        let name = "keevo_moderation_queue_texts";
        head(&mut out, name, "Texts and windows that wait.", "gauge");
        for (lane, count) in [("realtime", realtime), ("bulk", bulk)] {
            line(&mut out, format_args!("{name}{{priority=\"{lane}\"}} {}", count.load(Ordering::Relaxed)));
        }
        gauge(&mut out, "queue_tokens", "Tokens that wait.", tokens.load(Ordering::Relaxed));
        gauge(&mut out, "batch_tokens_max", "Tokens that a batch may have.", self.batch_tokens_max);
        self.batch_texts.render(&mut out, "keevo_moderation_batch_texts", "Texts and windows in a batch.", 1.0);
        for (name, help, histogram) in [
            ("queue_seconds", "How long a text waited for its batch.", &self.waited),
            ("batch_seconds", "How long a batch ran.", &self.ran),
            ("request_seconds", "How long a request took.", &self.answered),
        ] {
            histogram.render(&mut out, &format!("keevo_moderation_{name}"), help, 1e6);
        }
        out
    }
}

fn gauge(out: &mut String, name: &str, help: &str, value: u64) {
    let name = format!("keevo_moderation_{name}");
    head(out, &name, help, "gauge");
    line(out, format_args!("{name} {value}"));
}

fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    line(out, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a String takes what it is given");
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[allow(clippy::cast_precision_loss, reason = "counts and microseconds, for people to read")]
fn to_f64(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_shown() {
        let metrics = Metrics::new(4_096);
        metrics.answered(1, Some(ErrorKind::ResourceExhausted), Duration::from_millis(3));
        metrics.answered(0, None, Duration::from_micros(400));
        metrics.ran(3, 90, Duration::from_millis(30));
        metrics.queue(4, 5, 600);
        let text = metrics.render(true);
        for wanted in [
            "keevo_moderation_ready 1\n",
            "requests_total{api=\"tei\",outcome=\"error\"} 1\n",
            "requests_total{api=\"openai\",outcome=\"ok\"} 1\n",
            "errors_total{kind=\"RESOURCE_EXHAUSTED\"} 1\n",
            "tokens_total 90\n",
            "queue_texts{priority=\"bulk\"} 5\n",
            "batch_texts_bucket{le=\"2\"} 0\n",
            "batch_texts_bucket{le=\"4\"} 1\n",
            "request_seconds_bucket{le=\"0.0005\"} 1\n",
            "request_seconds_count 2\n",
        ] {
            assert!(text.contains(wanted), "{wanted} in\n{text}");
        }
        assert!(metrics.tokens_per_second().is_some_and(|rate| (rate - 3_000.0).abs() < 1e-6));
    }
}
