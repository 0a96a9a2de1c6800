//! Who may ask the console's API, and from where.
//!
//! ```text
//! request ─▶ same_site: from the console's own page? ─▶ Caller: cookie of a session, or a key ─▶ its role's rights
//! ```
//!
//! Invariant: with authentication on, nothing but the log-in is answered to a caller who is not known. With authentication
//! off the API answers where gRPC would too, on loopback or where `insecure` says so, and then only to an address or to
//! `localhost`: a page from elsewhere whose name was made to point here (DNS rebinding) is refused by its `Host`.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use keevo_core::{Error, ErrorKind, Result};
use serde::Deserialize;
use serde_json::json;

use super::Console;
use super::reply::{Refusal, Reply, Told};
use super::sessions::AGE_MAX;
use crate::auth::Pass;
use crate::auth::grant::{Action, Target};

/// What a request that changes something has to carry. Pages of other sites cannot send it unless this server allows it,
/// and it never does.
const OWN: HeaderName = HeaderName::from_static("x-keevo-console");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SCHEME: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The longest key that is looked at, in bytes.
const KEY_BYTES_MAX: usize = 1_024;

/// A caller that was let in.
pub(super) struct Caller {
    /// `None` = nobody is asked.
    pass: Option<Pass>,
}

impl Caller {
    /// Refuses what the caller may not do now.
    pub(super) fn may(&self, action: Action, target: Target<'_>) -> Result<()> {
        self.pass.as_ref().map_or(Ok(()), |pass| pass.check(action, target))
    }

    /// Whether the caller may know that there is a keyspace of this name.
    pub(super) fn knows(&self, keyspace: &str) -> Result<bool> {
        let Some(pass) = &self.pass else { return Ok(true) };
        Ok(pass.access()?.grants().iter().any(|grant| grant.knows(keyspace)))
    }

    /// Whether the caller may do something, without a count of the refusal.
    pub(super) fn could(&self, action: Action, target: Target<'_>) -> Result<bool> {
        let Some(pass) = &self.pass else { return Ok(true) };
        Ok(pass.access()?.check(action, target).is_ok())
    }

    /// Its rights, where they are limited.
    pub(super) fn pass(&self) -> Option<&Pass> {
        self.pass.as_ref()
    }

    /// Who it is, for people.
    pub(super) fn principal(&self) -> String {
        self.pass.as_ref().map_or_else(|| "nobody".to_owned(), Pass::principal)
    }
}

impl FromRequestParts<Console> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, console: &Console) -> Result<Self, Refusal> {
        identify(console, &parts.headers).inspect_err(|refusal| console.count(refusal))
    }
}

fn identify(console: &Console, headers: &HeaderMap) -> Result<Caller, Refusal> {
    let parts = console.parts();
    let Some(authority) = &parts.authority else {
        check_open(parts.open, headers)?;
        return Ok(Caller { pass: None });
    };
    if let Some(key) = headers.get(header::AUTHORIZATION) {
        return Ok(Caller { pass: Some(authority.identify(None, Some(key.as_bytes()))?) });
    }
    let unknown = || Error::new(ErrorKind::Unauthenticated, "log in: there is no session, or it has ended");
    let token = token(headers, &console.cookie()).ok_or_else(unknown)?;
    let pass = console.0.sessions.find(token).ok_or_else(unknown)?;
    if let Err(error) = pass.access() {
        if error.kind() == ErrorKind::Unauthenticated {
            console.0.sessions.end(token);
        }
        return Err(error.into());
    }
    Ok(Caller { pass: Some(pass) })
}

