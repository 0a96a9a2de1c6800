//! How many calls the services have answered, how, and how long that took; and the slow ones in the log.
//!
//! Invariant: what is kept is bounded: so many methods, the kinds of errors, and a fixed row of buckets.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use keevo_client::Otlp;
use keevo_core::trace::{Span, SpanKind, SpanSink, Trace, TraceContext};
use keevo_core::{ErrorKind, Random, SeededRandom};
use keevo_proto::error_from_status;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::server::NamedService;
use tonic::{Code, Status};

use crate::slow::SlowLog;

/// Where a caller says which trace a call belongs to.
const TRACEPARENT: &str = "traceparent";
/// The most methods that are told apart; there are fewer.
const METHODS_MAX: usize = 192;
/// The upper ends of the buckets, in microseconds, as Prometheus is told them in seconds.
const BUCKETS: [(u64, &str); 12] = [
    (250, "0.00025"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (10_000_000, "10"),
];

/// How many buckets there are.
pub(crate) const BUCKET_COUNT: usize = BUCKETS.len();

/// The upper ends of the buckets, in microseconds.
pub(crate) fn bucket_ends_us() -> [u64; BUCKET_COUNT] {
    BUCKETS.map(|(end, _)| end)
}

/// What was counted of one method so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct MethodCalls {
    /// Calls.
    pub(crate) calls: u64,
    /// Those of them that ended with an error.
    pub(crate) errors: u64,
    /// Calls by time, each in the first bucket that it fits; slower ones in none.
    pub(crate) buckets: [u64; BUCKET_COUNT],
}

/// The calls of one method.
#[derive(Debug, Default)]
struct Method {
    /// By the name of the error's kind, or `OK`.
    outcomes: Mutex<BTreeMap<&'static str, u64>>,
    /// Not cumulative; what is slower than the last bucket is in `count` only.
    buckets: [AtomicU64; BUCKETS.len()],
    count: AtomicU64,
    micros: AtomicU64,
}

/// What calls are watched with.
#[derive(Debug)]
struct Watching {
    slow: SlowLog,
    /// Where spans go, if anywhere.
    traces: Option<Arc<Otlp>>,
    random: SeededRandom,
}

/// The calls of one node since it was started.
#[derive(Debug, Default)]
pub struct Calls {
    methods: Mutex<BTreeMap<String, Arc<Method>>>,
    under_way: AtomicU64,
    watching: Option<Watching>,
}

/// A call under way: what it is part of, and that it counts as such until this is dropped.
#[derive(Debug)]
pub(crate) struct UnderWay<'a> {
    calls: &'a Calls,
    began: Instant,
    trace: Option<Arc<Trace>>,
    /// The caller's span.
    parent: Option<u64>,
}

