//! The model's sessions: what each client was answered, so that a repeat is answered and not applied.
//!
//! Invariant: a sequence below the client's window is never applied again; its outcome is unknown.

use std::collections::BTreeMap;

use crate::batch::Written;
use crate::error::{Error, Result};
use crate::ids::{ClientId, RequestId};
use crate::limits::{SESSION_IDLE_MS_MAX, SESSION_WINDOW, SESSIONS_MAX};

#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_client: BTreeMap<ClientId, Session>,
    /// Grows with every use of any session: the order that "least recently used" means.
    uses: u64,
}

#[derive(Debug, Default)]
struct Session {
    answers: BTreeMap<u64, Result<Written>>,
    /// The first sequence that may still be applied or answered.
    window_start: u64,
    used_at_ms: u64,
    last_use: u64,
}

impl Sessions {
    /// Opens a session, or touches it where it is open, and drops those that are idle or too many.
    pub(super) fn open(&mut self, client: ClientId, now_ms: u64) {
        let idle = |session: &Session| session.used_at_ms.saturating_add(SESSION_IDLE_MS_MAX) < now_ms;
        self.by_client.retain(|&id, session| id == client || !idle(session));
        self.uses += 1;
        let session = self.by_client.entry(client).or_default();
        session.used_at_ms = now_ms;
        session.last_use = self.uses;
        while self.by_client.len() > SESSIONS_MAX {
            let oldest = self.by_client.iter().min_by_key(|(_, session)| session.last_use).map(|(&client, _)| client);
            self.by_client.remove(&oldest.expect("more sessions than the limit are not none"));
        }
    }

    /// The answer to a request that must not be applied: one already answered, or one that is not known to be new.
    pub(super) fn answer_to(&mut self, request: RequestId, now_ms: u64) -> Option<Result<Written>> {
        let Some(session) = self.by_client.get_mut(&request.client) else {
            return Some(Err(Error::session_not_open(request.client)));
        };
        self.uses += 1;
        session.used_at_ms = now_ms;
        session.last_use = self.uses;
        session.move_window(request.acked_below);
        if let Some(answer) = session.answers.get(&request.sequence) {
            return Some(answer.clone());
        }
        if request.sequence < session.window_start {
            return Some(Err(Error::request_forgotten(request.client, request.sequence)));
        }
        None
    }

    /// Keeps the answer to a request that was applied.
    pub(super) fn keep(&mut self, request: RequestId, answer: &Result<Written>) {
        if let Some(session) = self.by_client.get_mut(&request.client) {
            session.answers.insert(request.sequence, answer.clone());
            session.move_window(request.sequence.saturating_add(1).saturating_sub(SESSION_WINDOW));
        }
    }
}

impl Session {
    fn move_window(&mut self, start: u64) {
        if start > self.window_start {
            self.window_start = start;
            self.answers = self.answers.split_off(&start);
        }
    }
}
