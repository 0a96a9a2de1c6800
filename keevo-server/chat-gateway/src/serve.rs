//! From an HTTP request to a call and back.
//!
//! Order: path → key → token → who may call → rate → body → call. A body is read only for a caller who was let in, and
//! never beyond its limit. Invariant: every answer is a JSON object with a duration.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header};
use axum::response::IntoResponse;
use axum::routing::{any, get};
use bytes::Bytes;
use keevo_core::call::CallDoor;
use keevo_gateway::Gateway;
use keevo_gateway::apps::App;
use keevo_gateway::shared::{Action, ApiError, Asked, Principal, Query, Quota, Replayed, duration, recorded};
use serde_json::{Map, Value, json};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{Any, CorsLayer};

use crate::call::{Call, Caller};
use crate::error::{Answered, Refusal};
use crate::field;
use crate::gateway::{ChatGateway, Inner};
use crate::route::{self, Does, Found, Row, Who};
use crate::{openapi, socket};

/// Where the API lies.
pub(crate) const PREFIX: &str = "/chat/v1";
/// The resource that a server's token names.
const RESOURCE: &str = "chat";
/// How long a browser may remember what CORS allows.
const CORS_AGE: Duration = Duration::from_hours(1);

/// The routes of the chat API.
pub(crate) fn router(gateway: ChatGateway) -> Router {
    Router::new()
        .route("/chat/v1/openapi.json", get(openapi::serve))
        .route("/chat/v1/connect", get(socket::serve))
        .route("/chat/v1/connect/", get(socket::serve))
        .route("/chat/v1", any(api))
        .route("/chat/v1/", any(api))
        .route("/chat/v1/{*path}", any(api))
        .layer(CatchPanicLayer::custom(|_panic: Box<dyn std::any::Any + Send>| {
            tracing::error!("a handler of chat panicked");
            response(Err(ApiError::internal().into()), Duration::ZERO)
        }))
        .layer(cors())
        .with_state(gateway)
}

/// Tokens travel in a header and never in cookies, so any page may call.
fn cors() -> CorsLayer {
    let exposed = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"].map(HeaderName::from_static);
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, HeaderName::from_static("x-requested-with")])
        .expose_headers(exposed.into_iter().chain([header::RETRY_AFTER]).collect::<Vec<_>>())
        .max_age(CORS_AGE)
}

async fn api(State(gateway): State<ChatGateway>, request: Request) -> Response<Body> {
    let clock = Arc::clone(&gateway.inner.shared.options().clock);
    let began = clock.monotonic();
    let mut quota = None;
    let answer = Box::pin(answer(&gateway.inner, request, &mut quota)).await;
    let mut response = match answer {
        Ok(Answer::Value(value)) => response(Ok(value), clock.monotonic().saturating_sub(began)),
        Ok(Answer::Passed(response)) => return *response,
        Err(refusal) => response(Err(refusal), clock.monotonic().saturating_sub(began)),
    };
    if let Some(quota) = quota {
        quota.write(response.headers_mut());
    }
    response
}

/// What a request comes to.
enum Answer {
    Value(Value),
    /// A response of keevo-gateway.
    Passed(Box<Response<Body>>),
}

async fn answer(inner: &Arc<Inner>, request: Request, quota: &mut Option<Quota>) -> Answered<Answer> {
    let path = request.uri().path().strip_prefix(PREFIX).unwrap_or_default();
    let found = route::find(request.method(), path)?;
    let query = Query::parse(request.uri().query().unwrap_or_default())?;
    let replayed = request.extensions().get::<Replayed>().cloned();
    let is_replay = replayed.is_some();
    let (app, principal) = if let Some(replayed) = replayed {
        again(inner, replayed).await?
    } else {
        let key = query.get("api_key").ok_or_else(ApiError::api_key)?.to_owned();
        let app = inner.shared.app_of_key(&key).await?;
        let bearer = inner.shared.bearer(&app, &key, Gateway::token_of(request.headers())?)?;
        (app, bearer.principal)
    };
    if let Does::Files(path) = found.row.does {
        let mut response = inner.shared.answer(onwards(request, path)?).await;
        // What pages may call is said once, by this API.
        for name in ["access-control-allow-origin", "access-control-expose-headers", "vary"] {
            response.headers_mut().remove(name);
        }
        return Ok(Answer::Passed(Box::new(response)));
    }
    let caller = caller(&principal, &query, found.row)?;
    if !is_replay {
        let (taken, within) = inner.shared.take(&app, found.row.limit);
        *quota = Some(taken);
        within?;
        if let Caller::User(user) = &caller {
            inner.users.take(app.id, user, inner.shared.now_ms())?;
        }
    }
    check_query(&query, &found)?;
    let uri = request.uri().clone();
    let raw = body_of(request, inner.options.body_bytes_max).await?;
    let body = field::check(&raw, found.row.body)?;
    let chats = inner.chats.of(app.id);
    chats.settle(&inner.shared, &app);
    let Does::Call(handler) = found.row.does else { return Err(ApiError::internal().into()) };
    let call = Call { gateway: Arc::clone(inner), app, chats, caller, found, query, body };
    let answer = async {
        call.must_live().await?;
        if call.found.row.who == Who::Admin && !call.is_admin().await? {
            return Err(Refusal::denied("not-granted", "only servers and admins of the app may do this"));
        }
        Ok(Answer::Value(handler(&call).await?))
    };
    if call.found.row.action == Action::Read {
        return answer.await;
    }
    let (door, app, method) = (CallDoor::ChatHttp, call.app.id, &call.found.row.method);
    let asked = Asked { door, app, principal: &principal, method, uri: &uri, body: &raw };
    recorded(inner.shared.options().calls.as_ref(), asked, answer).await
}

