//! A node of chat over an engine in memory, requests to it, and sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use futures::{SinkExt, StreamExt};
use jsonwebtoken::{EncodingKey, Header, encode};
use keevo_chat_gateway::{ChatGateway, ChatGatewayOptions, Gatekeeper};
use keevo_core::{Clock, Engine, MemoryEngine, Random, SeededRandom, SystemClock};
use keevo_feeds::FeedsOptions;
use keevo_gateway::apps::{App, Apps, EngineMeta, Secret};
use keevo_gateway::{Gateway, GatewayOptions, Registry};
use serde_json::{Map, Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;

pub(crate) const KEY: &str = "key";
pub(crate) const SECRET: &str = "a secret of the tests";
/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node.
pub(crate) struct Lab {
    pub(crate) router: Router,
    pub(crate) gateway: Gateway,
    pub(crate) chat: ChatGateway,
    pub(crate) app: App,
    pub(crate) stop: CancellationToken,
    _stop: DropGuard,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// The body of a success, which holds a duration.
    #[track_caller]
    pub(crate) fn good(self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.body);
        assert!(self.body["duration"].is_string(), "{}", self.body);
        self.body
    }

    /// Status and code of a refusal, which has all that the protocol asks for.
    #[track_caller]
    pub(crate) fn refused(&self) -> (u16, i64) {
        for name in ["detail", "exception", "duration", "more_info"] {
            assert!(self.body[name].is_string(), "{} lacks {name}", self.body);
        }
        for name in ["reason", "retry_after_ms"] {
            assert!(self.body.get(name).is_some(), "{} lacks {name}", self.body);
        }
        assert_eq!(self.body["status_code"], json!(self.status.as_u16()), "{}", self.body);
        (self.status.as_u16(), self.body["code"].as_i64().expect("a code"))
    }

    /// Why a user is denied.
    #[track_caller]
    pub(crate) fn denied(&self) -> &str {
        assert_eq!(self.refused(), (403, 17), "{}", self.body);
        self.body["reason"].as_str().expect("a reason")
    }
}

