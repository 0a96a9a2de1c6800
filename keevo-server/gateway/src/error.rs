//! What a client is told when something is wrong: the contract's codes, each with one sentence.
//!
//! Invariant: one constructor per code, so that a code always goes with its HTTP status and its name.

use axum::http::StatusCode;
use keevo_core::{Error, ErrorKind};
use keevo_feeds::RankingFault;
use serde_json::{Map, Value, json};

/// The result of an endpoint.
pub type ApiResult<T> = Result<T, ApiError>;

/// An error of the REST API.
#[derive(Debug)]
pub struct ApiError {
    /// The status of HTTP.
    pub status: StatusCode,
    code: i32,
    exception: &'static str,
    pub(crate) detail: String,
    fields: Map<String, Value>,
    /// Seconds after which to try again.
    pub retry_after_s: Option<u64>,
}

/// What is wrong with a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenFault {
    /// It has expired.
    Expired,
    /// It is not valid yet.
    NotYet,
    /// It says that it was issued in the future.
    BeforeIssued,
    /// It is missing, malformed, or not signed by this key's secret.
    Invalid(String),
}

impl TokenFault {
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::Invalid(detail.into())
    }

    pub(crate) fn missing() -> Self {
        Self::invalid("the header Authorization is missing: it carries a token signed with the secret")
    }

    /// The sentence.
    pub fn detail(&self) -> &str {
        match self {
            Self::Expired => "the token has expired; make a new one",
            Self::NotYet => "the token is not valid yet",
            Self::BeforeIssued => "the token says that it was issued in the future; set the clock of whoever makes it",
            Self::Invalid(detail) => detail,
        }
    }
}

impl AsRef<Self> for ApiError {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl From<TokenFault> for ApiError {
    fn from(fault: TokenFault) -> Self {
        Self::signature(fault.detail())
    }
}

impl ApiError {
    /// An error with a code of its own.
    pub fn new(status: StatusCode, code: i32, exception: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { status, code, exception, detail, fields: Map::new(), retry_after_s: None }
    }

    /// The key belongs to no app.
    pub fn api_key() -> Self {
        let detail = "api_key is missing, unknown or revoked; `keevo-cli app show` lists an app's keys";
        Self::new(StatusCode::UNAUTHORIZED, 2, "ApiKeyException", detail)
    }

    /// The token is missing, malformed, expired or signed with another secret.
    pub(crate) fn signature(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, 3, "AuthenticationFailed", detail)
    }

