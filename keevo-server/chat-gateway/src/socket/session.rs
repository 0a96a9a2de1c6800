//! One socket's conversation.
//!
//! Invariant: whatever ends a session (a close, an error, a dropped task), its watches and its seat are given back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use keevo_chat::{ChannelId, ResumeToken};
use keevo_gateway::apps::App;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::frame::{self, Asked, Bad, Heard};
use super::hub::{Channel, Hub, Seat};
use super::outbox::{Closing, Outbox};
use crate::error::Refusal;
use crate::gateway::ChatGateway;

mod hello;
mod subscribe;

/// Frames a second that a client may send, and how many at once.
const RATE: f64 = 20.0;
const BURST: f64 = 200.0;
/// How often a session looks at its times.
const TICK: Duration = Duration::from_secs(5);
/// How long a client may take to close its side.
const DRAIN: Duration = Duration::from_secs(1);
/// How long the last frames may take to be written.
const FAREWELL: Duration = Duration::from_secs(10);

/// What a session knows of whoever it talks to.
#[derive(Debug)]
struct Who {
    app: Arc<App>,
    key: String,
    user: Arc<str>,
    admin: bool,
    invisible: bool,
    /// When the token ends, in milliseconds since the epoch.
    expires_ms: Option<u64>,
}

/// A conversation.
struct Session {
    gateway: ChatGateway,
    hub: Hub,
    seat: Seat,
    outbox: Arc<Outbox>,
    who: Option<Who>,
    channels: BTreeMap<ChannelId, Arc<Channel>>,
    /// When each channel's right to type was last looked at.
    typing: BTreeMap<ChannelId, Instant>,
    heard: Instant,
    /// The places of the last token that was told, and when.
    told: Vec<ResumeToken>,
    told_at: Instant,
    budget: f64,
    budgeted: Instant,
}

impl Drop for Session {
    fn drop(&mut self) {
        for channel in self.channels.values() {
            self.hub.detach(channel, self.seat.number);
        }
        if let Some(who) = &self.who {
            self.hub.inner.users.leave(who.app.id, &who.user, self.seat.number);
        }
    }
}

/// Talks to a client until either side ends.
pub(super) async fn run(gateway: ChatGateway, socket: WebSocket) {
    let options = &gateway.inner.options;
    let outbox = Arc::new(Outbox::new(options.queue_frames_max, options.queue_bytes_max));
    let heartbeat = options.heartbeat;
    let (sink, mut stream) = socket.split();
    let Some(seat) = gateway.inner.hub.seat() else {
        outbox.close(Closing::FULL);
        write(sink, outbox, heartbeat).await;
        return;
    };
    let now = Instant::now();
    let hub = gateway.inner.hub.clone();
    let mut session = Session {
        gateway,
        hub,
        seat,
        outbox: Arc::clone(&outbox),
        who: None,
        channels: BTreeMap::new(),
        typing: BTreeMap::new(),
        heard: now,
        told: Vec::new(),
        told_at: now,
        budget: BURST,
        budgeted: now,
    };
    let mut writing = Box::pin(write(sink, Arc::clone(&outbox), heartbeat));
    let stop = session.gateway.inner.shared.stopping().clone();
    let ended = {
        let reading = Box::pin(session.read(&mut stream));
        tokio::select! {
            closing = reading => Ended::Read(closing),
            () = &mut writing => Ended::Written,
            () = stop.cancelled() => Ended::Read(Some(Closing::STOPS)),
        }
    };
    drop(session);
    let farewell = async {
        match ended {
            Ended::Read(None) => return,
            Ended::Read(Some(closing)) => {
                outbox.close(closing);
                writing.await;
            }
            Ended::Written => {}
        }
        // What the client still sends is read, since a socket that is closed with something unread loses its last frames.
        drop(tokio::time::timeout(DRAIN, stream.by_ref().for_each(|_| std::future::ready(()))).await);
    };
    if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
        tracing::trace!("a socket took too long to end");
    }
}

