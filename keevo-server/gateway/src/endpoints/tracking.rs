//! Analytics and tracked redirects, and what is not offered.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::Value;

use crate::call::Call;
use crate::error::{ApiError, ApiResult};
use crate::reply::Reply;

/// The most events of one request.
const EVENTS_MAX: usize = 1_000;

/// Takes engagements or impressions. They are counted and checked; nothing is kept of them.
pub(super) fn track(call: &Call) -> ApiResult<Reply> {
    let events = match call.json()? {
        Value::Array(list) => list,
        Value::Object(mut map) => match map.remove("content_list") {
            Some(Value::Array(list)) => list,
            Some(_) => return Err(ApiError::field("content_list", "is a list")),
            // One impression.
            None if map.is_empty() => Vec::new(),
            None => vec![Value::Object(map)],
        },
        _ => return Err(ApiError::input("the body is a list of events")),
    };
    check(&events)?;
    tracing::debug!(app = call.app.id, events = events.len(), "events were tracked");
    Ok(Reply::created(Value::Object(serde_json::Map::new())))
}

fn check(events: &[Value]) -> ApiResult<()> {
    if events.len() > EVENTS_MAX {
        return Err(ApiError::input(format!("at most {EVENTS_MAX} events at once, not {}", events.len())));
    }
    if events.iter().any(|event| !event.is_object()) {
        return Err(ApiError::input("an event is an object"));
    }
    Ok(())
}

/// Redirects to `url`. The token was verified before: without it this would be an open redirect.
pub(super) fn redirect(call: &Call) -> ApiResult<Reply> {
    let target = call.query.get("url").ok_or_else(|| ApiError::field("url", "is missing"))?;
    let url = url::Url::parse(target).map_err(|_bad| ApiError::field("url", "is no address such as https://…"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(ApiError::field("url", "is no http or https address"));
    }
    if let Some(events) = call.query.get("events") {
        match serde_json::from_str(events) {
            Ok(Value::Array(events)) => check(&events)?,
            _ => return Err(ApiError::field("events", "is a JSON list of events")),
        }
    }
    let location = HeaderValue::from_str(url.as_str()).map_err(|_bad| ApiError::field("url", "is no address"))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(header::LOCATION, location);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(Reply::Raw(Box::new(response)))
}

/// Personalization is not offered.
pub(super) fn personalization() -> ApiResult<Reply> {
    Err(ApiError::not_allowed("personalization is not offered; rank feeds by an expression instead"))
}