/// A token that covers all of chat.
pub(crate) fn server() -> String {
    token(&json!({ "resource": "*", "action": "*" }))
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
        Self::on(MemoryEngine::new()).await
    }

    /// A node more over the same engine.
    pub(crate) async fn on(engine: MemoryEngine) -> Self {
        let options = ChatGatewayOptions { user_per_minute: 100_000, ..ChatGatewayOptions::default() };
        Self::with(engine, GatewayOptions::default(), options, None).await
    }

    pub(crate) async fn with(
        engine: impl Engine,
        base: GatewayOptions,
        options: ChatGatewayOptions,
        gate: Option<Arc<dyn Gatekeeper>>,
    ) -> Self {
        let meta = EngineMeta::open(engine.clone()).await.expect("a meta store");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let random: Arc<dyn Random> = Arc::new(SeededRandom::from_os());
        let apps = Apps::new(meta, clock, random);
        let app = apps.ensure("test", KEY.to_owned(), Secret::new(SECRET)).await.expect("an app");
        let stop = CancellationToken::new();
        let registry = Registry::new(engine, FeedsOptions::default());
        let gateway = Gateway::open(apps, registry, base, stop.clone()).expect("a gateway");
        let chat = ChatGateway::new(gateway.clone(), gate, options);
        let router = chat.router().fallback_service(gateway.router());
        Self { router, gateway, chat, app, stop: stop.clone(), _stop: stop.drop_guard() }
    }

    /// Changes the app.
    pub(crate) async fn change(&self, change: impl Fn(&mut App) + Send + Sync) {
        let changed = self.gateway.apps().change(self.app.id, |app| {
            change(app);
            Ok(())
        });
        changed.await.expect("changed");
    }

    /// Sends a request with the app's key; `path` is what comes after `/chat/v1/`.
    pub(crate) async fn ask(&self, method: Method, path: &str, token: &str, body: &Value) -> Answer {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        self.raw(method, path, token, text.into_bytes()).await
    }

    pub(crate) async fn raw(&self, method: Method, path: &str, token: &str, body: Vec<u8>) -> Answer {
        let mark = if path.contains('?') { '&' } else { '?' };
        let request = Request::builder()
            .method(method)
            .uri(format!("/chat/v1/{path}{mark}api_key={KEY}"))
            .header(header::HOST, "chat.test")
            .header(header::AUTHORIZATION, token)
            .body(Body::from(body));
        self.send(request.expect("a request")).await
    }

    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        self.ask(Method::GET, path, token, &Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        self.ask(Method::POST, path, token, &body).await
    }

    pub(crate) async fn put(&self, path: &str, token: &str, body: Value) -> Answer {
        self.ask(Method::PUT, path, token, &body).await
    }

    pub(crate) async fn patch(&self, path: &str, token: &str, body: Value) -> Answer {
        self.ask(Method::PATCH, path, token, &body).await
    }

    pub(crate) async fn delete(&self, path: &str, token: &str) -> Answer {
        self.ask(Method::DELETE, path, token, &Value::Null).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.expect("a response");
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 64 << 20).await.expect("a body").to_vec();
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// Makes the channel `team:ID` of its first member, who owns it, and the others.
    pub(crate) async fn channel(&self, id: &str, members: &[&str]) {
        let [owner, others @ ..] = members else { panic!("a channel has an owner") };
        self.post("channels", &user(owner), json!({ "type": "team", "id": id, "members": others })).await.good();
    }

    /// Sends a message to `team:ID`, and gives it as the answer has it.
    pub(crate) async fn say(&self, id: &str, who: &str, text: &str) -> Value {
        let path = format!("channels/team/{id}/messages");
        self.post(&path, &user(who), json!({ "text": text })).await.good()["message"].clone()
    }

    /// Serves the node on loopback.
    pub(crate) async fn serve(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (router, stop) = (self.router.clone(), self.stop.clone());
        tokio::spawn(async move {
            let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
            served.await.expect("served");
        });
        address
    }
}

/// A socket to a node.
pub(crate) struct Socket {
    pub(crate) stream: WebSocketStream<TcpStream>,
    /// The newest token to resume from.
    pub(crate) resume: String,
    /// The last place of each channel.
    pub(crate) seen: Map<String, Value>,
}

/// What came next.
#[derive(Debug, PartialEq)]
pub(crate) enum Came {
    Frame(Value),
    Closed(u16),
    Gone,
}

