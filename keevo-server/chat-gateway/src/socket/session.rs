//! One client's conversation, whatever brings its frames: [`websocket`](super::websocket), or [`conversation`](super::conversation).
//!
//! Invariant: whatever ends a session (a close, an error, a dropped task), its watches and its seat are given back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use futures::{Stream, StreamExt};
use keevo_chat::{ChannelId, ResumeToken};
use keevo_gateway::apps::App;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::frame::{self, Asked, Bad, Heard};
use super::hub::{Channel, Hub, Seat};
use super::outbox::{Closing, Outbox};
use super::users::Watched;
use crate::error::Refusal;
use crate::gateway::ChatGateway;

mod hello;
mod subscribe;

/// Frames a second that a client may send, and how many at once.
const RATE: f64 = 20.0;
const BURST: f64 = 200.0;
/// How often a session looks at its times.
pub(super) const TICK: Duration = Duration::from_secs(5);

/// What comes from a client.
#[derive(Debug)]
pub(super) enum Came {
    /// A frame.
    Text(Utf8Bytes),
    /// What is no frame of the protocol, but says that the client is there.
    Alive,
    /// The end of what comes; with the reason that the client is to hear, where it hears any.
    Ended(Option<Closing>),
}

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
pub(super) struct Session {
    gateway: ChatGateway,
    hub: Hub,
    seat: Seat,
    outbox: Arc<Outbox>,
    /// How long the client may say nothing; `None` = its transport says when it is gone.
    silence: Option<Duration>,
    who: Option<Who>,
    /// The shard of the user, which is read as long as the socket lives.
    watched: Option<Watched>,
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
        self.leave_channels();
        if let Some(who) = &self.who {
            self.hub.inner.users.leave(who.app.id, &who.user, self.seat.number);
        }
    }
}

impl Session {
    /// Leaves all channels, and keeps its seat.
    pub(super) fn leave_channels(&mut self) {
        for channel in std::mem::take(&mut self.channels).values() {
            self.hub.detach(channel, self.seat.number);
        }
    }

    /// A conversation that begins, whose frames go into `outbox`; `None` where the node is full.
    pub(super) fn begin(gateway: &ChatGateway, outbox: &Arc<Outbox>, silence: Option<Duration>) -> Option<Self> {
        let (now, hub) = (Instant::now(), gateway.inner.hub.clone());
        Some(Self {
            gateway: gateway.clone(),
            seat: hub.seat()?,
            hub,
            outbox: Arc::clone(outbox),
            silence,
            who: None,
            watched: None,
            channels: BTreeMap::new(),
            typing: BTreeMap::new(),
            heard: now,
            told: Vec::new(),
            told_at: now,
            budget: BURST,
            budgeted: now,
        })
    }

    /// Reads what the client says, until it ends or is to be ended.
    pub(super) async fn read(&mut self, stream: &mut (impl Stream<Item = Came> + Unpin)) -> Option<Closing> {
        let hello = self.gateway.inner.options.hello;
        let first = match tokio::time::timeout(hello, self.first(stream)).await {
            Err(_elapsed) => return Some(Closing::NO_HELLO),
            Ok(Err(closing)) => return closing,
            Ok(Ok(text)) => text,
        };
        if let Err(closing) = self.greet(&first).await {
            return Some(closing);
        }
        let tick = self.silence.map_or(TICK, |silence| TICK.min(silence / 4)).max(Duration::from_millis(10));
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

    /// The text of what was heard; `None` for what keeps the conversation alive and no more. An error ends the session, for a
    /// reason where the client is to hear one.
    fn text(&mut self, heard: Option<Came>) -> Result<Option<Utf8Bytes>, Option<Closing>> {
        let text = match heard {
            None => return Err(None),
            Some(Came::Ended(closing)) => return Err(closing),
            Some(Came::Alive) => None,
            Some(Came::Text(text)) => Some(text),
        };
        self.heard = Instant::now();
        self.spend().map_err(Some)?;
        Ok(text)
    }

    /// Counts a frame, or ends a client that sends too many.
    fn spend(&mut self) -> Result<(), Closing> {
        let now = Instant::now();
        self.budget = (self.budget + now.duration_since(self.budgeted).as_secs_f64() * RATE).min(BURST) - 1.0;
        self.budgeted = now;
        if self.budget < 0.0 { Err(Closing::FLOOD) } else { Ok(()) }
    }

    /// The text of the first frame.
    async fn first(&mut self, stream: &mut (impl Stream<Item = Came> + Unpin)) -> Result<Utf8Bytes, Option<Closing>> {
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
        if let Some(closing) = self.outbox.closing() {
            return Err(closing);
        }
        if self.silence.is_some_and(|silence| self.heard.elapsed() > silence) {
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
        if self.told_at.elapsed() >= self.gateway.inner.options.heartbeat
            && let Some(token) = self.fresh_token()
        {
            self.say(&json!({ "type": "resume", "resume": token }));
        }
        Ok(())
    }
}
