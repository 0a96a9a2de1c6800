//! The HTTP side of a node: health for load balancers, metrics for Prometheus, and the feeds REST API for the rest.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use keevo_gateway::Gateway;

use crate::metrics::Metrics;

/// The routes: `/health` (the process runs), `/ready` (every replica here knows a leader), `/metrics`; any other path
/// goes to the gateway.
pub(crate) fn routes(metrics: Arc<Metrics>, gateway: &Gateway) -> Router {
    Router::new()
        .route("/health", get(|| async { "ok\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(render))
        .with_state(metrics)
        .fallback_service(gateway.router())
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
