//! A session over a WebSocket: frames of text in both directions, and a close code at the end.
//!
//! Invariant: nothing is waited for without end: a client that takes nothing is closed once its queue has ended.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures::stream::SplitSink;
use futures::{SinkExt, StreamExt};
use serde_json::json;

use super::outbox::{Closing, Outbox};
use super::session::{Came, Session, TICK};
use crate::gateway::ChatGateway;

/// How long a client may take to close its side.
const DRAIN: Duration = Duration::from_secs(1);
/// How long the last frames may take to be written.
const FAREWELL: Duration = Duration::from_secs(10);

/// Which side of a session ended first.
enum Ended {
    /// Nothing more is read; with the reason that the client is to hear.
    Read(Option<Closing>),
    /// Everything is written, the end too.
    Written,
}

/// Talks to a client until either side ends.
pub(super) async fn run(gateway: ChatGateway, socket: WebSocket) {
    let options = &gateway.inner.options;
    let outbox = Arc::new(Outbox::new(options.queue_frames_max, options.queue_bytes_max));
    let (sink, stream) = socket.split();
    let mut writing = Box::pin(write(sink, Arc::clone(&outbox), options.heartbeat));
    let Some(mut session) = Session::begin(&gateway, &outbox, Some(options.silence)) else {
        outbox.close(Closing::FULL);
        writing.await;
        return;
    };
    let mut stream = stream.map(came);
    let stop = gateway.inner.shared.stopping().clone();
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
        drop(tokio::time::timeout(DRAIN, stream.for_each(|_| std::future::ready(()))).await);
    };
    if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
        tracing::trace!("a socket took too long to end");
    }
}

/// What a message of a WebSocket is to a session.
fn came(heard: Result<Message, axum::Error>) -> Came {
    match heard {
        Ok(Message::Text(text)) => Came::Text(text),
        Ok(Message::Ping(_) | Message::Pong(_)) => Came::Alive,
        Ok(Message::Binary(_)) => Came::Ended(Some(Closing::BAD_FRAME)),
        Ok(Message::Close(_)) => Came::Ended(Some(Closing::BYE)),
        // Other errors are of sockets that are gone.
        Err(error) => Came::Ended(error.to_string().contains("too long").then_some(Closing::TOO_LARGE)),
    }
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