impl Socket {
    /// Connects, and says nothing.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("connects");
        let url = format!("ws://{address}/chat/v1/connect");
        let (stream, _) = tokio_tungstenite::client_async(url, stream).await.expect("upgraded");
        Self { stream, resume: String::new(), seen: Map::new() }
    }

    /// Connects as a user.
    pub(crate) async fn to(address: SocketAddr, who: &str) -> Self {
        let mut socket = Self::open(address).await;
        socket.say(json!({ "type": "hello", "id": 1, "api_key": KEY, "token": user(who) })).await;
        let welcome = socket.reply().await;
        assert_eq!((&welcome["type"], &welcome["user_id"]), (&json!("welcome"), &json!(who)), "{welcome}");
        socket
    }

    /// Connects again, from where this one was; gives the welcome too.
    pub(crate) async fn again(&self, address: SocketAddr, who: &str) -> (Self, Value) {
        let mut socket = Self::open(address).await;
        socket.seen = self.seen.clone();
        let hello = json!({
            "type": "hello", "id": 1, "api_key": KEY, "token": user(who), "resume": self.resume, "seen": self.seen,
        });
        socket.say(hello).await;
        let welcome = socket.reply().await;
        (socket, welcome)
    }

    pub(crate) async fn say(&mut self, frame: Value) {
        self.stream.send(Message::text(frame.to_string())).await.expect("sent");
    }

    /// Whatever comes next.
    pub(crate) async fn next(&mut self) -> Came {
        loop {
            let heard = tokio::time::timeout(PATIENCE, self.stream.next()).await.expect("something comes in time");
            match heard {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).expect("a JSON object");
                    if let Some(resume) = frame["resume"].as_str() {
                        resume.clone_into(&mut self.resume);
                    }
                    if let (Some(cid), Some(version)) = (frame["cid"].as_str(), frame["version"].as_u64()) {
                        let place = (version, frame["index"].as_u64().expect("an index"));
                        let before = self.seen.get(cid).map(|seen| (seen[0].as_u64(), seen[1].as_u64()));
                        assert!(before < Some((Some(place.0), Some(place.1))), "{frame} after {before:?}");
                        self.seen.insert(cid.to_owned(), json!([place.0, place.1]));
                    }
                    return Came::Frame(frame);
                }
                Some(Ok(Message::Close(Some(close)))) => return Came::Closed(close.code.into()),
                Some(Ok(_)) => {}
                None | Some(Err(_)) => return Came::Gone,
            }
        }
    }

    /// The next frame but for presence and `user.` events.
    pub(crate) async fn reply(&mut self) -> Value {
        loop {
            match self.next().await {
                Came::Frame(frame) if is_aside(&frame) => {}
                Came::Frame(frame) => return frame,
                other => panic!("{other:?} instead of a frame"),
            }
        }
    }

    /// The code with which the socket is closed; frames before it are passed over.
    pub(crate) async fn closed(&mut self) -> u16 {
        loop {
            match self.next().await {
                Came::Frame(_) => {}
                Came::Closed(code) => return code,
                Came::Gone => panic!("the socket went without a code"),
            }
        }
    }

    /// Frames until one of this type, which is the last.
    pub(crate) async fn until(&mut self, kind: &str) -> Value {
        loop {
            match self.next().await {
                Came::Frame(frame) if frame["type"] == kind => return frame,
                Came::Frame(_) => {}
                other => panic!("{other:?} instead of {kind}"),
            }
        }
    }

    /// Frames until there was one of each type, whichever comes first; gives these in the order asked for.
    pub(crate) async fn until_each<const N: usize>(&mut self, kinds: [&str; N]) -> [Value; N] {
        let mut found = [const { Value::Null }; N];
        while found.iter().any(Value::is_null) {
            match self.next().await {
                Came::Frame(frame) => {
                    if let Some((_, place)) = kinds.iter().zip(&mut found).find(|(kind, _)| frame["type"] == ***kind) {
                        *place = frame;
                    }
                }
                other => panic!("{other:?} instead of {kinds:?}"),
            }
        }
        found
    }

    /// Subscribes to channels from now on.
    pub(crate) async fn subscribe(&mut self, cids: &[&str]) -> Value {
        let channels: Vec<Value> = cids.iter().map(|cid| json!({ "cid": cid })).collect();
        self.say(json!({ "type": "subscribe", "id": "s", "channels": channels })).await;
        let reply = self.reply().await;
        assert_eq!((&reply["type"], &reply["id"]), (&json!("subscribed"), &json!("s")), "{reply}");
        reply
    }

    /// The texts of the next messages of all channels.
    pub(crate) async fn texts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::with_capacity(count);
        while texts.len() < count {
            let frame = self.until("message.new").await;
            texts.push(frame["message"]["text"].as_str().expect("a text").to_owned());
        }
        texts
    }

    /// Whether nothing but presence and the like comes for a while: a ping is answered by the next frame.
    pub(crate) async fn is_quiet(&mut self) {
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.say(json!({ "type": "ping", "id": "quiet" })).await;
        let reply = self.reply().await;
        assert_eq!(reply["type"], "pong", "{reply}");
    }
}

fn is_aside(frame: &Value) -> bool {
    let kind = frame["type"].as_str().unwrap_or_default();
    kind == "channel.presence" || kind == "resume" || kind == "heartbeat" || kind.starts_with("user.")
}