/// Which side of a session ended first.
enum Ended {
    /// Nothing more is read; with the reason that the client is to hear.
    Read(Option<Closing>),
    /// Everything is written, the end too.
    Written,
}

/// Writes what comes until the end, and why it ended. Something is said every `heartbeat` at least.
async fn write(mut sink: SplitSink<WebSocket, Message>, outbox: Arc<Outbox>, heartbeat: Duration) {
    let closing = loop {
        match tokio::time::timeout(heartbeat, outbox.take()).await {
            Ok(Ok(frames)) => {
                let mut written = futures::stream::iter(frames).map(|frame| Ok::<_, axum::Error>(Message::Text(frame)));
                tokio::select! {
                    sent = sink.send_all(&mut written) => {
                        if sent.is_err() {
                            return;
                        }
                    }
                    // What is too slow is not waited for without end.
                    () = overdue(&outbox) => break Closing::SLOW,
                }
            }
            Ok(Err(closing)) => break closing,
            Err(_quiet) => {
                let said = json!({ "type": "heartbeat" }).to_string();
                let beat = [Message::text(said), Message::Ping(bytes::Bytes::new())];
                for one in beat {
                    if sink.send(one).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    let last = Message::Close(Some(CloseFrame { code: closing.code, reason: closing.reason.into() }));
    let farewell = async {
        // It may be closed already, by the other side.
        drop(sink.send(last).await);
        drop(sink.close().await);
    };
    if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
        tracing::trace!("a socket took too long to close");
    }
}

/// Waits until the queue has ended while something is still being written, and a while longer.
async fn overdue(outbox: &Outbox) {
    loop {
        tokio::time::sleep(TICK).await;
        if outbox.closing().is_some() {
            return;
        }
    }
}

impl Session {
    /// Reads what the client says, until it ends or is to be ended.
    async fn read(&mut self, stream: &mut SplitStream<WebSocket>) -> Option<Closing> {
        let hello = self.gateway.inner.options.hello;
        let first = match tokio::time::timeout(hello, self.first(stream)).await {
            Err(_elapsed) => return Some(Closing::NO_HELLO),
            Ok(Err(closing)) => return closing,
            Ok(Ok(text)) => text,
        };
        if let Err(closing) = self.greet(&first).await {
            return Some(closing);
        }
        let tick = TICK.min(self.gateway.inner.options.silence / 4).max(Duration::from_millis(10));
        let mut ticks = tokio::time::interval_at(Instant::now() + tick, tick);
        loop {
            tokio::select! {
                heard = stream.next() => match self.text(heard) {
                    Ok(Some(text)) => {
                        if let Err(closing) = self.hear(&text).await {
                            return Some(closing);
                        }
                    }
                    Ok(None) => {}
                    Err(closing) => return closing,
                },
                _ = ticks.tick() => {
                    if let Err(closing) = self.look().await {
                        return Some(closing);
                    }
                }
            }
        }
    }

    /// The text of what was heard; `None` for what is no frame of the protocol but keeps the socket alive. An error ends
    /// the session, for a reason where the client is to hear one.
    fn text(&mut self, heard: Option<Result<Message, axum::Error>>) -> Result<Option<Utf8Bytes>, Option<Closing>> {
        match heard {
            None => Err(None),
            Some(Ok(Message::Close(_))) => Err(Some(Closing::BYE)),
            Some(Err(error)) => {
                // Other errors are of sockets that are gone.
                Err(error.to_string().contains("too long").then_some(Closing::TOO_LARGE))
            }
            Some(Ok(Message::Binary(_))) => Err(Some(Closing::BAD_FRAME)),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {
                self.heard = Instant::now();
                self.spend().map_err(Some)?;
                Ok(None)
            }
            Some(Ok(Message::Text(text))) => {
                self.heard = Instant::now();
                self.spend().map_err(Some)?;
                Ok(Some(text))
            }
        }
    }

    /// Counts a frame, or ends a client that sends too many.
    fn spend(&mut self) -> Result<(), Closing> {
        let now = Instant::now();
        self.budget = (self.budget + now.duration_since(self.budgeted).as_secs_f64() * RATE).min(BURST) - 1.0;
        self.budgeted = now;
        if self.budget < 0.0 { Err(Closing::FLOOD) } else { Ok(()) }
    }

    /// The text of the first frame.
    async fn first(&mut self, stream: &mut SplitStream<WebSocket>) -> Result<Utf8Bytes, Option<Closing>> {
        loop {
            let heard = stream.next().await;
            if let Some(text) = self.text(heard)? {
                return Ok(text);
            }
        }
    }

    /// Takes the first frame, which is a hello.
    async fn greet(&mut self, text: &str) -> Result<(), Closing> {
        match frame::parse(text) {
            Ok(Heard { id, asked: Asked::Hello(hello) }) => Box::pin(self.hello(&id, hello)).await,
            Ok(_) | Err(Bad::Alien) => Err(Closing::BAD_FRAME),
            Err(Bad::Refused(id, refusal)) => {
                self.outbox.push(frame::error(&id, &refusal));
                Err(Closing::BAD_FRAME)
            }
        }
    }

    async fn hear(&mut self, text: &str) -> Result<(), Closing> {
        let Heard { id, asked } = match frame::parse(text) {
            Ok(heard) => heard,
            Err(Bad::Alien) => return Err(Closing::BAD_FRAME),
            Err(Bad::Refused(id, refusal)) => {
                self.refuse(&id, &refusal);
                return Ok(());
            }
        };
        match asked {
            Asked::Hello(_) => return Err(Closing::BAD_FRAME),
            Asked::Ping => self.say(&json!({ "type": "pong", "id": id, "time": self.gateway.inner.shared.now_ms() })),
            Asked::Subscribe(wanted) => Box::pin(self.subscribe(&id, wanted)).await,
            Asked::Unsubscribe(cids) => self.unsubscribe(&id, &cids),
            Asked::Typing { cid, parent_id, typing } => {
                if let Err(refusal) = Box::pin(self.types(&cid, parent_id, typing)).await {
                    self.refuse(&id, &refusal);
                }
            }
            Asked::Token(token) => match self.renew(&token) {
                Ok(()) => self.say(&json!({ "type": "ok", "id": id })),
                Err(refusal) => self.refuse(&id, &refusal),
            },
        }
        Ok(())
    }

    fn say(&self, frame: &Value) {
        self.outbox.push(frame.to_string().into());
    }

    fn refuse(&self, id: &Value, refusal: &Refusal) {
        self.outbox.push(frame::error(id, refusal));
    }

    /// Looks at what time has done: a silent client, a token that ended, an app that was suspended, a token to resume from.
    async fn look(&mut self) -> Result<(), Closing> {
        let options = &self.gateway.inner.options;
        if self.heard.elapsed() > options.silence {
            return Err(Closing::SILENT);
        }
        let Some(who) = &self.who else { return Ok(()) };
        if who.expires_ms.is_some_and(|expires| expires < self.gateway.inner.shared.now_ms()) {
            return Err(Closing::TOKEN);
        }
        match self.gateway.inner.shared.app_of_key(&who.key).await {
            Ok(_) => {}
            Err(error) if error.code() == 7 => return Err(Closing::DENIED),
            Err(error) if error.code() == 2 => return Err(Closing::TOKEN),
            Err(_unavailable) => tracing::debug!("the app cannot be looked at now"),
        }
        if self.told_at.elapsed() >= options.heartbeat
            && let Some(token) = self.fresh_token()
        {
            self.say(&json!({ "type": "resume", "resume": token }));
        }
        Ok(())
    }
}
