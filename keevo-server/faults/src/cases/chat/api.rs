//! Chat's HTTP API as an app's users call it: through any node, repeated until it is answered.
//!
//! Invariant: a call is repeated only where the protocol says that it may be; every other refusal is a complaint.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jsonwebtoken::{EncodingKey, Header, encode};
use keevo_core::{Error, ErrorKind, Random, Result, SeededRandom};
use serde_json::{Value, json};

pub(super) const KEY: &str = "faults";
pub(super) const SECRET: &str = "a secret of the faults";
/// How long one attempt may take: a node that is dead does not answer.
const ATTEMPT_WITHIN: Duration = Duration::from_secs(5);
/// How long a call may take with all its attempts.
const CALL_WITHIN: Duration = Duration::from_secs(90);
/// The longest answer.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// The pause before another attempt, and how much may be added to it, in milliseconds.
const PAUSE_MS: u64 = 20;
const PAUSE_MORE_MS: u64 = 180;

/// The API of all nodes. Cheap to clone; clones share everything.
#[derive(Clone)]
pub(super) struct Api {
    inner: Arc<Inner>,
}

struct Inner {
    http: Client<HttpConnector, Full<Bytes>>,
    nodes: Vec<SocketAddr>,
    random: SeededRandom,
    /// Calls that were answered as they should be.
    answered: AtomicU64,
    /// Attempts whose outcome is not known.
    unknown: AtomicU64,
    complaints: Mutex<Vec<String>>,
}

/// What became of an attempt.
#[derive(Debug)]
enum Attempt {
    Answered(Value),
    /// It is to be repeated, after so long.
    Again(Duration),
    /// The same, and it may have been carried out.
    InDoubt,
    Refused(String),
}

impl Api {
    pub(super) fn new(nodes: Vec<SocketAddr>, seed: u64) -> Self {
        let inner = Inner {
            http: Client::builder(TokioExecutor::new()).build(HttpConnector::new()),
            nodes,
            random: SeededRandom::new(seed),
            answered: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            complaints: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The HTTP address of one of the nodes, whether it runs or not.
    pub(super) fn any(&self) -> Result<SocketAddr> {
        let nodes = &self.inner.nodes;
        let at = self.below(u64::try_from(nodes.len()).unwrap_or(u64::MAX));
        let node = usize::try_from(at).ok().and_then(|at| nodes.get(at)).copied();
        node.ok_or_else(|| Error::invalid("there is no node"))
    }

    /// The HTTP addresses of all nodes.
    pub(super) fn nodes(&self) -> &[SocketAddr] {
        &self.inner.nodes
    }

    /// A number below `bound`.
    pub(super) fn below(&self, bound: u64) -> u64 {
        self.inner.random.next_u64() % bound.max(1)
    }

    pub(super) fn complain(&self, text: String) {
        self.inner.complaints.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    /// What was promised and not kept so far; it is told once.
    pub(super) fn complaints(&self) -> Vec<String> {
        std::mem::take(&mut self.inner.complaints.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Calls that were answered, and attempts whose outcome is not known.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.inner.answered.load(Ordering::Relaxed), self.inner.unknown.load(Ordering::Relaxed))
    }

    /// A call of `user`, repeated at other nodes until it is answered; `path` is what comes after `/chat/v1/`. Only for
    /// calls that may be repeated. `Unavailable` when that takes too long, `Invalid` for a refusal.
    pub(super) async fn call(&self, method: &Method, path: &str, user: &str, body: &Value) -> Result<Value> {
        let calling = async {
            loop {
                match self.attempt(self.any()?, method, path, user, body).await? {
                    Attempt::Answered(answer) => {
                        self.inner.answered.fetch_add(1, Ordering::Relaxed);
                        return Ok(answer);
                    }
                    Attempt::Again(wait) => tokio::time::sleep(wait).await,
                    Attempt::InDoubt => {
                        self.inner.unknown.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(self.pause()).await;
                    }
                    Attempt::Refused(why) => return Err(Error::invalid(format!("{method} {path} of {user}: {why}"))),
                }
            }
        };
        tokio::time::timeout(CALL_WITHIN, calling).await.unwrap_or_else(|elapsed| {
            let message = format!("{method} {path} of {user} is not answered after {} s", CALL_WITHIN.as_secs());
            Err(Error::new(ErrorKind::Unavailable, message).with_source(elapsed))
        })
    }

    /// A GET at one node, repeated there.
    pub(super) async fn get_at(&self, node: SocketAddr, path: &str, user: &str) -> Result<Value> {
        let asking = async {
            loop {
                match self.attempt(node, &Method::GET, path, user, &Value::Null).await? {
                    Attempt::Answered(answer) => return Ok(answer),
                    Attempt::Again(_) | Attempt::InDoubt => tokio::time::sleep(self.pause()).await,
                    Attempt::Refused(why) => return Err(Error::invalid(format!("GET {path} of {user}: {why}"))),
                }
            }
        };
        tokio::time::timeout(CALL_WITHIN, asking).await.unwrap_or_else(|elapsed| {
            let message = format!("{node} does not answer GET {path} after {} s", CALL_WITHIN.as_secs());
            Err(Error::new(ErrorKind::Unavailable, message).with_source(elapsed))
        })
    }

    /// The pause before another attempt.
    pub(super) fn pause(&self) -> Duration {
        Duration::from_millis(PAUSE_MS + self.below(PAUSE_MORE_MS))
    }

    async fn attempt(
        &self,
        node: SocketAddr,
        method: &Method,
        path: &str,
        user: &str,
        body: &Value,
    ) -> Result<Attempt> {
        let mark = if path.contains('?') { '&' } else { '?' };
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{node}/chat/v1/{path}{mark}api_key={KEY}"))
            .header(header::AUTHORIZATION, token(user)?)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(text)))
            .map_err(|error| Error::invalid(format!("{path} makes no request")).with_source(error))?;
        let answering = async {
            let answer = self.inner.http.request(request).await.ok()?;
            let status = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.ok()?.to_bytes();
            Some((status, serde_json::from_slice::<Value>(&body).unwrap_or_default()))
        };
        let answered = tokio::time::timeout(ATTEMPT_WITHIN, answering).await;
        Ok(answered.ok().flatten().map_or(Attempt::InDoubt, |(status, body)| judge(status, body)))
    }
}

/// What an answer means, as docs/CHAT-API.md has it.
fn judge(status: u16, body: Value) -> Attempt {
    match status {
        200..=299 => Attempt::Answered(body),
        429 => {
            let wait_ms = body.get("retry_after_ms").and_then(Value::as_u64).unwrap_or(1_000);
            Attempt::Again(Duration::from_millis(wait_ms.clamp(PAUSE_MS, 10_000)))
        }
        503 => Attempt::InDoubt,
        _ => Attempt::Refused(format!("{status} {body}")),
    }
}

/// A user's token.
pub(super) fn token(user: &str) -> Result<String> {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    encode(&Header::default(), &json!({ "user_id": user }), &key)
        .map_err(|error| Error::new(ErrorKind::Invalid, "no token can be made").with_source(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_repeated_is_repeated() {
        assert!(matches!(judge(201, Value::Null), Attempt::Answered(Value::Null)));
        let wait = json!({ "retry_after_ms": 250 });
        assert!(matches!(judge(429, wait), Attempt::Again(wait) if wait == Duration::from_millis(250)));
        assert!(matches!(judge(503, Value::Null), Attempt::InDoubt));
        for refused in [400, 401, 403, 404, 409, 500] {
            assert!(matches!(judge(refused, Value::Null), Attempt::Refused(_)), "{refused}");
        }
    }
}
