//! Who watches: a socket that is dropped again and again, resumed at any node, and what it has put together.
//!
//! Invariant: what a watcher knows of a channel is made of events alone, but where the server told it to reload; every
//! reload is counted.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use keevo_core::{Error, ErrorKind, Random, Result, SeededRandom};
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_util::sync::CancellationToken;

use super::api::{Api, KEY, token};
use super::history::History;

/// How long a socket may take until it is welcome: a node that dies meanwhile says nothing.
const WELCOME_WITHIN: Duration = Duration::from_secs(15);
/// How long nothing may be heard: a node that is alive says something every 25 s.
const SILENCE: Duration = Duration::from_secs(50);
/// How long a socket lasts, and how much may be added to it, in milliseconds.
const LASTS_MS: u64 = 300;
const LASTS_MORE_MS: u64 = 4_000;
/// One drop in so many is followed by an absence of up to so long, in milliseconds.
const AWAY_ONE_IN: u64 = 4;
const AWAY_MS: u64 = 2_000;
/// The largest page of history.
const PAGE: usize = 100;

type Socket = WebSocketStream<TcpStream>;

/// What a watcher knows of each channel, and what has happened to it.
#[derive(Debug)]
pub(super) struct Views {
    histories: Mutex<Vec<History>>,
    /// Channels that it has subscribed to since it began.
    pub(super) subscribed: AtomicU64,
    pub(super) drops: AtomicU64,
    /// Connections that went on from a token.
    pub(super) resumes: AtomicU64,
    /// Those of them at another node.
    pub(super) moves: AtomicU64,
    /// Channels that the server had it reload.
    pub(super) reloads: AtomicU64,
}