/// Refuses where nobody is asked who they are, unless that is meant so.
fn check_open(open: bool, headers: &HeaderMap) -> Result<()> {
    if !open {
        let message =
            "authentication is off, and this node listens beyond loopback: set auth = true to use the console";
        return Err(Error::new(ErrorKind::PermissionDenied, message));
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if is_address(host) {
        return Ok(());
    }
    let message = "authentication is off, so the console is served at an address or at localhost only, not at a name: \
                   open it there, or set auth = true";
    Err(Error::new(ErrorKind::PermissionDenied, message))
}

/// Whether a `Host` is an IP address or `localhost`, with or without a port.
fn is_address(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

/// The token in the cookie of that name.
fn token<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut cookies = lines.flat_map(|line| line.split(';')).filter_map(|cookie| cookie.trim().split_once('='));
    cookies.find(|(found, _)| *found == name).map(|(_, token)| token)
}

/// Lets nothing through that another site's page could have sent.
pub(super) async fn same_site(State(console): State<Console>, request: Request, next: Next) -> Response {
    let refused = |message| {
        let refusal = Refusal::from(Error::new(ErrorKind::PermissionDenied, message));
        console.count(&refusal);
        refusal.into_response()
    };
    let headers = request.headers();
    let site = headers.get(FETCH_SITE).map(HeaderValue::as_bytes);
    if site.is_some_and(|site| !matches!(site, b"same-origin" | b"none")) {
        return refused("the console's API answers its own page only");
    }
    if *request.method() != Method::GET && !headers.contains_key(OWN) {
        return refused("send the header x-keevo-console: 1 with what is no GET");
    }
    next.run(request).await
}

impl Console {
    /// The name of the cookie: cookies know no ports, so nodes of one machine take names of their own.
    fn cookie(&self) -> String {
        format!("keevo_console_{}", self.parts().node.id())
    }

    fn count(&self, refusal: &Refusal) {
        let Some(authority) = &self.parts().authority else { return };
        let metrics = authority.metrics();
        match refusal.kind() {
            ErrorKind::Unauthenticated => metrics.unauthenticated.fetch_add(1, Ordering::Relaxed),
            ErrorKind::PermissionDenied => metrics.denied.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    }

    /// The cookie with a token, as the browser is to keep it; one without a token is to be forgotten.
    fn set_cookie(&self, headers: &HeaderMap, token: &str, age: Duration) -> HeaderValue {
        let tls = headers.get(SCHEME).is_some_and(|scheme| scheme.as_bytes() == b"https");
        let secure = if tls { "; Secure" } else { "" };
        let (name, age) = (self.cookie(), age.as_secs());
        let text = format!("{name}={token}; Path=/console; HttpOnly; SameSite=Strict; Max-Age={age}{secure}");
        HeaderValue::try_from(text).unwrap_or_else(|_no_header| HeaderValue::from_static(""))
    }

    fn described(&self, caller: &Caller) -> Result<serde_json::Value> {
        let parts = self.parts();
        let access = caller.pass().map(Pass::access).transpose()?;
        let grants = access.as_ref().map(|access| access.grants().iter().map(ToString::to_string).collect::<Vec<_>>());
        Ok(json!({
            "version": env!("CARGO_PKG_VERSION"),
            "node": parts.node.id(),
            "cluster": parts.node.cluster().map(|id| format!("{:032x}", id.0)),
            "auth": parts.authority.is_some(),
            "principal": caller.principal(),
            "role": access.as_ref().map(|access| access.role.clone()),
            "grants": grants.unwrap_or_else(|| vec!["read,write,watch,admin *".to_owned()]),
            "administers": caller.could(Action::Admin, Target::Cluster)?,
            "reads_calls": caller.could(Action::Read, Target::ApiLog)?,
        }))
    }
}

/// Who the caller is.
pub(super) async fn session(State(console): State<Console>, caller: Caller) -> Result<Reply, Refusal> {
    Ok(Reply(console.described(&caller)?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    key: String,
}

/// Takes an API key and begins a session.
pub(super) async fn login(
    State(console): State<Console>,
    headers: HeaderMap,
    Told(Login { key }): Told<Login>,
) -> Result<Response, Refusal> {
    let Some(authority) = &console.parts().authority else {
        check_open(console.parts().open, &headers)?;
        return Ok(Reply(console.described(&Caller { pass: None })?).into_response());
    };
    let key = key.trim();
    let known = if key.is_empty() || key.len() > KEY_BYTES_MAX {
        Err(Error::new(ErrorKind::Unauthenticated, "the API key is not known"))
    } else {
        authority.identify(None, Some(format!("Bearer {key}").as_bytes()))
    };
    let pass = known.map_err(Refusal::from).inspect_err(|refusal| console.count(refusal))?;
    let token = console.0.sessions.begin(pass.clone());
    let cookie = console.set_cookie(&headers, &token, AGE_MAX);
    let described = console.described(&Caller { pass: Some(pass) })?;
    Ok(([(header::SET_COOKIE, cookie)], Reply(described)).into_response())
}

/// Ends the session that the request belongs to, if there is one.
pub(super) async fn logout(State(console): State<Console>, headers: HeaderMap) -> Response {
    if let Some(token) = token(&headers, &console.cookie()) {
        console.0.sessions.end(token);
    }
    let cookie = console.set_cookie(&headers, "", Duration::ZERO);
    ([(header::SET_COOKIE, cookie)], Reply(json!({}))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_and_localhost_are_addresses() {
        for good in ["127.0.0.1", "127.0.0.1:8101", "localhost", "LOCALHOST:1", "[::1]:8101", "[::1]", "10.0.0.7:80"] {
            assert!(is_address(good), "{good}");
        }
        for bad in ["", "evil.example", "evil.example:8101", "localhost.evil.example", "127.0.0.1.evil.example:1", ":1"]
        {
            assert!(!is_address(bad), "{bad}");
        }
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; keevo_console_11=no; keevo_console_1=yes"));
        headers.append(header::COOKIE, HeaderValue::from_static("b=2"));
        assert_eq!(token(&headers, "keevo_console_1"), Some("yes"));
        assert_eq!((token(&headers, "b"), token(&headers, "c")), (Some("2"), None));
    }
}
