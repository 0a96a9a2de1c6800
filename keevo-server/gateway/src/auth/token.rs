//! Tokens: JSON Web Tokens signed with HMAC-SHA-256 under a key's secret.

use std::time::Duration;

use axum::http::HeaderMap;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::{Map, Value};

use super::{Names, Principal, Scopes};
use crate::apps::Secret;
use crate::error::{ApiError, ApiResult, TokenFault};
use crate::query::Query;

/// The longest token, in bytes.
const TOKEN_BYTES_MAX: usize = 8_192;
/// How far the caller's clock may be from ours.
const LEEWAY: Duration = Duration::from_mins(1);
/// The longest user id, in bytes.
pub(super) const USER_BYTES_MAX: usize = 255;

/// A token that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// Who calls.
    pub principal: Principal,
    /// When the token ends, in milliseconds since the epoch, where it says so.
    pub expires_ms: Option<u64>,
}

/// The token in the header `Authorization`, if there is one.
pub(crate) fn header_token(headers: &HeaderMap) -> Result<Option<&str>, TokenFault> {
    let Some(value) = headers.get("authorization") else { return Ok(None) };
    let text = value.to_str().map_err(|_not_text| TokenFault::invalid("the header Authorization is no token"))?;
    Ok(Some(text.strip_prefix("Bearer ").unwrap_or(text).trim()))
}

/// Whoever bears `token`, and until when: also judges when it was issued.
pub(crate) fn bearer(token: &str, secret: &Secret, now_ms: u64) -> Result<Bearer, TokenFault> {
    if token.is_empty() {
        return Err(TokenFault::missing());
    }
    let claims = verify(token, secret, now_ms)?;
    if seconds(&claims, "iat")?.is_some_and(|issued| issued - LEEWAY.as_secs_f64() > now_s(now_ms)) {
        return Err(TokenFault::BeforeIssued);
    }
    let expires = seconds(&claims, "exp")?.and_then(|expires| Duration::try_from_secs_f64(expires).ok());
    let expires_ms = expires.and_then(|expires| u64::try_from((expires + LEEWAY).as_millis()).ok());
    Ok(Bearer { principal: of_claims(&claims)?, expires_ms })
}

/// Who calls: from the header `Authorization`, or from the query of links that a browser follows.
pub(crate) fn principal(headers: &HeaderMap, query: &Query, secret: &Secret, now_ms: u64) -> ApiResult<Principal> {
    let token = match header_token(headers)? {
        Some(token) => token,
        None => query.get("authorization").unwrap_or_default(),
    };
    if token.is_empty() {
        return Err(TokenFault::missing().into());
    }
    let kind = headers.get("stream-auth-type").and_then(|value| value.to_str().ok()).or_else(|| query.get("auth_type"));
    if kind.is_some_and(|kind| kind != "jwt") {
        return Err(ApiError::signature("stream-auth-type is jwt, the only kind there is"));
    }
    Ok(of_claims(&verify(token, secret, now_ms)?)?)
}

/// Whether `signature` is a token that reads the feed called `feed`, slug and id without a colon.
pub(crate) fn verify_feed(signature: &str, feed: &str, secret: &Secret, now_ms: u64) -> ApiResult<Principal> {
    let principal = of_claims(&verify(signature, secret, now_ms)?)?;
    if let Principal::Server(scopes) = &principal {
        let covers = scopes.feeds.has(feed) && scopes.resources.has("feed") && scopes.actions.has("read");
        if !covers {
            return Err(ApiError::not_allowed("the token is not for reading this feed"));
        }
    }
    Ok(principal)
}

/// The claims of a token whose signature and times are right.
fn verify(token: &str, secret: &Secret, now_ms: u64) -> Result<Map<String, Value>, TokenFault> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenFault::invalid(format!("a token has up to {TOKEN_BYTES_MAX} bytes")));
    }
    let mut validation = Validation::new(Algorithm::HS256);
    validation.required_spec_claims.clear();
    validation.validate_aud = false;
    // Judged below, by the clock that the rest goes by.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    let key = DecodingKey::from_secret(secret.expose().as_bytes());
    let unsigned = "the token is malformed, or not signed by HS256 with this key's secret";
    let claims =
        decode::<Map<String, Value>>(token, &key, &validation).map_err(|_why| TokenFault::invalid(unsigned))?.claims;
    let (now_s, leeway_s) = (now_s(now_ms), LEEWAY.as_secs_f64());
    if seconds(&claims, "exp")?.is_some_and(|expires| expires + leeway_s < now_s) {
        return Err(TokenFault::Expired);
    }
    if seconds(&claims, "nbf")?.is_some_and(|begins| begins - leeway_s > now_s) {
        return Err(TokenFault::NotYet);
    }
    Ok(claims)
}

fn now_s(now_ms: u64) -> f64 {
    Duration::from_millis(now_ms).as_secs_f64()
}