/// The app of a request that repeats a call, and who asked.
async fn again(inner: &Inner, replayed: Replayed) -> Answered<(Arc<App>, Principal)> {
    let app = inner.shared.app_of_id(replayed.app).await?;
    let unknown = || ApiError::not_found(format!("there is no app {}; make it before its calls", replayed.app));
    Ok((app.ok_or_else(unknown)?, replayed.principal))
}

/// Who calls, if it may call this at all.
fn caller(principal: &Principal, query: &Query, row: &Row) -> Answered<Caller> {
    let named = query.get("user_id");
    match principal {
        Principal::User(user) => {
            if row.who == Who::Server {
                return Err(Refusal::denied("server-only", "a user's token does not allow this; use a server's"));
            }
            if named.is_some_and(|named| named != user) {
                let detail = format!("the token of user {user} does not allow to act as another");
                return Err(Refusal::denied("another-user", detail));
            }
            Ok(Caller::User(user.clone()))
        }
        Principal::Server(scopes) => {
            if !scopes.cover(RESOURCE, row.action, None) {
                let detail = format!("the token does not cover a request to {} {RESOURCE}", row.action.name());
                return Err(Refusal::denied("scope", detail));
            }
            if row.who == Who::User && named.is_none() {
                return Err(ApiError::missing_user().into());
            }
            Ok(Caller::Server(named.map(str::to_owned)))
        }
    }
}

/// Refuses parameters that the call does not know.
fn check_query(query: &Query, found: &Found) -> Answered<()> {
    let known =
        |name: &str| matches!(name, "api_key" | "user_id") || found.row.params.iter().any(|one| one.name == name);
    match query.names().find(|name| !known(name)) {
        Some(unknown) => {
            let unknown: String = unknown.chars().take(100).collect();
            Err(Refusal::field(&unknown, "is no parameter of this call"))
        }
        None => Ok(()),
    }
}

/// The request as keevo-gateway takes it.
fn onwards(mut request: Request, path: &'static str) -> Answered<Request> {
    let query = request.uri().query().unwrap_or_default();
    let uri = format!("/api/v1.0/{path}/?{query}").parse::<Uri>();
    *request.uri_mut() = uri.map_err(|_malformed| Refusal::input("the query is malformed"))?;
    Ok(request)
}

async fn body_of(request: Request, bytes_max: usize) -> Answered<Bytes> {
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if declared.is_some_and(|bytes: usize| bytes > bytes_max) {
        return Err(ApiError::too_large(bytes_max).into());
    }
    to_bytes(request.into_body(), bytes_max).await.map_err(|error| {
        let limit = std::error::Error::source(&error)
            .is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>);
        if limit { ApiError::too_large(bytes_max).into() } else { Refusal::input("the body was cut off") }
    })
}

/// The response of a call that took `took`.
pub(crate) fn response(answer: Answered<Value>, took: Duration) -> Response<Body> {
    let (status, body, retry_after_s) = match answer {
        Ok(Value::Object(body)) => (StatusCode::OK, body, None),
        Ok(other) => (StatusCode::OK, Map::from_iter([("result".to_owned(), other)]), None),
        Err(refusal) => (refusal.error.status, refusal.body(), refusal.retry_after_s()),
    };
    let mut body = body;
    body.insert("duration".to_owned(), json!(duration(took)));
    let mut response = (status, Value::Object(body).to_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = retry_after_s {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
