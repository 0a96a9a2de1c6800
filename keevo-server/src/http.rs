//! The HTTP side of a node: health for load balancers, metrics for Prometheus, the console under `/console`, chat under
//! `/chat/v1`, and the feeds REST API for the rest.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state, map_request};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use keevo_chat_gateway::ChatGateway;
use keevo_core::ErrorKind;
use keevo_gateway::Gateway;
use keevo_tls::{TlsConnection, TlsIncoming};

use crate::calls::Calls;
use crate::console::Console;
use crate::metrics::Metrics;

/// The routes: `/health` (the process runs), `/ready` (every replica here knows a leader), `/metrics`, those of the console
/// and of chat; any other path goes to the gateway. What chat and the gateway answer is counted, by verb.
pub(crate) fn routes(metrics: Arc<Metrics>, console: &Console, gateway: &Gateway, chat: &ChatGateway) -> Router {
    let counting = |name| from_fn_with_state((Arc::clone(&metrics.calls), name), counted);
    let chat = chat.router().layer(counting("http.chat"));
    let gateway = gateway.router().layer(counting("http.feeds"));
    Router::new()
        .route("/health", get(|| async { "ok\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(render))
        .with_state(metrics)
        .merge(console.router())
        .merge(chat)
        .fallback_service(gateway)
}

/// Counts a call of an HTTP API, as `API/VERB`.
async fn counted(State((calls, api)): State<(Arc<Calls>, &'static str)>, request: Request, next: Next) -> Response {
    let call = calls.begin(calls.caller(request.headers()));
    let verb = match request.method().as_str() {
        verb @ ("GET" | "HEAD" | "OPTIONS" | "POST" | "PUT" | "PATCH" | "DELETE") => verb.to_owned(),
        // Any word could stand here.
        _ => "other".to_owned(),
    };
    let response = call.run(next.run(request)).await;
    call.end(&format!("{api}/{verb}"), kind_of(response.status()));
    response
}

/// The kind of error that a status stands for, among those that callers can tell apart by it.
fn kind_of(status: StatusCode) -> Option<ErrorKind> {
    Some(match status.as_u16() {
        ..400 => return None,
        401 => ErrorKind::Unauthenticated,
        403 => ErrorKind::PermissionDenied,
        404 => ErrorKind::NotFound,
        409 => ErrorKind::Conflict,
        413 => ErrorKind::BatchTooLarge,
        429 => ErrorKind::ResourceExhausted,
        503 => ErrorKind::Unavailable,
        504 => ErrorKind::DeadlineExceeded,
        400..500 => ErrorKind::Invalid,
        _ => ErrorKind::Io,
    })
}

/// The routes, told that clients reach them over TLS, so that links lead there too. A balancer's word comes first.
pub(crate) fn over_tls(routes: Router) -> Router {
    const SCHEME: HeaderName = HeaderName::from_static("x-forwarded-proto");
    routes.layer(map_request(async |mut request: Request| {
        request.headers_mut().entry(SCHEME).or_insert(HeaderValue::from_static("https"));
        request
    }))
}

/// What axum accepts from over TLS.
#[derive(Debug)]
pub(crate) struct Https(pub(crate) TlsIncoming);

impl Listener for Https {
    type Io = TlsConnection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TlsConnection, SocketAddr) {
        let connection = self.0.next().await;
        let address = connection.caller().address;
        (connection, address)
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.0.local_addr())
    }
}

async fn ready(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    match metrics.not_ready() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn render(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
}
