//! The HTTP side: three shapes of one question, health, information and metrics.
//!
//! ```text
//! POST /v1/moderations                 OpenAI       POST /predict   TEI       GET /health    200 once ready
//! POST /v1alpha1/comments:analyze      Perspective  GET  /info      TEI       GET /metrics   Prometheus
//! ```
//!
//! Invariant: whatever is sent, the answer is JSON in the shape of the interface that was asked, and an error says
//! what to do. `/health` and `/metrics` need no key.

mod openai;
mod perspective;
mod tei;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use keevo_core::{Clock, Error, ErrorKind, Random, Result};
use serde_json::{Value, json};

use crate::serve::auth::ApiKeys;
use crate::serve::metrics::Metrics;
use crate::serve::moderator::Moderator;
use crate::serve::options::ServeOptions;
use crate::serve::queue::Priority;

/// The header that chooses the priority: `realtime` (the default) or `bulk`.
const PRIORITY: &str = "x-keevo-priority";
/// The header that says how long the answer is worth waiting for, in milliseconds.
const TIMEOUT: &str = "x-keevo-timeout-ms";

/// What all handlers share.
#[derive(Debug)]
pub(crate) struct Front {
    /// Empty while the model loads and warms up.
    pub(crate) moderator: OnceLock<Arc<Moderator>>,
    /// Whether the sidecar is on its way to its end.
    pub(crate) stopping: AtomicBool,
    pub(crate) keys: ApiKeys,
    pub(crate) options: Arc<ServeOptions>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
}

impl Front {
    pub(crate) fn is_ready(&self) -> bool {
        self.moderator.get().is_some() && !self.stopping.load(Ordering::SeqCst)
    }

    /// The moderator, or `Unavailable` before it is ready.
    pub(crate) fn moderator(&self) -> Result<&Arc<Moderator>> {
        let starting = || Error::new(ErrorKind::Unavailable, "the model is being loaded; ask again in a moment");
        self.moderator.get().ok_or_else(starting)
    }

    pub(crate) fn retry_after_s(&self) -> u64 {
        self.moderator.get().map_or(1, |moderator| moderator.retry_after_s())
    }
}

/// An interface: its place among the labels of the metrics, and how it tells errors.
#[derive(Debug, Clone, Copy)]
struct Api {
    place: usize,
    error: fn(&Error) -> (StatusCode, Value),
}

/// The routes.
pub(crate) fn routes(front: Arc<Front>) -> Router {
    Router::new()
        .route("/v1/moderations", post(openai::moderations).fallback(openai::no_method))
        .route("/predict", post(tei::predict).fallback(tei::no_method))
        .route("/v1alpha1/comments:analyze", post(perspective::analyze).fallback(perspective::no_method))
        .route("/info", get(info))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .fallback(nowhere)
        .with_state(front)
}

/// Runs one question through `ask`, from its body to its answer, and counts it.
async fn answer<F>(front: &Arc<Front>, api: Api, request: Request, ask: impl FnOnce(Asked) -> F) -> Response
where
    F: Future<Output = Result<Value>>,
{
    let began = front.clock.monotonic();
    let result = match read(front, request).await {
        Ok(asked) => ask(asked).await,
        Err(error) => Err(error),
    };
    let took = front.clock.monotonic().saturating_sub(began);
    front.metrics.answered(api.place, result.as_ref().err().map(Error::kind), took);
    match result {
        Ok(value) => Json(value).into_response(),
        Err(error) => refusal(front, api, &error),
    }
}