impl Views {
    pub(super) fn new(channels: usize) -> Self {
        Self {
            histories: Mutex::new(vec![History::default(); channels]),
            subscribed: AtomicU64::new(0),
            drops: AtomicU64::new(0),
            resumes: AtomicU64::new(0),
            moves: AtomicU64::new(0),
            reloads: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<History>> {
        self.histories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The highest sequence that it knows of a channel.
    pub(super) fn last(&self, channel: usize) -> u64 {
        self.lock().get(channel).map_or(0, History::last)
    }

    /// The first difference to the histories that are stored, with the channel's number.
    pub(super) fn difference(&self, stored: &[History]) -> Option<(usize, String)> {
        let own = self.lock();
        own.iter().zip(stored).enumerate().find_map(|(at, (own, stored))| Some((at, own.difference(stored)?)))
    }
}

/// Somebody who watches all channels.
pub(super) struct Watcher {
    pub(super) api: Api,
    pub(super) user: String,
    /// The channels' cids, and their paths.
    pub(super) cids: Arc<Vec<String>>,
    pub(super) paths: Arc<Vec<String>>,
    pub(super) views: Arc<Views>,
    pub(super) random: SeededRandom,
    pub(super) stop: CancellationToken,
    resume: Option<String>,
    node: Option<SocketAddr>,
}

/// How a connection ended, or did not begin.
enum End {
    /// By itself, by the node's death, or by the server's wish to be resumed.
    Again,
    /// The token is none any more.
    Anew,
}

/// What became of a frame.
enum Heard {
    Taken,
    /// A channel is to be read again.
    Reload(usize),
    /// The socket is to be opened again.
    Again,
}

impl Watcher {
    pub(super) fn new(
        api: &Api,
        user: String,
        (cids, paths): (&Arc<Vec<String>>, &Arc<Vec<String>>),
        views: &Arc<Views>,
        seed: u64,
        stop: &CancellationToken,
    ) -> Self {
        Self {
            api: api.clone(),
            user,
            cids: Arc::clone(cids),
            paths: Arc::clone(paths),
            views: Arc::clone(views),
            random: SeededRandom::new(seed),
            stop: stop.clone(),
            resume: None,
            node: None,
        }
    }

    /// Watches until it is told to stop.
    pub(super) async fn run(mut self) {
        let stop = self.stop.clone();
        let watching = async {
            loop {
                match Box::pin(self.connection()).await {
                    Ok(End::Again) => {}
                    Ok(End::Anew) => self.resume = None,
                    Err(error) => self.api.complain(format!("watcher {}: {error}", self.user)),
                }
                let away = if self.below(AWAY_ONE_IN) == 0 { self.below(AWAY_MS) } else { 0 };
                tokio::time::sleep(self.api.pause() + Duration::from_millis(away)).await;
            }
        };
        stop.run_until_cancelled(watching).await;
    }

    fn below(&self, bound: u64) -> u64 {
        self.random.next_u64() % bound.max(1)
    }

    /// One connection, from its beginning until it is dropped.
    async fn connection(&mut self) -> Result<End> {
        let node = self.api.any()?;
        let greeting = tokio::time::timeout(WELCOME_WITHIN, self.greet(node)).await;
        let Some((mut socket, welcome)) = greeting.ok().flatten() else { return Ok(End::Again) };
        if welcome.get("type").and_then(Value::as_str) != Some("welcome") {
            return match welcome.pointer("/error/code").and_then(Value::as_i64) {
                Some(-1 | 9) => Ok(End::Again),
                Some(4) => Ok(End::Anew),
                _ => Err(Error::invalid(format!("the hello was answered with {welcome}"))),
            };
        }
        if self.resume.is_some() {
            self.views.resumes.fetch_add(1, Ordering::Relaxed);
            self.views.moves.fetch_add(u64::from(self.node != Some(node)), Ordering::Relaxed);
        }
        self.node = Some(node);
        let told: Vec<Option<String>> =
            (0..self.cids.len()).map(|at| self.status(&welcome, at).map(str::to_owned)).collect();
        if told.iter().flatten().any(|status| status == "error") {
            // The node cannot reach a channel's shard now. The token that was sent is as good as it was.
            return if is_passing(&welcome) {
                Ok(End::Again)
            } else {
                Err(Error::invalid(format!("refused: {welcome}")))
            };
        }
        self.keep_token(&welcome);
        for (at, status) in told.iter().enumerate() {
            if status.as_deref() == Some("ok") {
                continue;
            }
            self.views.reloads.fetch_add(u64::from(status.is_some()), Ordering::Relaxed);
            if !self.reload(&mut socket, at).await? {
                return Ok(End::Again);
            }
        }
        let lasts = Duration::from_millis(LASTS_MS + self.below(LASTS_MORE_MS));
        let listened = tokio::time::timeout(lasts, self.listen(&mut socket)).await;
        listened.unwrap_or_else(|_elapsed| {
            // Dropped without a word.
            self.views.drops.fetch_add(1, Ordering::Relaxed);
            Ok(End::Again)
        })
    }

    /// Connects and says hello; the first frame that comes back.
    async fn greet(&self, node: SocketAddr) -> Option<(Socket, Value)> {
        let stream = TcpStream::connect(node).await.ok()?;
        let url = format!("ws://{node}/chat/v1/connect");
        let settings = WebSocketConfig::default();
        let (mut socket, _) = tokio_tungstenite::client_async_with_config(url, stream, Some(settings)).await.ok()?;
        let mut hello = json!({ "type": "hello", "id": 1, "api_key": KEY, "token": token(&self.user).ok()? });
        if let (Some(resume), Some(hello)) = (&self.resume, hello.as_object_mut()) {
            hello.insert("resume".to_owned(), json!(resume));
            hello.insert("seen".to_owned(), self.seen());
        }
        socket.send(Message::text(hello.to_string())).await.ok()?;
        let welcome = next(&mut socket).await?;
        Some((socket, welcome))
    }

    /// The last place of each channel.
    fn seen(&self) -> Value {
        let histories = self.views.lock();
        let places = self.cids.iter().zip(histories.iter());
        let places = places.filter_map(|(cid, history)| Some((cid.clone(), json!(history.seen?))));
        Value::Object(places.collect::<Map<String, Value>>())
    }

    /// What a welcome or a reply says of a channel.
    fn status<'a>(&self, frame: &'a Value, at: usize) -> Option<&'a str> {
        let cid = self.cids.get(at)?;
        let channels = frame.get("channels")?.as_array()?;
        channels.iter().find(|one| one.get("cid").and_then(Value::as_str) == Some(cid))?.get("status")?.as_str()
    }

    fn keep_token(&mut self, frame: &Value) {
        if let Some(token) = frame.get("resume").and_then(Value::as_str) {
            self.resume = Some(token.to_owned());
        }
    }

    /// Reads a channel and subscribes from there; false where the socket is gone meanwhile.
    async fn reload(&mut self, socket: &mut Socket, at: usize) -> Result<bool> {
        let (Some(path), Some(cid)) = (self.paths.get(at).cloned(), self.cids.get(at).cloned()) else {
            return Err(Error::invalid("there is no such channel"));
        };
        let get = hyper::Method::GET;
        let state = self.api.call(&get, &format!("{path}?messages={PAGE}&members=0"), &self.user, &Value::Null).await?;
        let mut read = History::default();
        let mut page = state.clone();
        let mut before = state.get("before").and_then(Value::as_u64);
        loop {
            for message in page.get("messages").and_then(Value::as_array).into_iter().flatten() {
                read.read(message).map_err(Error::invalid)?;
            }
            let Some(older) = before else { break };
            let path = format!("{path}/messages?limit={PAGE}&before={older}");
            page = self.api.call(&get, &path, &self.user, &Value::Null).await?;
            before = page.get("next").and_then(Value::as_u64);
        }
        {
            let mut histories = self.views.lock();
            let history = histories.get_mut(at).ok_or_else(|| Error::invalid("there is no such channel"))?;
            if history.last() > read.last() {
                let message = format!("{cid} was read up to {}, and {} had come before", read.last(), history.last());
                return Err(Error::corrupt(message));
            }
            *history = read;
        }
        let wanted = json!([{ "cid": cid, "resume": state.get("resume") }]);
        let subscribe = json!({ "type": "subscribe", "id": at + 10, "channels": wanted });
        Ok(socket.send(Message::text(subscribe.to_string())).await.is_ok())
    }

    /// Listens until the socket ends.
    async fn listen(&mut self, socket: &mut Socket) -> Result<End> {
        loop {
            let heard = tokio::time::timeout(SILENCE, socket.next()).await.map_err(|elapsed| {
                let message = format!("nothing was heard for {} s", SILENCE.as_secs());
                Error::new(ErrorKind::DeadlineExceeded, message).with_source(elapsed)
            })?;
            match heard {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text)
                        .map_err(|error| Error::invalid("a frame is no JSON").with_source(error))?;
                    match self.hear(&frame)? {
                        Heard::Taken => {}
                        Heard::Again => return Ok(End::Again),
                        Heard::Reload(at) => {
                            self.views.reloads.fetch_add(1, Ordering::Relaxed);
                            if !self.reload(socket, at).await? {
                                return Ok(End::Again);
                            }
                        }
                    }
                }
                Some(Ok(Message::Close(Some(close)))) => {
                    return match u16::from(close.code) {
                        1_001 | 4_008..=4_011 => Ok(End::Again),
                        4_005 => Ok(End::Anew),
                        code => Err(Error::invalid(format!("the socket was closed with {code}: {}", close.reason))),
                    };
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Ok(End::Again),
            }
        }
    }

