//! A session over whatever a server likes: it brings the client's frames and takes away those for the client.
//!
//! The protocol is that of the WebSocket, but for liveness: the transport says when the client is gone, so that one which has
//! said all it wants to may go on listening.
//!
//! Invariant: what waits to be taken is bounded as a socket's queue is, and its seat is kept as long as anything waits: else a
//! client that takes nothing could have many queues at once. One that is dropped gives everything back.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use serde_json::json;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::outbox::{Closing, Outbox};
use super::session::{Came, Session};
use crate::gateway::ChatGateway;

/// A client's conversation in the realtime protocol of docs/CHAT-API.md, section 8. Dropping it ends it.
pub struct Conversation {
    outbox: Arc<Outbox>,
    heartbeat: Duration,
    /// Until the end was told.
    going: Option<DropGuard>,
}

/// How long what waits for a client is kept behind the end.
const FAREWELL: Duration = Duration::from_secs(10);

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Conversation")
    }
}

impl Conversation {
    /// Waits for frames and takes them, at most a few dozen at once; a heartbeat where nothing was said for long.
    ///
    /// # Errors
    /// Why the conversation is over, behind its last frame.
    pub async fn next(&mut self) -> Result<Vec<String>, Closing> {
        match tokio::time::timeout(self.heartbeat, self.outbox.take()).await {
            Ok(Ok(taken)) => Ok(taken.iter().map(|frame| frame.as_str().to_owned()).collect()),
            Ok(Err(closing)) => {
                drop(self.going.take());
                Err(closing)
            }
            Err(_quiet) => Ok(vec![json!({ "type": "heartbeat" }).to_string()]),
        }
    }
}

impl ChatGateway {
    /// Begins a conversation. `said` are the client's frames, `hello` first, each an object of JSON; an error ends the conversation
    /// for that reason, and after the end of `said` the client only listens. Must be called in a tokio runtime.
    pub fn converse(&self, said: BoxStream<'static, Result<String, Closing>>) -> Conversation {
        let options = &self.inner.options;
        let outbox = Arc::new(Outbox::new(options.queue_frames_max, options.queue_bytes_max));
        let dropped = CancellationToken::new();
        let heartbeat = options.heartbeat;
        if let Some(session) = Session::begin(self, &outbox, None) {
            let stop = self.inner.shared.stopping().clone();
            tokio::spawn(run(session, said, Arc::clone(&outbox), stop, dropped.clone()));
        } else {
            outbox.close(Closing::FULL);
        }
        Conversation { outbox, heartbeat, going: Some(dropped.drop_guard()) }
    }
}

/// Hears a client until either side ends.
async fn run(
    mut session: Session,
    said: BoxStream<'static, Result<String, Closing>>,
    outbox: Arc<Outbox>,
    stop: CancellationToken,
    dropped: CancellationToken,
) {
    let came = said.map(|said| match said {
        Ok(text) => Came::Text(Utf8Bytes::from(text)),
        Err(closing) => Came::Ended(Some(closing)),
    });
    let mut came = came.chain(stream::pending());
    let closing = {
        let reading = Box::pin(session.read(&mut came));
        tokio::select! {
            closing = reading => closing,
            () = stop.cancelled() => Some(Closing::STOPS),
            () = dropped.cancelled() => None,
        }
    };
    session.leave_channels();
    outbox.close(closing.unwrap_or(Closing::BYE));
    // What waits for the client counts as its own until it is told, or dropped.
    if tokio::time::timeout(FAREWELL, dropped.cancelled()).await.is_err() {
        outbox.clear();
    }
    drop(session);
}
