//! From an HTTP request to an endpoint and back.
//!
//! Order: path → key → token → scopes → rate → body → endpoint. A body is read only for a caller who was let in, and
//! never beyond its limit. Invariant: every answer under the API's paths is a JSON object with a duration, or what an
//! endpoint built itself.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{any, get};
use bytes::Bytes;
use keevo_core::call::CallDoor;
use keevo_feeds::FeedId;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{Any, CorsLayer};

use crate::apps::App;
use crate::auth::{self, Action, Principal};
use crate::call::Call;
use crate::calls::{Asked, Replayed, recorded};
use crate::endpoints;
use crate::error::{ApiError, ApiResult};
use crate::gateway::Gateway;
use crate::limits::Quota;
use crate::query::Query;
use crate::reply::{self, Reply};
use crate::route::{self, Op};
use crate::{files, openapi, realtime};

/// How long a browser may remember what CORS allows.
const CORS_AGE_S: u64 = 3_600;

/// The routes of a gateway.
pub(crate) fn router(gateway: Gateway) -> Router {
    Router::new()
        .route("/openapi.json", get(openapi::serve))
        .route("/faye", any(realtime::bayeux::serve))
        .route("/faye/", any(realtime::bayeux::serve))
        .route("/realtime", get(realtime::websocket::serve))
        .route("/realtime/", get(realtime::websocket::serve))
        .route("/attachments/{*path}", get(files::serve))
        .fallback(api)
        .layer(CatchPanicLayer::custom(|_panic: Box<dyn std::any::Any + Send>| {
            tracing::error!("a request's handler panicked");
            reply::response(Err(ApiError::internal()), std::time::Duration::ZERO)
        }))
        .layer(cors())
        .with_state(gateway)
}

/// Tokens travel in a header and never in cookies, so any page may call.
fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            HeaderName::from_static("stream-auth-type"),
            HeaderName::from_static("x-stream-client"),
            HeaderName::from_static("x-requested-with"),
        ])
        .expose_headers([
            header::RETRY_AFTER,
            HeaderName::from_static("x-ratelimit-limit"),
            HeaderName::from_static("x-ratelimit-remaining"),
            HeaderName::from_static("x-ratelimit-reset"),
        ])
        .max_age(std::time::Duration::from_secs(CORS_AGE_S))
}

async fn api(State(gateway): State<Gateway>, request: Request) -> Response<Body> {
    let clock = Arc::clone(&gateway.inner.options.clock);
    let began = clock.monotonic();
    let mut quota = None;
    let answer = Box::pin(answer(&gateway, request, &mut quota)).await;
    let mut response = reply::response(answer, clock.monotonic().saturating_sub(began));
    if let Some(quota) = quota {
        quota.write(response.headers_mut());
    }
    response
}

async fn answer(gateway: &Gateway, request: Request, quota: &mut Option<Quota>) -> ApiResult<Reply> {
    let found = route::find(request.method(), request.uri().path())?;
    let query = Query::parse(request.uri().query().unwrap_or_default())?;
    let replayed = request.extensions().get::<Replayed>().cloned();
    let is_replay = replayed.is_some();
    let (key, app, principal) = match replayed {
        Some(replayed) => again(gateway, replayed).await?,
        None => caller(gateway, request.headers(), &query).await?,
    };
    let now_ms = gateway.inner.options.clock.now_ms();
    if let Principal::Server(scopes) = &principal {
        let feed = if found.has_feed() { Some(FeedId::new(found.part("slug"), found.part("id"))?) } else { None };
        if !scopes.cover(found.row.resource, found.action(), feed.as_ref()) {
            let what = format!("to {} {}", found.action().name(), found.row.resource);
            return Err(ApiError::not_allowed(format!("the token does not cover a request {what} here")));
        }
    }
    if !is_replay {
        let (taken, within) = gateway.inner.limiter.take(&app, found.row.limit, now_ms);
        *quota = Some(taken);
        within?;
    }
    let feeds = gateway.inner.registry.of(&app).await?;
    let (origin, uri) = (origin(&request), request.uri().clone());
    let (body, upload) = if matches!(found.row.op, Op::FileUpload | Op::ImageUpload) {
        (Bytes::new(), Some(request))
    } else {
        (body_of(request, gateway.inner.options.body_bytes_max).await?, None)
    };
    let inner = Arc::clone(&gateway.inner);
    let call = Call { gateway: inner, app, key, feeds, principal, found, query, body, origin };
    match upload {
        Some(request) => endpoints::files::upload(&call, request).await,
        None if call.found.action() == Action::Read => endpoints::dispatch(&call).await,
        None => {
            let asked = Asked {
                door: CallDoor::FeedsHttp,
                app: call.app.id,
                principal: &call.principal,
                method: &call.found.row.method,
                uri: &uri,
                body: &call.body,
            };
            Box::pin(recorded(gateway.inner.options.calls.as_ref(), asked, endpoints::dispatch(&call))).await
        }
    }
}

/// The key that a request comes with, its app, and who calls.
async fn caller(gateway: &Gateway, headers: &HeaderMap, query: &Query) -> ApiResult<(String, Arc<App>, Principal)> {
    let key = query.get("api_key").ok_or_else(ApiError::api_key)?.to_owned();
    let app = gateway.inner.apps.by_key(&key).await?.ok_or_else(ApiError::api_key)?;
    let secret = app.secret(&key).ok_or_else(ApiError::api_key)?;
    if app.suspended {
        return Err(ApiError::suspended());
    }
    let principal = auth::principal(headers, query, secret, gateway.inner.options.clock.now_ms())?;
    Ok((key, app, principal))
}

/// The same of a request that repeats a call; it came with no key.
async fn again(gateway: &Gateway, replayed: Replayed) -> ApiResult<(String, Arc<App>, Principal)> {
    let unknown = || ApiError::not_found(format!("there is no app {}; make it before its calls", replayed.app));
    let app = gateway.inner.apps.by_id(replayed.app).await?.ok_or_else(unknown)?;
    Ok((String::new(), app, replayed.principal))
}

async fn body_of(request: Request, bytes_max: usize) -> ApiResult<Bytes> {
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if declared.is_some_and(|bytes: usize| bytes > bytes_max) {
        return Err(ApiError::too_large(bytes_max));
    }
    to_bytes(request.into_body(), bytes_max).await.map_err(|error| {
        let limit = std::error::Error::source(&error)
            .is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>);
        if limit { ApiError::too_large(bytes_max) } else { ApiError::input("the body was cut off") }
    })
}

/// `scheme://host` as the client, or the balancer before us, says it reached us.
fn origin(request: &Request) -> String {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let good = |text: &&str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
    };
    let host = header("x-forwarded-host").or_else(|| header("host")).filter(good).unwrap_or("localhost");
    let scheme = header("x-forwarded-proto").filter(|scheme| matches!(*scheme, "http" | "https")).unwrap_or("http");
    format!("{scheme}://{host}")
}

/// A short text as a response, for paths that are no part of the API.
pub(crate) fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = (status, text).into_response();
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
