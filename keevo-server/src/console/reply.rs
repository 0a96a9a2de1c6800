//! How the console's API reads questions and answers: JSON, and errors with a kind, a sentence and advice.
//!
//! Invariant: no answer is kept by a browser or a proxy, and a question with a parameter that nobody knows is refused.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use keevo_core::{Error, ErrorKind};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// An answer of the API.
pub(super) struct Reply(pub(super) Value);

/// An error of the API: `{"error": {"kind", "message", "advice"}}` with the status of its kind.
#[derive(Debug)]
pub(super) struct Refusal(Error);

/// What every call of the API gives.
pub(super) type Answer = Result<Reply, Refusal>;

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl Refusal {
    /// Its kind.
    pub(super) fn kind(&self) -> ErrorKind {
        self.0.kind()
    }
}

fn respond(status: StatusCode, body: &Value) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (status, headers, body.to_string()).into_response()
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        respond(StatusCode::OK, &self.0)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let row = self.0.kind().row();
        let status = StatusCode::from_u16(row.http_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status.is_server_error() {
            tracing::warn!(error = %self.0, "a call of the console failed");
        }
        let error = json!({ "kind": row.name, "message": self.0.message(), "advice": row.advice });
        respond(status, &json!({ "error": error }))
    }
}

/// The parameters of a question.
pub(super) struct Asked<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(asked)) => Ok(Self(asked)),
            Err(rejection) => Err(Error::invalid(format!("the parameters are not right: {rejection}")).into()),
        }
    }
}

/// The JSON body of a request.
pub(super) struct Told<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Told<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|text| text.to_str().ok());
        let mime = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
        if !mime.is_some_and(|mime| mime.eq_ignore_ascii_case("application/json")) {
            return Err(Error::invalid("send JSON, with the content type application/json").into());
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            let too_large = rejection.status() == StatusCode::PAYLOAD_TOO_LARGE;
            let kind = if too_large { ErrorKind::BatchTooLarge } else { ErrorKind::Invalid };
            Error::new(kind, format!("the body cannot be read: {rejection}"))
        })?;
        let told = serde_json::from_slice(&bytes);
        told.map(Self).map_err(|error| Error::invalid(format!("the body is not right: {error}")).into())
    }
}
