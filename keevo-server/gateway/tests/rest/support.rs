//! A gateway over an engine in memory, and requests to it.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use jsonwebtoken::{EncodingKey, Header, encode};
use keevo_core::{Clock, MemoryEngine, Random, SeededRandom, SystemClock};
use keevo_feeds::FeedsOptions;
use keevo_gateway::apps::{App, Apps, EngineMeta, Secret};
use keevo_gateway::{Gateway, GatewayOptions, Registry};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;

pub(crate) const KEY: &str = "key";
pub(crate) const SECRET: &str = "a secret of the tests";

/// A gateway with one app that has the default groups.
pub(crate) struct Lab {
    pub(crate) router: Router,
    pub(crate) gateway: Gateway,
    pub(crate) app: App,
    _stop: DropGuard,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    pub(crate) bytes: Vec<u8>,
}

impl Answer {
    /// The body of a success, which holds a duration.
    #[track_caller]
    pub(crate) fn good(self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.body);
        assert!(self.body.get("duration").is_some_and(Value::is_string), "{}", self.body);
        self.body
    }

    /// Status and code of a refusal, which has all that the contract asks for.
    #[track_caller]
    pub(crate) fn refused(&self) -> (u16, i64) {
        for name in ["detail", "exception", "duration", "more_info"] {
            assert!(self.body.get(name).is_some_and(Value::is_string), "{} lacks {name}", self.body);
        }
        assert_eq!(self.body.get("status_code"), Some(&json!(self.status.as_u16())));
        (self.status.as_u16(), self.body.get("code").and_then(Value::as_i64).expect("a code"))
    }
}

/// A token that covers everything.
pub(crate) fn server() -> String {
    token(&json!({ "resource": "*", "action": "*", "feed_id": "*" }))
}

/// A user's token.
pub(crate) fn user(id: &str) -> String {
    token(&json!({ "user_id": id }))
}

pub(crate) fn token(claims: &Value) -> String {
    encode(&Header::default(), claims, &EncodingKey::from_secret(SECRET.as_bytes())).expect("a token")
}

impl Lab {
    pub(crate) async fn new() -> Self {
        Self::with(GatewayOptions::default()).await
    }

    pub(crate) async fn with(options: GatewayOptions) -> Self {
        Self::on(MemoryEngine::new(), options).await
    }

    /// A node more over the same engine.
    pub(crate) async fn on(engine: MemoryEngine, options: GatewayOptions) -> Self {
        let meta = EngineMeta::open(engine.clone()).await.expect("a meta store");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let random: Arc<dyn Random> = Arc::new(SeededRandom::new(7));
        let apps = Apps::new(meta, clock, random);
        let app = apps.ensure("test", KEY.to_owned(), Secret::new(SECRET)).await.expect("an app");
        let stop = CancellationToken::new();
        let registry = Registry::new(engine, FeedsOptions::default());
        let gateway = Gateway::open(apps, registry, options, stop.clone()).expect("a gateway");
        Self { router: gateway.router(), gateway, app, _stop: stop.drop_guard() }
    }

    /// Changes the app.
    pub(crate) async fn change(&self, change: impl Fn(&mut App) + Send + Sync) {
        let changed = self.gateway.apps().change(self.app.id, |app| {
            change(app);
            Ok(())
        });
        changed.await.expect("changed");
    }

    /// Sends a request with the app's key; `path` is what comes after `/api/v1.0/`.
    pub(crate) async fn ask(&self, method: Method, path: &str, token: &str, body: &Value) -> Answer {
        let mark = if path.contains('?') { '&' } else { '?' };
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1.0/{path}{mark}api_key={KEY}"))
            .header(header::HOST, "feeds.test")
            .header("stream-auth-type", "jwt")
            .header(header::AUTHORIZATION, token)
            .body(if body.is_null() { Body::empty() } else { Body::from(body.to_string()) });
        self.send(request.expect("a request")).await
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        self.ask(Method::GET, path, token, &Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        self.ask(Method::POST, path, token, &body).await
    }

    pub(crate) async fn delete(&self, path: &str, token: &str) -> Answer {
        self.ask(Method::DELETE, path, token, &Value::Null).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.expect("a response");
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 64 << 20).await.expect("a body").to_vec();
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        Answer { status: parts.status, headers: parts.headers, body, bytes }
    }

    /// Adds an activity by a server, and gives its id.
    pub(crate) async fn add(&self, feed: &str, activity: Value) -> String {
        let added = self.post(&format!("feed/{}/", feed.replace(':', "/")), &server(), activity).await.good();
        added.get("id").and_then(Value::as_str).expect("an id").to_owned()
    }

    /// The ids of a page of a flat feed, and the link to the next.
    pub(crate) async fn page(&self, path: &str) -> (Vec<String>, String) {
        let page = self.get(path, &server()).await.good();
        let results = page.get("results").and_then(Value::as_array).expect("results");
        let id = |one: &Value| one.get("id").and_then(Value::as_str).expect("an id").to_owned();
        (results.iter().map(id).collect(), page.get("next").and_then(Value::as_str).expect("next").to_owned())
    }
}

/// An activity that anybody may have added.
pub(crate) fn activity(object: &str) -> Value {
    json!({ "actor": "SU:ann", "verb": "post", "object": object })
}
