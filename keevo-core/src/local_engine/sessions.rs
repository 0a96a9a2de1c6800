//! Sessions of an embedded engine: request ids make a retried write apply once.
//!
//! Invariant: a session is opened by its client's first request alone, or by hand. A later request of a
//! client that is not known is not applied: its session may have been dropped after the request was.

use super::{LocalEngine, unexpected};
use crate::batch::Batch;
use crate::command::{Command, Outcome};
use crate::error::Result;
use crate::ids::{ClientId, RequestId};

/// The session that a batch opens: that of a client's very first request (sequence 0, nothing acknowledged).
/// Where it is open already, opening it again changes nothing, and the request is answered as before.
pub(super) fn opens(batch: &Batch) -> Option<ClientId> {
    match batch.request {
        Some(RequestId { client, sequence: 0, acked_below: 0 }) => Some(client),
        _ => None,
    }
}

impl LocalEngine {
    /// Opens a client's session, so that its request ids are known from any sequence on; opening an open one
    /// is no error. A client that starts with sequence 0 need not call it: its first write opens the session.
    ///
    /// Without a session a write with a request id gives `OutcomeUnknown` and is not applied. Sessions idle
    /// for [`SESSION_IDLE_MS_MAX`](crate::limits::SESSION_IDLE_MS_MAX), and the least recently used beyond
    /// [`SESSIONS_MAX`](crate::limits::SESSIONS_MAX), are dropped.
    pub async fn open_session(&self, client: ClientId) -> Result<()> {
        match self.submit(Command::OpenSession(client), None).await? {
            Outcome::SessionOpened => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}
