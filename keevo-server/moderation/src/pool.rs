//! The client of the sidecars: the less loaded of two is asked, and those that are slow or fail get a rest.
//!
//! Invariant: what a question costs is bounded: its time, its answer, and the two workers it goes to. A worker's fault is
//! never a text's: only an answer that refuses the text itself is `Invalid` or `BatchTooLarge`.

mod answer;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, Request};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use keevo_core::{Clock, Error, ErrorKind, Random, Result};
use serde_json::json;
use url::Url;

use crate::verdict::{Asking, Judge, Scores};
use answer::{Answered, read};
use worker::Worker;

/// The most workers of a pool.
const WORKERS_MAX: usize = 64;
/// How many workers a question goes to before it fails.
const TRIES: usize = 2;
/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// The most bytes of an answer.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Sidecars that score texts over HTTP, as OpenAI's moderation endpoint does.
pub struct Pool {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    workers: Vec<Arc<Worker>>,
    key: Option<String>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("workers", &self.workers.len()).finish_non_exhaustive()
    }
}

/// How a worker does, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerStatus {
    /// Its address.
    pub url: String,
    /// Questions under way.
    pub in_flight: usize,
    /// Whether it is not asked for a while.
    pub resting: bool,
}

impl Pool {
    /// The workers at these addresses, such as `http://127.0.0.1:8201`; `key` is the API key that they ask for.
    ///
    /// # Errors
    /// `Config` for no address, too many, or one that is none.
    pub fn new(urls: &[String], key: Option<String>, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Result<Self> {
        let config = |message: String| Error::new(ErrorKind::Config, message);
        if urls.is_empty() || urls.len() > WORKERS_MAX {
            return Err(config(format!("there are 1 to {WORKERS_MAX} moderation workers, not {}", urls.len())));
        }
        let mut workers = Vec::new();
        for text in urls {
            let bad = || config(format!("'{text}' is no address of a worker, such as http://127.0.0.1:8201"));
            let url = Url::parse(text).map_err(|error| bad().with_source(error))?;
            if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
                return Err(bad());
            }
            let ask = url.join("/v1/moderations").map_err(|error| bad().with_source(error))?;
            workers.push(Arc::new(Worker::new(ask.to_string())));
        }
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT_WITHIN));
        let tls = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|error| config("the system's root certificates cannot be read".into()).with_source(error))?;
        let connector = tls.https_or_http().enable_http1().wrap_connector(http);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, workers, key, clock, random })
    }

    /// How each worker does.
    pub fn status(&self) -> Vec<WorkerStatus> {
        let now = self.clock.monotonic();
        self.workers.iter().map(|worker| worker.status(now)).collect()
    }

    /// The less loaded of two workers picked at random from those that are not at rest.
    fn pick(&self, tried: &[Arc<Worker>]) -> Option<Arc<Worker>> {
        let now = self.clock.monotonic();
        let fit = |worker: &&Arc<Worker>| worker.is_fit(now) && !tried.iter().any(|one| Arc::ptr_eq(one, worker));
        let fit: Vec<&Arc<Worker>> = self.workers.iter().filter(fit).collect();
        let draw = |count: usize| usize::try_from(self.random.next_u64() % (count.max(1) as u64)).unwrap_or_default();
        let first = draw(fit.len());
        // The second is any but the first.
        let second = (first + 1 + draw(fit.len().saturating_sub(1))) % fit.len().max(1);
        let pair = [fit.get(first), fit.get(second)];
        pair.into_iter().flatten().min_by_key(|worker| worker.load()).map(|worker| Arc::clone(worker))
    }

    async fn ask(&self, texts: Vec<String>, asking: Asking) -> Result<Vec<Scores>> {
        let body = serde_json::to_vec(&json!({ "input": texts }))
            .map(Bytes::from)
            .map_err(|error| Error::invalid("the texts cannot be written as JSON").with_source(error))?;
        // A worker that lets it pass is noticed before the caller gives up.
        let deadline = self.clock.monotonic() + asking.within.mul_f32(0.95);
        let mut tried: Vec<Arc<Worker>> = Vec::new();
        let mut last = None;
        while tried.len() < TRIES {
            let Some(worker) = self.pick(&tried) else { break };
            let left = deadline.saturating_sub(self.clock.monotonic());
            if left.is_zero() {
                break;
            }
            let began = self.clock.monotonic();
            let answered = self.ask_one(&worker, body.clone(), asking.urgent, left).await;
            let now = self.clock.monotonic();
            match answered {
                Answered::Scores(scores) if scores.len() == texts.len() => {
                    worker.answered(asking.urgent.then(|| now.saturating_sub(began)));
                    worker.compare(&self.workers, now);
                    return Ok(scores);
                }
                Answered::Scores(scores) => {
                    worker.failed(now);
                    let message = format!("a worker scored {} texts of {}", scores.len(), texts.len());
                    last = Some(Error::corrupt(message));
                }
                Answered::Refused(error) => {
                    worker.answered(None);
                    return Err(error);
                }
                Answered::Busy { after, error } => {
                    worker.rest(now, after);
                    last = Some(error);
                }
                Answered::Failed(error) => {
                    worker.failed(now);
                    last = Some(error);
                }
                Answered::Gone(error) => {
                    worker.gone(now);
                    last = Some(error);
                }
            }
            tried.push(worker);
        }
        Err(last.unwrap_or_else(|| Error::new(ErrorKind::Unavailable, "no moderation worker answers at the moment")))
    }

    async fn ask_one(&self, worker: &Worker, body: Bytes, urgent: bool, within: Duration) -> Answered {
        let _in_flight = worker.begin();
        let millis = u64::try_from(within.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(worker.url())
            .header(CONTENT_TYPE, "application/json")
            .header("x-keevo-priority", if urgent { "realtime" } else { "bulk" })
            .header("x-keevo-timeout-ms", millis);
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, format!("Bearer {key}"));
        }
        let request = match request.body(Full::new(body)) {
            Ok(request) => request,
            Err(error) => {
                let what = "the request to a moderation worker cannot be made";
                return Answered::Failed(Error::new(ErrorKind::Config, what).with_source(error));
            }
        };
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| {
                let unreachable = Error::new(ErrorKind::Unavailable, "a moderation worker cannot be reached");
                if error.is_connect() {
                    Answered::Gone(unreachable.with_source(error))
                } else {
                    Answered::Failed(unreachable.with_source(error))
                }
            })?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| {
                let broken = Error::new(ErrorKind::Unavailable, "a moderation worker's answer broke off");
                Answered::Failed(broken.with_source(std::io::Error::other(error)))
            })?;
            Ok(read(head.status, &head.headers, &body.to_bytes()))
        };
        match tokio::time::timeout(within, exchange).await {
            Ok(Ok(answered) | Err(answered)) => answered,
            Err(_elapsed) => {
                let late = Error::new(ErrorKind::DeadlineExceeded, "a moderation worker did not answer in time");
                Answered::Failed(late)
            }
        }
    }
}

impl Judge for Pool {
    fn judge(&self, texts: Vec<String>, asking: Asking) -> BoxFuture<'_, Result<Vec<Scores>>> {
        self.ask(texts, asking).boxed()
    }
}

#[cfg(test)]
mod tests;
