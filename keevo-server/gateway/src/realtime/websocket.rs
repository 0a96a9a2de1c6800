//! The messages of Bayeux over a WebSocket: the same handshake, subscriptions and channels, and news as they come.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::Response;
use serde_json::Value;
use tokio::time::Instant;

use super::Client;
use super::bayeux::{self, BODY_BYTES_MAX};
use crate::gateway::Gateway;

/// How long a socket may be silent.
const IDLE: Duration = Duration::from_secs(90);

/// Takes a socket at `/realtime`.
pub(crate) async fn serve(State(gateway): State<Gateway>, upgrade: WebSocketUpgrade) -> Response<Body> {
    accept(gateway, upgrade)
}

/// Takes a socket.
pub(super) fn accept(gateway: Gateway, upgrade: WebSocketUpgrade) -> Response<Body> {
    upgrade.max_message_size(BODY_BYTES_MAX).max_frame_size(BODY_BYTES_MAX).on_upgrade(move |socket| async move {
        let stop = gateway.inner.stop.clone();
        let mut session = Session { gateway, client: None, connect: None, heard: Instant::now() };
        stop.run_until_cancelled(session.run(socket)).await;
        if let Some(client) = session.client {
            session.gateway.inner.hub.clients().remove(&client.id);
        }
    })
}

/// A socket's conversation.
struct Session {
    gateway: Gateway,
    client: Option<Arc<Client>>,
    /// The reply to a connect that waits, and when it is due.
    connect: Option<(Instant, Value)>,
    heard: Instant,
}

/// What happened next.
enum Next {
    Heard(Option<Message>),
    News,
    Due,
    Silent,
}

impl Session {
    async fn run(&mut self, mut socket: WebSocket) {
        loop {
            let out = match self.next(&mut socket).await {
                Next::Heard(Some(Message::Text(text))) => match self.hear(text.as_str()).await {
                    Some(replies) => replies,
                    None => return,
                },
                Next::Heard(Some(Message::Ping(_) | Message::Pong(_))) => Vec::new(),
                Next::Heard(_) | Next::Silent => return,
                Next::News => self.client.as_ref().map(|client| client.take()).unwrap_or_default(),
                Next::Due => self.connect.take().map(|(_, reply)| reply).into_iter().collect(),
            };
            if !out.is_empty() && socket.send(Message::text(Value::Array(out).to_string())).await.is_err() {
                return;
            }
        }
    }

    async fn next(&mut self, socket: &mut WebSocket) -> Next {
        let news = async {
            match &self.client {
                Some(client) => {
                    let news = client.news.notified();
                    if !client.has_news() {
                        news.await;
                    }
                }
                None => std::future::pending().await,
            }
        };
        let due = self.connect.as_ref().map(|(due, _)| *due);
        let due = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            heard = socket.recv() => {
                self.heard = Instant::now();
                Next::Heard(heard.and_then(Result::ok))
            }
            () = news => Next::News,
            () = due => Next::Due,
            () = tokio::time::sleep_until(self.heard + IDLE) => Next::Silent,
        }
    }

    /// Replies to a frame; `None` ends the socket. An empty list keeps it alive.
    async fn hear(&mut self, text: &str) -> Option<Vec<Value>> {
        let mut replies = Vec::new();
        for message in bayeux::parse(text)? {
            let replied = bayeux::respond(&self.gateway, &message).await;
            let id = replied.reply.get("clientId").and_then(Value::as_str).unwrap_or_default();
            if self.client.as_ref().is_none_or(|client| client.id != id) {
                let client = self.gateway.inner.hub.clients().get(id);
                if client.is_some() {
                    self.client = client;
                }
            }
            match replied.waits {
                // It is replied to when its time is up; news needs no connect here.
                Some(waits) if waits.for_ms > 0 => {
                    if let Some((_, before)) = self.connect.take() {
                        replies.push(before);
                    }
                    let due = Instant::now() + Duration::from_millis(waits.for_ms);
                    self.connect = Some((due, replied.reply));
                }
                _ => replies.push(replied.reply),
            }
        }
        Some(replies)
    }
}
