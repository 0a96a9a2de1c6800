//! What an endpoint answers, and how it becomes a response.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};

use crate::error::ApiError;

/// What an endpoint answers.
#[derive(Debug)]
pub(crate) enum Reply {
    /// A JSON object; the duration is added to it.
    Json(StatusCode, Map<String, Value>),
    /// Anything else: a file, a redirect.
    Raw(Box<Response<Body>>),
}

impl Reply {
    /// 200 with an object. Anything else than an object is put under `results`.
    pub(crate) fn ok(body: Value) -> Self {
        Self::Json(StatusCode::OK, object(body))
    }

    /// 201 with an object.
    pub(crate) fn created(body: Value) -> Self {
        Self::Json(StatusCode::CREATED, object(body))
    }

    /// 200 with nothing but the duration.
    pub(crate) fn empty() -> Self {
        Self::Json(StatusCode::OK, Map::new())
    }
}

fn object(body: Value) -> Map<String, Value> {
    match body {
        Value::Object(map) => map,
        other => Map::from_iter([("results".to_owned(), other)]),
    }
}

/// The response of a call that took `took`.
pub(crate) fn response(answer: Result<Reply, ApiError>, took: Duration) -> Response<Body> {
    let (status, mut body, retry_after_s) = match answer {
        Ok(Reply::Raw(response)) => return *response,
        Ok(Reply::Json(status, body)) => (status, body, None),
        Err(error) => (error.status, error.body(), error.retry_after_s),
    };
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

/// A time as the clients expect it: `"13.20ms"`.
pub fn duration(took: Duration) -> String {
    format!("{:.2}ms", took.as_secs_f64() * 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_the_contract_says() {
        assert_eq!(duration(Duration::from_micros(13_204)), "13.20ms");
        assert_eq!(duration(Duration::from_millis(1_500)), "1500.00ms");
    }

    #[test]
    fn an_error_says_when_to_come_again() {
        let response = response(Err(ApiError::rate("too many", 7)), Duration::ZERO);
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers().get("retry-after").and_then(|value| value.to_str().ok()), Some("7"));
    }
}
