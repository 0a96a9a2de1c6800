//! The API log at the doors of HTTP: what of a request is kept, and how a recorded request comes in again.
//!
//! Invariant: no key, token or secret gets into the log. What looks like one by the name of its parameter or field is taken
//! out; the rest of the request is kept as it came.

use std::future::Future;
use std::sync::Arc;

use axum::http::{Method, Uri};
use bytes::Bytes;
use keevo_core::call::{self, CallDoor, CallLog, CallRequest, NewCall};
use serde_json::Value;

use crate::auth::{Principal, Scopes};
use crate::error::ApiError;

/// What the names of parameters and fields that hold secrets contain.
const SECRETS: [&str; 7] = ["secret", "token", "password", "credential", "api_key", "authorization", "jwt"];
/// What stands for a secret.
const REDACTED: &str = "[redacted]";

/// A request that repeats a recorded call: it comes from the node itself, as an extension of the request, needs no token and
/// falls under no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// The app.
    pub app: u32,
    /// Who asked.
    pub principal: Principal,
}

impl Replayed {
    /// The request of whom [`principal_text`] tells; `None` where it is not one of its texts.
    pub fn new(app: u32, principal: &str) -> Option<Self> {
        let principal = match principal.split_once(' ') {
            None if principal == "server" => Principal::Server(Scopes::all(None)),
            Some(("server", user)) => Principal::Server(Scopes::all(Some(user.to_owned()))),
            Some(("user", user)) => Principal::User(user.to_owned()),
            _ => return None,
        };
        Some(Self { app, principal })
    }
}

/// Who asks, as the log has it: `user ID`, `server`, or `server ID` where its token names a user.
pub fn principal_text(principal: &Principal) -> String {
    match principal {
        Principal::User(user) => format!("user {user}"),
        Principal::Server(Scopes { user: Some(user), .. }) => format!("server {user}"),
        Principal::Server(_) => "server".to_owned(),
    }
}

/// A request on its way to its endpoint.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Which API it is of.
    pub door: CallDoor,
    /// The app.
    pub app: u32,
    /// Who asks.
    pub principal: &'a Principal,
    /// What is done.
    pub method: &'a Method,
    /// To what.
    pub uri: &'a Uri,
    /// With what.
    pub body: &'a Bytes,
}

/// Lets a request that changes something be answered as a call of the log. A replay is one already.
///
/// # Errors
/// Those of the answer.
pub async fn recorded<T, E: AsRef<ApiError>>(
    log: Option<&Arc<CallLog>>,
    asked: Asked<'_>,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let Some(log) = log.filter(|log| log.is_on() && call::current().is_none()) else { return answer.await };
    let (body, redacted) = clean_body(asked.body);
    let new = NewCall {
        door: asked.door,
        app: Some(asked.app),
        principal: principal_text(asked.principal),
        method: format!("{} {}", asked.method, clean_target(asked.uri)),
        request: CallRequest::Body(body),
        redacted,
    };
    let Some(call) = log.begin(new) else { return answer.await };
    let answered = call.run(answer).await;
    if let Err(error) = &answered {
        let error = error.as_ref();
        // Whether what failed on our side took place is not known.
        if !error.status.is_server_error() {
            log.failed_as(&call, &format!("HTTP_{}", error.status.as_u16()), error.detail());
        }
    }
    answered
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRETS.iter().any(|word| name.contains(word))
}

/// Path and query without the parameters that hold secrets.
fn clean_target(uri: &Uri) -> String {
    let path = uri.path();
    let Some(query) = uri.query() else { return path.to_owned() };
    let open = query.split('&').filter(|part| {
        let name = part.split_once('=').map_or(*part, |(name, _)| name);
        !part.is_empty() && !is_secret(&percent_encoding::percent_decode_str(name).decode_utf8_lossy())
    });
    let open: Vec<&str> = open.collect();
    if open.is_empty() { path.to_owned() } else { format!("{path}?{}", open.join("&")) }
}

/// The body without the values of fields that hold secrets, and whether there were any. A body that may hold some and is no
/// JSON, which no endpoint takes, is not kept at all.
fn clean_body(body: &Bytes) -> (Bytes, bool) {
    let text = String::from_utf8_lossy(body);
    // A name may be written with escapes.
    if !is_secret(&text) && !text.contains("\\u") {
        return (body.clone(), false);
    }
    let Ok(mut value) = serde_json::from_slice::<Value>(body) else { return (Bytes::new(), true) };
    if !hide(&mut value) {
        return (body.clone(), false);
    }
    (value.to_string().into(), true)
}

/// Replaces what fields hold whose names are those of secrets, whatever its type; `null` holds nothing.
fn hide(value: &mut Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter_mut().fold(false, |hidden, (name, field)| {
            if is_secret(name) && !field.is_null() {
                *field = Value::from(REDACTED);
                return true;
            }
            hide(field) || hidden
        }),
        // Each of them, also behind the first that has some.
        Value::Array(items) => items.iter_mut().map(hide).filter(|hidden| *hidden).count() > 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_of_targets_and_bodies() {
        let target = |text: &str| clean_target(&text.parse().expect("a target"));
        assert_eq!(target("/a/b?api_key=k&user_id=bob&Authorization=x.y.z"), "/a/b?user_id=bob");
        assert_eq!(target("/a?%61pi_key=k"), "/a");
        assert_eq!((target("/a"), target("/a?x=1&y")), ("/a".to_owned(), "/a?x=1&y".to_owned()));
        let body = |text: &str| {
            let (body, redacted) = clean_body(&Bytes::copy_from_slice(text.as_bytes()));
            (String::from_utf8(body.to_vec()).expect("text"), redacted)
        };
        let hidden = r#"{"list":[{"deviceToken":"[redacted]"}],"text":"a"}"#.to_owned();
        assert_eq!(body(r#"{"list":[{"deviceToken":"hush"}],"text":"a"}"#), (hidden, true));
        for secret in [r#"{"token":7}"#, r#"{"token":[1,2]}"#, r#"{"token":{"a":"b"}}"#, r#"{"t\u006fken":true}"#] {
            assert_eq!(body(secret), (r#"{"token":"[redacted]"}"#.to_owned(), true), "{secret}");
        }
        for same in [r#"{ "text" : "a token of love" }"#, r#"{"token":null}"#, r#"{"text":"\u00e9"}"#, "no JSON", ""] {
            assert_eq!(body(same), (same.to_owned(), false));
        }
        assert_eq!(body("no JSON with a secret"), (String::new(), true));
    }

    #[test]
    fn whoever_asked_asks_again() {
        let again = |text: &str| Replayed::new(7, text).map(|replayed| principal_text(&replayed.principal));
        for text in ["user alice b", "server", "server bob"] {
            assert_eq!(again(text).as_deref(), Some(text));
        }
        assert_eq!((again("key 3f"), again("")), (None, None));
    }
}