impl UnderWay<'_> {
    /// Runs the call's handler.
    pub(crate) async fn run<F: Future>(&self, handler: F) -> F::Output {
        match &self.trace {
            Some(trace) => trace.run(handler).await,
            None => handler.await,
        }
    }

    /// The call of `method` has ended with `error`, or without one.
    pub(crate) fn end(self, method: &str, error: Option<ErrorKind>) {
        let took = self.began.elapsed();
        self.calls.count(method, took, error);
        if let Some(watching) = &self.calls.watching {
            let outcome = error.map_or("OK", |kind| kind.row().name);
            watching.slow.look(method, took, outcome, self.trace.as_deref());
            if let (Some(sink), Some(trace)) = (&watching.traces, &self.trace)
                && let Some(context) = trace.context()
            {
                sink.take(Span {
                    name: method.to_owned().into(),
                    kind: SpanKind::Server,
                    trace_id: context.trace_id,
                    parent: self.parent,
                    id: Some(context.span_id),
                    shard: None,
                    began: self.began,
                    ended: Instant::now(),
                    failed: error.is_some(),
                });
            }
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.calls.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Calls {
    /// Calls of which slow ones go into `slow`, and traced ones to `traces`.
    pub fn watched(slow: SlowLog, traces: Option<Arc<Otlp>>) -> Self {
        let is_on = slow.is_on() || traces.is_some();
        let watching = is_on.then(|| Watching { slow, traces, random: SeededRandom::from_os() });
        Self { watching, ..Self::default() }
    }

    /// A call begins, whose caller may have said which trace it belongs to.
    pub(crate) fn begin(&self, caller: Option<TraceContext>) -> UnderWay<'_> {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let trace = self.watching.as_ref().map(|watching| Trace::begin(Some(watching.context(caller))));
        UnderWay { calls: self, began: Instant::now(), trace, parent: caller.map(|caller| caller.span_id) }
    }

    /// What a caller says of its trace, where anybody looks at it.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Option<TraceContext> {
        self.watching.as_ref().and_then(|_| TraceContext::parse(headers.get(TRACEPARENT)?.to_str().ok()?))
    }

    /// Where spans go, if anywhere.
    pub(crate) fn traces(&self) -> Option<&Arc<Otlp>> {
        self.watching.as_ref()?.traces.as_ref()
    }

    /// Calls that are not answered yet.
    pub(crate) fn under_way(&self) -> u64 {
        self.under_way.load(Ordering::Relaxed)
    }

    /// Slow calls, and those of them that no line of the log tells.
    pub(crate) fn slow_counts(&self) -> (u64, u64) {
        self.watching.as_ref().map(|watching| watching.slow.counts()).unwrap_or_default()
    }

    /// Counts a call of a method, `package.Service/Method`, that took so long and failed with `error` or did not.
    pub fn count(&self, name: &str, took: Duration, error: Option<ErrorKind>) {
        let Some(method) = self.method(name) else { return };
        let outcome = error.map_or("OK", |kind| kind.row().name);
        *method.outcomes.lock().unwrap_or_else(PoisonError::into_inner).entry(outcome).or_default() += 1;
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some((bucket, _)) = method.buckets.iter().zip(BUCKETS).find(|(_, (end, _))| micros <= *end) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        method.micros.fetch_add(micros, Ordering::Relaxed);
        method.count.fetch_add(1, Ordering::Relaxed);
    }

    fn method(&self, name: &str) -> Option<Arc<Method>> {
        let mut methods = self.methods.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(method) = methods.get(name) {
            return Some(Arc::clone(method));
        }
        (methods.len() < METHODS_MAX).then(|| Arc::clone(methods.entry(name.to_owned()).or_default()))
    }

    /// What was counted of each method, by its name.
    pub(crate) fn counted(&self) -> Vec<(String, MethodCalls)> {
        let methods = self.methods.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let counted = methods.into_iter().map(|(name, method)| {
            let outcomes = method.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
            let errors = outcomes.iter().filter(|(outcome, _)| **outcome != "OK").map(|(_, count)| count).sum();
            drop(outcomes);
            let mut buckets = [0; BUCKET_COUNT];
            for (bucket, counted) in buckets.iter_mut().zip(&method.buckets) {
                *bucket = counted.load(Ordering::Relaxed);
            }
            (name, MethodCalls { calls: method.count.load(Ordering::Relaxed), errors, buckets })
        });
        counted.collect()
    }

    /// The calls in Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        let mut counts = String::from(
            "# HELP keevo_rpc_calls_total Calls answered, by method and outcome (OK or the kind of the error).\n\
             # TYPE keevo_rpc_calls_total counter\n",
        );
        let mut times = String::from(
            "# HELP keevo_rpc_seconds Time until a call was answered, or until its stream was open.\n\
             # TYPE keevo_rpc_seconds histogram\n",
        );
        let methods = self.methods.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (name, method) in methods {
            for (outcome, count) in method.outcomes.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                line(&mut counts, "keevo_rpc_calls_total", &format!("method=\"{name}\",outcome=\"{outcome}\""), count);
            }
            let mut below = 0;
            for (bucket, (_, end)) in method.buckets.iter().zip(BUCKETS) {
                below += bucket.load(Ordering::Relaxed);
                line(&mut times, "keevo_rpc_seconds_bucket", &format!("method=\"{name}\",le=\"{end}\""), &below);
            }
            let count = method.count.load(Ordering::Relaxed).max(below);
            let seconds = Duration::from_micros(method.micros.load(Ordering::Relaxed)).as_secs_f64();
            line(&mut times, "keevo_rpc_seconds_bucket", &format!("method=\"{name}\",le=\"+Inf\""), &count);
            line(&mut times, "keevo_rpc_seconds_sum", &format!("method=\"{name}\""), &seconds);
            line(&mut times, "keevo_rpc_seconds_count", &format!("method=\"{name}\""), &count);
        }
        counts + &times
    }
}