    /// Takes in a frame.
    fn hear(&mut self, frame: &Value) -> Result<Heard> {
        let kind = frame.get("type").and_then(Value::as_str).unwrap_or_default();
        let cid = frame.get("cid").and_then(Value::as_str);
        let at = cid.and_then(|cid| self.cids.iter().position(|one| one == cid));
        match (kind, at) {
            ("channel.reload", Some(at)) => return Ok(Heard::Reload(at)),
            ("channel.removed" | "error", _) => return Err(Error::invalid(format!("the server said {frame}"))),
            ("subscribed", _) => {
                for at in 0..self.cids.len() {
                    match self.status(frame, at) {
                        None => {}
                        Some("ok") => drop(self.views.subscribed.fetch_add(1, Ordering::Relaxed)),
                        Some("reload") => return Ok(Heard::Reload(at)),
                        Some(_) if is_passing(frame) => return Ok(Heard::Again),
                        Some(_) => return Err(Error::invalid(format!("a subscription was refused: {frame}"))),
                    }
                }
            }
            (_, Some(at)) => {
                let heard = self.views.lock().get_mut(at).map(|history| history.hear(frame));
                let cid = cid.unwrap_or_default();
                heard.unwrap_or(Ok(())).map_err(|fault| Error::corrupt(format!("{cid}: {fault}")))?;
            }
            _ => {}
        }
        self.keep_token(frame);
        Ok(Heard::Taken)
    }
}

/// Whether the channels that a frame refuses are refused for a while only: code -1.
fn is_passing(frame: &Value) -> bool {
    let channels = frame.get("channels").and_then(Value::as_array).into_iter().flatten();
    let mut codes = channels.filter_map(|one| one.pointer("/error/code")?.as_i64());
    codes.all(|code| code == -1)
}

/// The next frame of a socket.
async fn next(socket: &mut Socket) -> Option<Value> {
    loop {
        match socket.next().await?.ok()? {
            Message::Text(text) => return serde_json::from_str(&text).ok(),
            Message::Close(_) => return None,
            _ => {}
        }
    }
}
