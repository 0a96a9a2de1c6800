//! What a client is told when something is refused: the errors of keevo-gateway, with the codes that chat has besides.

use axum::http::StatusCode;
use keevo_chat::{Denied, DeniedCode};
use keevo_core::{Error, ErrorKind};
use keevo_gateway::shared::{ApiError, TokenFault};
use serde_json::{Map, Value, json};

/// The result of an endpoint.
pub(crate) type Answered<T> = Result<T, Refusal>;

/// A refusal, on its way to the client.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: ApiError,
    /// Why, for programs: a name of the protocol.
    reason: Option<&'static str>,
    retry_after_ms: Option<u64>,
}

impl Refusal {
    /// Denied, with a reason for programs.
    pub(crate) fn denied(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { error: ApiError::not_allowed(detail), reason: Some(reason), retry_after_ms: None }
    }

    /// A field is malformed.
    pub(crate) fn field(name: &str, problem: impl Into<String>) -> Self {
        ApiError::field(name, problem).into()
    }

    /// The input is malformed.
    pub(crate) fn input(detail: impl Into<String>) -> Self {
        ApiError::input(detail).into()
    }

    /// The code of the protocol.
    pub(crate) fn code(&self) -> i32 {
        self.error.code()
    }

    /// What is wrong, in a sentence.
    pub(crate) fn detail(&self) -> String {
        self.error.body().get("detail").and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// How long to wait before another try, in whole seconds.
    pub(crate) fn retry_after_s(&self) -> Option<u64> {
        self.error.retry_after_s.or_else(|| self.retry_after_ms.map(|ms| ms.div_ceil(1_000).max(1)))
    }

    /// What the client is told, without the duration.
    pub(crate) fn body(&self) -> Map<String, Value> {
        let mut body = self.error.body();
        let retry_after_ms = self.retry_after_ms.or_else(|| self.error.retry_after_s.map(|s| s.saturating_mul(1_000)));
        body.insert("reason".to_owned(), json!(self.reason));
        body.insert("retry_after_ms".to_owned(), json!(retry_after_ms));
        body
    }
}

impl AsRef<ApiError> for Refusal {
    fn as_ref(&self) -> &ApiError {
        &self.error
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self { error, reason: None, retry_after_ms: None }
    }
}

impl From<TokenFault> for Refusal {
    fn from(fault: TokenFault) -> Self {
        let (code, exception) = match fault {
            TokenFault::Expired => (40, "TokenExpired"),
            TokenFault::NotYet => (41, "TokenNotValidYet"),
            TokenFault::BeforeIssued => (42, "TokenBeforeIssued"),
            TokenFault::Invalid(_) => (43, "TokenInvalid"),
        };
        ApiError::new(StatusCode::UNAUTHORIZED, code, exception, fault.detail()).into()
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match Denied::of(&error) {
            Some(denied) if denied.code == DeniedCode::SlowMode => {
                let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, 60, "CoolDown", denied.message.clone());
                Self { error, reason: None, retry_after_ms: denied.retry_ms.or(Some(1_000)) }
            }
            Some(denied) if denied.code == DeniedCode::TooMany => {
                let error = ApiError::input(denied.message.clone());
                Self { error, reason: Some(denied.code.name()), retry_after_ms: None }
            }
            Some(denied) => {
                let error = ApiError::not_allowed(denied.message.clone());
                Self { error, reason: Some(denied.code.name()), retry_after_ms: denied.retry_ms }
            }
            None => ApiError::from(error).into(),
        }
    }
}

/// An error of a query: what costs too much is the query's fault.
pub(crate) fn of_query(error: Error) -> Refusal {
    if error.kind() == ErrorKind::ResourceExhausted {
        return Refusal::input(error.message());
    }
    error.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_codes_of_their_own() {
        let code = |fault: TokenFault| Refusal::from(fault).code();
        let all = [TokenFault::Expired, TokenFault::NotYet, TokenFault::BeforeIssued, TokenFault::Invalid("x".into())];
        assert_eq!(all.map(code), [40, 41, 42, 43]);
    }

    #[test]
    fn every_refusal_says_reason_and_wait() {
        let body = Refusal::denied("banned", "no").body();
        assert_eq!((body.get("reason"), body.get("code")), (Some(&json!("banned")), Some(&json!(17))));
        assert_eq!(body.get("retry_after_ms"), Some(&Value::Null));
        let body = Refusal::from(ApiError::rate("too many", 7)).body();
        assert_eq!(body.get("retry_after_ms"), Some(&json!(7_000)));
    }
}
