//! Client sessions: they make a retried request apply once.
//!
//! ```text
//! answered, rows dropped │ window: sequence → stored outcome │ new
//! ───────────────────────┴───────────────────────────────────┴────▶ sequence
//!                      floor = max(acked_below, highest + 1 − SESSION_WINDOW)
//! ```
//!
//! Invariant: a request below the floor, or of an unknown session, is never applied; a request in the
//! window whose outcome is stored gets that outcome again. The rows alone say all of this: memory holds
//! which sequences are known, the outcomes themselves stay in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::command::{Hlc, Outcome};
use crate::error::{Error, Result};
use crate::ids::{ClientId, RequestId, ShardId};
use crate::key::prefix_end;
use crate::limits::{SESSION_IDLE_MS_MAX, SESSION_WINDOW, SESSIONS_MAX};
use crate::mutants::{self, Mutant};
use crate::scan::Direction;
use crate::store::{Column, Store, StoreOp};
use crate::system::{SESSIONS, check_format, outcome_key, row_key, session_key};
use crate::wire::StoredOutcome;

const HEADER_FORMAT: u8 = 1;
const HEADER_BYTES: usize = 9;
/// The most idle sessions that one `OpenSession` drops: the work of an entry is bounded.
const DROPPED_AT_ONCE_MAX: usize = 64;

/// What is known of a request.
#[derive(Debug)]
pub(super) enum Seen {
    /// It was not applied before: apply it, then [`Sessions::record`] the outcome.
    New,
    /// It was applied; this was the answer.
    Before(Outcome),
    /// Nobody knows any more.
    Unknown(Error),
}

#[derive(Debug)]
pub(super) struct Sessions {
    shard: ShardId,
    clients: BTreeMap<ClientId, Session>,
    /// Rows to write with the current call; `None` = delete.
    pending: BTreeMap<Bytes, Option<Bytes>>,
}

#[derive(Debug, Default)]
struct Session {
    used: Hlc,
    floor: u64,
    known: BTreeSet<u64>,
}

impl Session {
    /// Takes in that `sequence` was applied at `hlc`; returns the sequences that leave the window.
    fn note(&mut self, sequence: u64, acked_below: u64, hlc: Hlc) -> BTreeSet<u64> {
        self.known.insert(sequence);
        self.used = self.used.max(hlc);
        let highest = self.known.last().copied().unwrap_or(sequence);
        let window_start = highest.saturating_sub(SESSION_WINDOW - 1);
        self.floor = self.floor.max(acked_below).max(window_start);
        let kept = self.known.split_off(&self.floor);
        std::mem::replace(&mut self.known, kept)
    }
}