impl Watching {
    /// The context of a call's own span: in the trace of its caller, or in one of its own, of which some are recorded.
    fn context(&self, caller: Option<TraceContext>) -> TraceContext {
        let span_id = self.random.next_u64().max(1);
        if let Some(caller) = caller {
            return caller.at(span_id);
        }
        let sampled = self.traces.as_ref().and_then(|traces| traces.sample());
        sampled.unwrap_or_else(|| TraceContext { trace_id: self.random.next_u128().max(1), span_id, sampled: false })
    }
}

fn line(text: &mut String, name: &str, labels: &str, value: &impl std::fmt::Display) {
    writeln!(text, "{name}{{{labels}}} {value}").expect("a string takes all text");
}

/// A gRPC service whose calls are counted.
#[derive(Debug, Clone)]
pub(crate) struct Counted<S> {
    inner: S,
    calls: Arc<Calls>,
}

impl<S> Counted<S> {
    /// Counts the calls of `inner`.
    pub(crate) fn new(inner: S, calls: &Arc<Calls>) -> Self {
        Self { inner, calls: Arc::clone(calls) }
    }
}

impl<S: NamedService> NamedService for Counted<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let name = request.uri().path().trim_start_matches('/').to_owned();
        let calls = Arc::clone(&self.calls);
        let caller = calls.caller(request.headers());
        let answer = self.inner.call(request);
        async move {
            let call = calls.begin(caller);
            let answer = call.run(answer).await?;
            match answer.extensions().get::<Status>() {
                // A method that there is none of: any name could stand here.
                Some(status) if status.code() == Code::Unimplemented => {}
                status => call.end(&name, status.map(|status| error_from_status(status).kind())),
            }
            Ok(answer)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_shown_by_method_outcome_and_time() {
        let calls = Calls::default();
        calls.count("p.S/Get", Duration::from_micros(300), None);
        calls.count("p.S/Get", Duration::from_micros(2_700), None);
        calls.count("p.S/Get", Duration::from_millis(20_497), Some(ErrorKind::NoQuorum));
        let text = calls.render();
        for line in [
            "# TYPE keevo_rpc_calls_total counter",
            "# TYPE keevo_rpc_seconds histogram",
            "keevo_rpc_calls_total{method=\"p.S/Get\",outcome=\"OK\"} 2",
            "keevo_rpc_calls_total{method=\"p.S/Get\",outcome=\"NO_QUORUM\"} 1",
            "keevo_rpc_seconds_bucket{method=\"p.S/Get\",le=\"0.00025\"} 0",
            "keevo_rpc_seconds_bucket{method=\"p.S/Get\",le=\"0.0005\"} 1",
            "keevo_rpc_seconds_bucket{method=\"p.S/Get\",le=\"10\"} 2",
            "keevo_rpc_seconds_bucket{method=\"p.S/Get\",le=\"+Inf\"} 3",
            "keevo_rpc_seconds_sum{method=\"p.S/Get\"} 20.5",
            "keevo_rpc_seconds_count{method=\"p.S/Get\"} 3",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn calls_are_told_as_numbers_too() {
        let calls = Calls::default();
        calls.count("p.S/Get", Duration::from_micros(300), None);
        calls.count("p.S/Get", Duration::from_mins(1), Some(ErrorKind::NoQuorum));
        let mut buckets = [0; BUCKET_COUNT];
        buckets[1] = 1;
        assert_eq!(calls.counted(), [("p.S/Get".to_owned(), MethodCalls { calls: 2, errors: 1, buckets })]);
    }

    #[test]
    fn no_caller_can_make_the_table_grow_without_bound() {
        let calls = Calls::default();
        for number in 0..10 * METHODS_MAX {
            calls.count(&format!("p.S/M{number}"), Duration::ZERO, None);
        }
        assert_eq!(calls.methods.lock().expect("not poisoned").len(), METHODS_MAX);
    }
}
