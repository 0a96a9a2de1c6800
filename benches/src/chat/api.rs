//! Keevo's chat over HTTP: an app of the benchmark's own, its channels, and what is asked of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use jsonwebtoken::{EncodingKey, Header, encode};
use keevo_core::{Error, ErrorKind, Result};
use keevo_proto::admin::v1 as pb;
use keevo_proto::admin::v1::apps_client::AppsClient;
use keevo_proto::error_from_status;
use serde_json::{Value, json};

use crate::channels;
use crate::servers::Cluster;

pub(super) const KEY: &str = "bench";
const SECRET: &str = "a secret of the benchmark";
/// Requests a minute of each kind: limits are not what is measured.
const RATE: u32 = 100_000_000;
const LIMITS: [&str; 5] = ["chat_send", "chat_write", "chat_read", "chat_query", "chat_connect"];
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Members that a channel is made with, beside the sender, and that are added at once.
const MEMBERS_FIRST: usize = 999;
const MEMBERS_MORE: usize = 100;
/// Who makes the channels and sends.
pub(super) const SENDER: &str = "sender";

/// What a channel is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its watchers are members, with read states and unread counts.
    Team,
    /// Anybody may watch.
    Livestream,
}

/// Chat on the nodes of a cluster. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    http: Client<HttpConnector, Full<Bytes>>,
    nodes: Arc<Vec<SocketAddr>>,
    server: Arc<str>,
    turn: Arc<AtomicUsize>,
}

impl Api {
    /// Makes the app on a cluster that serves.
    pub(crate) async fn open(cluster: &Cluster) -> Result<Self> {
        let address = cluster.addresses().first().cloned().unwrap_or_default();
        let channel = channels::connect(&address, 1).await?.pop();
        let channel = channel.ok_or_else(|| Error::new(ErrorKind::Unavailable, "no connection was made"))?;
        let mut apps = AppsClient::new(channel);
        let new = pb::CreateAppRequest { name: "bench".to_owned(), key: KEY.to_owned(), secret: SECRET.to_owned() };
        let made = apps.create_app(new).await.map_err(|status| error_from_status(&status))?.into_inner();
        let id = made.app.map(|app| app.id).ok_or_else(|| Error::invalid("an app was made and not told"))?;
        let rates = LIMITS.iter().map(|limit| ((*limit).to_owned(), RATE)).collect();
        let change = pb::ConfigureAppRequest { id, rates, ..pb::ConfigureAppRequest::default() };
        apps.configure_app(change).await.map_err(|status| error_from_status(&status))?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Ok(Self {
            http: Client::builder(TokioExecutor::new()).build(connector),
            nodes: Arc::new(cluster.http_addresses()),
            server: token(&json!({ "resource": "*", "action": "*" }))?.into(),
            turn: Arc::new(AtomicUsize::new(0)),
        })
    }

    /// The HTTP address of each node.
    pub(crate) fn nodes(&self) -> &[SocketAddr] {
        &self.nodes
    }

    /// The next node in turn, but for `dead`.
    fn node(&self, dead: Option<usize>) -> Result<SocketAddr> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let living = self.nodes.iter().enumerate().filter(|(at, _)| Some(*at) != dead);
        let count = self.nodes.len() - usize::from(dead.is_some());
        let node = living.map(|(_, node)| *node).nth(turn % count.max(1));
        node.ok_or_else(|| Error::invalid("no node is alive"))
    }

    /// A request of a server; `path` is what comes after `/chat/v1/`. `dead`: the number of a node that is left out.
    pub(crate) async fn ask(&self, dead: Option<usize>, method: &Method, path: &str, body: &Value) -> Result<Value> {
        let failed = |what: String| Error::new(ErrorKind::Unavailable, format!("{method} {path}: {what}"));
        let node = self.node(dead)?;
        let mark = if path.contains('?') { '&' } else { '?' };
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{node}/chat/v1/{path}{mark}api_key={KEY}"))
            .header(header::AUTHORIZATION, &*self.server)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(text)))
            .map_err(|error| Error::invalid(format!("{path} makes no request")).with_source(error))?;
        let answering = async {
            let answer = self.http.request(request).await.map_err(|error| failed(format!("no answer: {error}")))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| failed(format!("half an answer: {error}")))?.to_bytes();
            if status.is_success() {
                return Ok(serde_json::from_slice(&body).unwrap_or_default());
            }
            Err(failed(format!("{status}: {}", String::from_utf8_lossy(&body))))
        };
        let answered = tokio::time::timeout(ANSWER_WITHIN, answering).await;
        answered.unwrap_or_else(|elapsed| {
            Err(Error::new(ErrorKind::DeadlineExceeded, format!("{method} {path} took too long")).with_source(elapsed))
        })
    }

    /// Makes a channel with so many members besides the sender: `u0`, `u1`, …
    pub(crate) async fn channel(&self, kind: Kind, id: &str, members: usize) -> Result<()> {
        let (post, name) = (Method::POST, kind.name());
        let users = |from: usize, to: usize| (from..to).map(user).collect::<Vec<_>>();
        let first = members.min(MEMBERS_FIRST);
        let body = json!({ "type": name, "id": id, "members": users(0, first) });
        self.ask(None, &post, &format!("channels?user_id={SENDER}"), &body).await?;
        for from in (first..members).step_by(MEMBERS_MORE) {
            let body = json!({ "members": users(from, members.min(from + MEMBERS_MORE)) });
            let path = format!("channels/{name}/{id}/members?user_id={SENDER}");
            self.ask(None, &post, &path, &body).await?;
        }
        Ok(())
    }

    /// Sends a message.
    pub(crate) async fn send(&self, dead: Option<usize>, kind: Kind, id: &str, body: &Value) -> Result<Value> {
        let path = format!("channels/{}/{id}/messages?user_id={SENDER}", kind.name());
        self.ask(dead, &Method::POST, &path, body).await
    }
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Team => "team",
            Self::Livestream => "livestream",
        }
    }
}

/// The user of a number.
pub(super) fn user(number: usize) -> String {
    format!("u{number}")
}

/// A user's token.
pub(super) fn user_token(user: &str) -> Result<String> {
    token(&json!({ "user_id": user }))
}

fn token(claims: &Value) -> Result<String> {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    encode(&Header::default(), claims, &key).map_err(|error| Error::invalid("no token can be made").with_source(error))
}