impl Sessions {
    /// Loads the sessions of `shard` from its rows.
    pub(super) fn load<S: Store>(store: &S, shard: ShardId) -> Result<Self> {
        let prefix = row_key(shard, SESSIONS);
        let mut clients = BTreeMap::<ClientId, Session>::new();
        store.scan(Column::Data, &prefix, &prefix_end(&prefix), Direction::Forward, &mut |key, row| {
            let mut id = key.get(prefix.len()..).unwrap_or_default();
            match id.len() {
                16 => {
                    let session = clients.entry(ClientId(id.get_u128())).or_default();
                    session.used = session.used.max(decode_header(row)?);
                }
                24 => {
                    let (client, sequence) = (ClientId(id.get_u128()), id.get_u64());
                    let stored = StoredOutcome::decode(&Bytes::copy_from_slice(row))?;
                    let session = clients
                        .get_mut(&client)
                        .ok_or_else(|| Error::corrupt(format!("session {client} has outcomes but no header")))?;
                    session.note(sequence, stored.acked_below, stored.hlc);
                }
                length => return Err(Error::corrupt(format!("a session row's key ends in {length} bytes"))),
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(Self { shard, clients, pending: BTreeMap::new() })
    }

    /// Opens the session of `client`, or marks it as used. Long idle sessions, and beyond `SESSIONS_MAX` the
    /// least recently used, give way; never the client's own.
    pub(super) fn open(&mut self, client: ClientId, hlc: Hlc) {
        let idle_before_ms = hlc.ms().saturating_sub(SESSION_IDLE_MS_MAX);
        let idle = self.clients.iter().filter(|(id, session)| **id != client && session.used.ms() < idle_before_ms);
        for id in idle.map(|(id, _)| *id).take(DROPPED_AT_ONCE_MAX).collect::<Vec<_>>() {
            self.drop_session(id);
        }
        if !self.clients.contains_key(&client) && self.clients.len() >= SESSIONS_MAX {
            let oldest = self.clients.iter().min_by_key(|(id, session)| (session.used, **id)).map(|(id, _)| *id);
            if let Some(id) = oldest {
                self.drop_session(id);
            }
        }
        let session = self.clients.entry(client).or_default();
        session.used = session.used.max(hlc);
        self.pending.insert(session_key(self.shard, client), Some(encode_header(hlc)));
    }

    fn drop_session(&mut self, client: ClientId) {
        let Some(session) = self.clients.remove(&client) else { return };
        self.pending.insert(session_key(self.shard, client), None);
        for sequence in session.known {
            self.pending.insert(outcome_key(self.shard, client, sequence), None);
        }
    }

    /// Whether a request was applied before.
    pub(super) fn seen<S: Store>(&self, store: &S, request: &RequestId) -> Result<Seen> {
        let RequestId { client, sequence, .. } = *request;
        let Some(session) = self.clients.get(&client) else {
            return Ok(Seen::Unknown(Error::session_not_open(client)));
        };
        if session.known.contains(&sequence) && !mutants::is_on(Mutant::LostDedup) {
            let key = outcome_key(self.shard, client, sequence);
            let row = match self.pending.get(&key) {
                Some(pending) => pending.clone(),
                None => store.get(Column::Data, &key)?,
            };
            let row = row.ok_or_else(|| {
                Error::corrupt(format!("session {client} has lost the outcome of request {sequence}"))
            })?;
            return Ok(Seen::Before(StoredOutcome::decode(&row)?.outcome));
        }
        if sequence < session.floor || sequence < request.acked_below {
            return Ok(Seen::Unknown(Error::request_forgotten(client, sequence)));
        }
        Ok(Seen::New)
    }

    /// Keeps the outcome of a request that [`Self::seen`] called new.
    pub(super) fn record(&mut self, request: &RequestId, hlc: Hlc, outcome: &Outcome) {
        let RequestId { client, sequence, acked_below } = *request;
        let Some(session) = self.clients.get_mut(&client) else { return };
        let stored = StoredOutcome { hlc, acked_below, outcome: outcome.clone() };
        self.pending.insert(outcome_key(self.shard, client, sequence), Some(stored.encode()));
        for dropped in session.note(sequence, acked_below, hlc) {
            self.pending.insert(outcome_key(self.shard, client, dropped), None);
        }
    }

    /// Moves the rows of the current call into its batch.
    pub(super) fn drain_ops(&mut self, ops: &mut Vec<StoreOp>) {
        ops.extend(std::mem::take(&mut self.pending).into_iter().map(|(key, row)| match row {
            Some(row) => StoreOp::Put(Column::Data, key, row),
            None => StoreOp::Delete(Column::Data, key),
        }));
    }
}

fn encode_header(hlc: Hlc) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_BYTES);
    out.put_u8(HEADER_FORMAT);
    out.put_u64(hlc.0);
    out.freeze()
}

pub(crate) fn decode_header(mut row: &[u8]) -> Result<Hlc> {
    check_format(row, HEADER_FORMAT, "session header")?;
    if row.len() != HEADER_BYTES {
        return Err(Error::corrupt(format!("a session header has {} bytes, not {HEADER_BYTES}", row.len())));
    }
    row.advance(1);
    Ok(Hlc(row.get_u64()))
}