fn refusal(front: &Front, api: Api, error: &Error) -> Response {
    let (status, body) = (api.error)(error);
    let mut response = (status, Json(body)).into_response();
    if matches!(error.kind(), ErrorKind::ResourceExhausted | ErrorKind::Unavailable) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(front.retry_after_s()));
    }
    if error.kind() == ErrorKind::Unauthenticated {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// A question: its JSON body and how urgent it is.
struct Asked {
    body: Value,
    priority: Priority,
    timeout: Option<Duration>,
}

/// Lets the request in and reads its body, which must be JSON and come within the timeout.
async fn read(front: &Front, request: Request) -> Result<Asked> {
    let (parts, body) = request.into_parts();
    front.keys.check(&parts.headers, &parts.uri)?;
    let priority = priority(&parts.headers)?;
    let timeout = timeout(&parts.headers)?;
    let body = tokio::time::timeout(front.options.timeout, whole(body, front.options.body_bytes_max)).await;
    let body = body.map_err(|_elapsed| Error::new(ErrorKind::DeadlineExceeded, "the body did not come in time"))??;
    let body = serde_json::from_slice(&body).map_err(|error| {
        Error::invalid(format!("the body must be JSON in UTF-8, but is not: {error}")).with_source(error)
    })?;
    Ok(Asked { body, priority, timeout })
}

async fn whole(body: Body, bytes_max: usize) -> Result<Bytes> {
    to_bytes(body, bytes_max).await.map_err(|error| {
        let message = format!("the body must come whole, and have at most {bytes_max} bytes");
        Error::new(ErrorKind::BatchTooLarge, message).with_source(error)
    })
}

fn priority(headers: &HeaderMap) -> Result<Priority> {
    match headers.get(PRIORITY).map(HeaderValue::as_bytes) {
        None | Some(b"realtime") => Ok(Priority::Realtime),
        Some(b"bulk") => Ok(Priority::Bulk),
        Some(_) => Err(Error::invalid(format!("{PRIORITY} must be `realtime` or `bulk`"))),
    }
}

fn timeout(headers: &HeaderMap) -> Result<Option<Duration>> {
    let Some(value) = headers.get(TIMEOUT) else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(|text| text.parse::<u64>().ok()).filter(|millis| *millis > 0);
    let millis = parsed.ok_or_else(|| Error::invalid(format!("{TIMEOUT} must be a number of milliseconds from 1")))?;
    Ok(Some(Duration::from_millis(millis)))
}

async fn health(State(front): State<Arc<Front>>) -> Response {
    if front.is_ready() {
        return (StatusCode::OK, Json(json!({"status": "ready"}))).into_response();
    }
    let status = if front.stopping.load(Ordering::SeqCst) { "stopping" } else { "loading" };
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": status}))).into_response()
}

async fn metrics(State(front): State<Arc<Front>>) -> Response {
    let text = front.metrics.render(front.is_ready());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn info(State(front): State<Arc<Front>>, request: Request) -> Response {
    let shown = front.keys.check(request.headers(), request.uri()).and_then(|()| tei::info(&front));
    match shown {
        Ok(value) => Json(value).into_response(),
        Err(error) => refusal(&front, tei::API, &error),
    }
}

async fn nowhere() -> Response {
    let message = "there is nothing here: ask /v1/moderations, /predict, /v1alpha1/comments:analyze, /info, /health \
                   or /metrics";
    let error = json!({"message": message, "type": "invalid_request_error", "param": null, "code": "unknown_url"});
    (StatusCode::NOT_FOUND, Json(json!({ "error": error }))).into_response()
}

/// The answer to a method that an interface does not have.
fn no_method(api: Api) -> Response {
    let error = Error::invalid("this address takes POST with a JSON body only");
    let (_, body) = (api.error)(&error);
    let allow = [(header::ALLOW, "POST")];
    (StatusCode::METHOD_NOT_ALLOWED, allow, Json(body)).into_response()
}

/// The text under `name` of an object; `Invalid` where it is something else.
fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str> {
    value.as_str().ok_or_else(|| Error::invalid(format!("`{name}` must be a string")))
}

/// The fields of a JSON object.
fn fields(body: &Value) -> Result<&serde_json::Map<String, Value>> {
    body.as_object().ok_or_else(|| Error::invalid("the body must be a JSON object"))
}

/// A switch that is off unless said otherwise.
fn switch(body: &serde_json::Map<String, Value>, name: &str) -> Result<bool> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(on)) => Ok(*on),
        Some(_) => Err(Error::invalid(format!("`{name}` must be true or false"))),
    }
}

/// A probability as JSON shows it: the shortest digits that name the 32-bit number.
fn score(value: f32) -> Value {
    // An f32 printed and read again as f64 keeps its short form: 0.1 stays 0.1.
    let short: f64 = value.to_string().parse().unwrap_or_else(|_never| f64::from(value));
    Value::from(short)
}
