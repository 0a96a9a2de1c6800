//! The HTTP side of a node: health for load balancers, metrics for Prometheus, chat under `/chat/v1`, and the feeds REST API
//! for the rest.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::map_request;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::serve::Listener;
use keevo_chat_gateway::ChatGateway;
use keevo_gateway::Gateway;
use keevo_tls::{TlsConnection, TlsIncoming};

use crate::metrics::Metrics;

/// The routes: `/health` (the process runs), `/ready` (every replica here knows a leader), `/metrics`, those of chat; any
/// other path goes to the gateway.
pub(crate) fn routes(metrics: Arc<Metrics>, gateway: &Gateway, chat: &ChatGateway) -> Router {
    Router::new()
        .route("/health", get(|| async { "ok\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(render))
        .with_state(metrics)
        .merge(chat.router())
        .fallback_service(gateway.router())
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