    /// A field, id or page is malformed.
    pub fn input(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, 4, "InputException", detail)
    }

    /// One field is malformed, and named.
    pub fn field(name: &str, problem: impl Into<String>) -> Self {
        let problem = problem.into();
        let mut error = Self::input(format!("{name}: {problem}"));
        error.fields.insert(name.to_owned(), json!([problem]));
        error
    }

    /// The feed group is not configured.
    pub(crate) fn feed_group(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, 6, "FeedConfigException", detail)
    }

    /// The app is suspended.
    pub fn suspended() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, 7, "SiteSuspendedException", "the app is suspended")
    }

    /// More requests than the limit.
    pub fn rate(detail: impl Into<String>, retry_after_s: u64) -> Self {
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, 9, "RateLimitReached", detail);
        error.retry_after_s = Some(retry_after_s);
        error
    }

    /// The request is about a user and names none.
    pub fn missing_user() -> Self {
        let detail = "user_id is missing: a server names the user, and a user's token is about that user";
        Self::new(StatusCode::BAD_REQUEST, 10, "MissingUserException", detail)
    }

    /// A ranking cannot be used.
    pub(crate) fn ranking(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, 11, "RankingException", detail)
    }

    /// There is no ranking of that name.
    pub(crate) fn no_ranking(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, 12, "MissingRankingException", detail)
    }

    /// What was asked for does not exist.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, 16, "DoesNotExistException", detail)
    }

    /// The token does not give the right.
    pub fn not_allowed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, 17, "NotAllowedException", detail)
    }

    /// The path exists with other methods.
    pub fn method(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, 17, "NotAllowedException", detail)
    }

    /// The body is too large.
    pub fn too_large(bytes_max: usize) -> Self {
        let detail = format!("the body has more than {bytes_max} bytes; send it in smaller parts");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, 18, "PayloadTooLargeException", detail)
    }

    /// It exists already.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, 22, "ConflictException", detail)
    }

    /// The server is at fault, or too busy; `status` says which.
    fn system(status: StatusCode, detail: impl Into<String>) -> Self {
        let mut error = Self::new(status, -1, "InternalSystemError", detail);
        error.retry_after_s = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1);
        error
    }

    /// The code, as the contract numbers it.
    pub fn code(&self) -> i32 {
        self.code
    }

    /// The server failed without a cause that the client could know.
    pub fn internal() -> Self {
        Self::system(StatusCode::INTERNAL_SERVER_ERROR, "the server failed; its log says why")
    }

    /// What the client is told, without the duration.
    pub fn body(&self) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("detail".to_owned(), json!(self.detail));
        body.insert("status_code".to_owned(), json!(self.status.as_u16()));
        body.insert("code".to_owned(), json!(self.code));
        body.insert("exception".to_owned(), json!(self.exception));
        body.insert("more_info".to_owned(), json!(""));
        if !self.fields.is_empty() {
            body.insert("exception_fields".to_owned(), Value::Object(self.fields.clone()));
        }
        body
    }

    /// The sentence, for protocols with errors of their own.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let detail = error.message().to_owned();
        match RankingFault::of(&error) {
            Some(RankingFault::Invalid) => return Self::ranking(detail),
            Some(RankingFault::Missing) => return Self::no_ranking(detail),
            None => {}
        }
        match error.kind() {
            ErrorKind::Invalid | ErrorKind::KeySize | ErrorKind::BatchTooLarge | ErrorKind::CrossPartition => {
                Self::input(detail)
            }
            ErrorKind::Conflict => Self::conflict(detail),
            ErrorKind::NotFound => Self::not_found(detail),
            ErrorKind::PermissionDenied => Self::not_allowed(detail),
            ErrorKind::Unauthenticated => Self::signature(detail),
            kind if kind.is_retryable()
                || matches!(
                    kind,
                    ErrorKind::OutcomeUnknown | ErrorKind::DeadlineExceeded | ErrorKind::ResourceExhausted
                ) =>
            {
                tracing::warn!(%error, "a request could not be served now");
                Self::system(StatusCode::SERVICE_UNAVAILABLE, format!("{detail}; try again"))
            }
            _ => {
                tracing::error!(%error, "a request failed");
                Self::internal()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    #[test]
    fn every_kind_of_the_engine_has_a_code() {
        let mut lines = String::new();
        for kind in [
            ErrorKind::Invalid,
            ErrorKind::BatchTooLarge,
            ErrorKind::Conflict,
            ErrorKind::NotFound,
            ErrorKind::PermissionDenied,
            ErrorKind::NoQuorum,
            ErrorKind::OutcomeUnknown,
            ErrorKind::ResourceExhausted,
            ErrorKind::Corrupt,
        ] {
            let error = ApiError::from(Error::new(kind, "why"));
            let (status, code, exception) = (error.status.as_u16(), error.code, error.exception);
            writeln!(lines, "{kind:?} {status} {code} {exception}").expect("a string takes all text");
        }
        expect_test::expect![[r"
            Invalid 400 4 InputException
            BatchTooLarge 400 4 InputException
            Conflict 409 22 ConflictException
            NotFound 404 16 DoesNotExistException
            PermissionDenied 403 17 NotAllowedException
            NoQuorum 503 -1 InternalSystemError
            OutcomeUnknown 503 -1 InternalSystemError
            ResourceExhausted 503 -1 InternalSystemError
            Corrupt 500 -1 InternalSystemError
        "]]
        .assert_eq(&lines);
    }

    #[test]
    fn a_field_that_is_wrong_is_named() {
        let body = ApiError::field("time", "no time").body();
        assert_eq!(body.get("exception_fields"), Some(&json!({ "time": ["no time"] })));
        assert_eq!(body.get("detail"), Some(&json!("time: no time")));
    }
}