/// A claim that is a time, in seconds since the epoch.
fn seconds(claims: &Map<String, Value>, name: &str) -> Result<Option<f64>, TokenFault> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(seconds)) => Ok(seconds.as_f64()),
        Some(_) => Err(TokenFault::invalid(format!("the token's {name} is no number of seconds"))),
    }
}

fn of_claims(claims: &Map<String, Value>) -> Result<Principal, TokenFault> {
    let text = |name: &str| match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(Value::Number(number)) if name == "user_id" && number.is_u64() => {
            Err(TokenFault::invalid("the token's user_id is a number; write it as text"))
        }
        Some(_) => Err(TokenFault::invalid(format!("the token's {name} is no text"))),
    };
    let user = text("user_id")?.map(str::to_owned);
    if user.as_ref().is_some_and(|user| user.is_empty() || user.len() > USER_BYTES_MAX) {
        return Err(TokenFault::invalid(format!("the token's user_id has 1 to {USER_BYTES_MAX} bytes")));
    }
    match (text("resource")?, user) {
        (Some(resource), user) => Ok(Principal::Server(Scopes {
            resources: Names::parse(resource),
            actions: Names::parse(text("action")?.unwrap_or_default()),
            feeds: Names::parse(text("feed_id")?.unwrap_or("*")),
            user,
        })),
        (None, Some(user)) => Ok(Principal::User(user)),
        (None, None) => Err(TokenFault::invalid("the token names neither a resource nor a user_id")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    const NOW_MS: u64 = 1_800_000_000_000;

    fn secret() -> Secret {
        Secret::new("a secret of the tests")
    }

    fn signed(header: &Header, claims: &Value, secret: &str) -> String {
        encode(header, claims, &EncodingKey::from_secret(secret.as_bytes())).expect("a token")
    }

    fn ask(token: &str) -> Result<Principal, String> {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", token.parse().expect("a header"));
        principal(&headers, &Query::default(), &secret(), NOW_MS).map_err(|error| error.detail().to_owned())
    }

    #[test]
    fn tokens_say_who_calls() {
        let token = |claims| signed(&Header::default(), &claims, secret().expose());
        assert_eq!(ask(&token(json!({ "user_id": "ann", "extra": [1] }))), Ok(Principal::User("ann".to_owned())));
        let server = ask(&token(json!({ "resource": "feed", "action": "*", "feed_id": "*", "user_id": "ann" })));
        let Ok(Principal::Server(scopes)) = server else { panic!("{server:?}") };
        assert_eq!(scopes.user.as_deref(), Some("ann"));
        assert!(ask(&format!("Bearer {}", token(json!({ "user_id": "ann" })))).is_ok());
        let in_query = form_urlencoded::Serializer::new(String::new())
            .append_pair("authorization", &token(json!({ "user_id": "ann" })))
            .finish();
        let query = Query::parse(&in_query).expect("a query");
        assert!(principal(&HeaderMap::new(), &query, &secret(), NOW_MS).is_ok());
    }

    #[test]
    fn what_is_not_signed_by_this_secret_and_hs256_is_refused() {
        let claims = json!({ "user_id": "ann" });
        let good = signed(&Header::default(), &claims, secret().expose());
        let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJ1c2VyX2lkIjoiYW5uIn0.";
        let hs512 = signed(&Header::new(Algorithm::HS512), &claims, secret().expose());
        let other = signed(&Header::default(), &claims, "another secret");
        let mut cut = good.clone();
        cut.pop();
        for token in [none, &hs512, &other, &cut, "", "x", "a.b.c", &"x".repeat(9_000)] {
            assert!(ask(token).is_err(), "{token}");
        }
        let of = |claims| ask(&signed(&Header::default(), &claims, secret().expose()));
        let now_s = NOW_MS / 1_000;
        assert!(of(json!({ "user_id": "ann", "exp": now_s - 59 })).is_ok(), "within the leeway");
        for claims in [
            json!({}),
            json!({ "user_id": 7 }),
            json!({ "user_id": "" }),
            json!({ "resource": 7 }),
            json!({ "resource": ["feed"] }),
            json!({ "user_id": "ann", "extra": "x".repeat(9_000) }),
            json!({ "user_id": "ann", "exp": now_s - 61 }),
            json!({ "user_id": "ann", "exp": "never" }),
            json!({ "user_id": "ann", "nbf": now_s + 61 }),
        ] {
            assert!(of(claims.clone()).is_err(), "{claims}");
        }
    }

    #[test]
    fn a_feed_is_read_with_a_token_for_it() {
        let check = |claims, feed| {
            let token = signed(&Header::default(), &claims, secret().expose());
            verify_feed(&token, feed, &secret(), NOW_MS).is_ok()
        };
        let read_only = json!({ "resource": "*", "action": "read", "feed_id": "user1" });
        assert!(check(read_only.clone(), "user1") && !check(read_only, "user2"));
        assert!(!check(json!({ "resource": "*", "action": "write", "feed_id": "user1" }), "user1"));
        assert!(check(json!({ "user_id": "1" }), "user1"), "whose rights are judged later");
    }
}
