//! How many calls the services have answered, how, and how long that took.
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
use keevo_core::ErrorKind;
use keevo_proto::error_from_status;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tonic::{Code, Status};

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

/// The calls of one node since it was started.
#[derive(Debug, Default)]
pub struct Calls {
    methods: Mutex<BTreeMap<String, Arc<Method>>>,
}

impl Calls {
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
        let started = Instant::now();
        let answer = self.inner.call(request);
        async move {
            let answer = answer.await?;
            match answer.extensions().get::<Status>() {
                // A method that there is none of: any name could stand here.
                Some(status) if status.code() == Code::Unimplemented => {}
                status => calls.count(&name, started.elapsed(), status.map(|status| error_from_status(status).kind())),
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
