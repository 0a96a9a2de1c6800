//! Client sessions: they make a retried request apply once.
//!
//! ```text
//! answered, rows dropped │ window: sequence → stored outcome │ new
//! ───────────────────────┴───────────────────────────────────┴────▶ sequence
//!                      floor = max(acked_below, highest + 1 − SESSION_WINDOW)
//! row: the outcomes of a chunk of CHUNK sequences; it goes when the whole chunk lies below the floor
//! ```
//!
//! A row for each request would cost a put and a delete; the requests of a chunk share both, and those that are applied
//! in one call share one write of the row.
//!
//! Invariant: a request below the floor, or of an unknown session, is never applied; a request in the
//! window whose outcome is stored gets that outcome again. The rows alone say all of this: memory holds
//! which sequences are known, the outcomes themselves stay in the store. The rows follow from the requests, not from
//! how they were cut into calls.

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
use crate::system::{SESSIONS, check_format, outcomes_key, row_key, session_key};
use crate::wire::{StoredOutcome, StoredOutcomes};

const HEADER_FORMAT: u8 = 1;
const HEADER_BYTES: usize = 9;
/// The most idle sessions that one `OpenSession` drops: the work of an entry is bounded.
const DROPPED_AT_ONCE_MAX: usize = 64;
/// How many sequences share a row.
const CHUNK: u64 = 16;

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
    /// Headers to write with the current call; `None` = delete.
    headers: BTreeMap<ClientId, Option<Hlc>>,
    /// Chunks to write with the current call; `None` = delete.
    chunks: BTreeMap<(ClientId, u64), Option<StoredOutcomes>>,
}

#[derive(Debug, Default)]
struct Session {
    used: Hlc,
    floor: u64,
    known: BTreeSet<u64>,
    /// The chunks that have a row.
    rows: BTreeSet<u64>,
}

impl Session {
    /// Takes in that `sequence` was applied at `hlc`.
    fn note(&mut self, sequence: u64, acked_below: u64, hlc: Hlc) {
        self.known.insert(sequence);
        self.rows.insert(sequence / CHUNK);
        self.used = self.used.max(hlc);
        let highest = self.known.last().copied().unwrap_or(sequence);
        let window_start = highest.saturating_sub(SESSION_WINDOW - 1);
        self.floor = self.floor.max(acked_below).max(window_start);
        if self.known.first().is_some_and(|lowest| *lowest < self.floor) {
            self.known = self.known.split_off(&self.floor);
        }
    }

    /// The chunks whose sequences all lie below the floor; they count as dropped.
    fn take_passed(&mut self) -> BTreeSet<u64> {
        let first_kept = self.floor / CHUNK;
        if self.rows.first().is_none_or(|lowest| *lowest >= first_kept) {
            return BTreeSet::new();
        }
        let kept = self.rows.split_off(&first_kept);
        std::mem::replace(&mut self.rows, kept)
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
                    let (client, chunk) = (ClientId(id.get_u128()), id.get_u64());
                    let session = clients
                        .get_mut(&client)
                        .ok_or_else(|| Error::corrupt(format!("session {client} has outcomes but no header")))?;
                    for (sequence, stored) in StoredOutcomes::decode(&Bytes::copy_from_slice(row))?.0 {
                        if sequence / CHUNK != chunk {
                            return Err(Error::corrupt(format!("an outcome of session {client} lies in a wrong row")));
                        }
                        session.note(sequence, stored.acked_below, stored.hlc);
                    }
                }
                length => return Err(Error::corrupt(format!("a session row's key ends in {length} bytes"))),
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(Self { shard, clients, headers: BTreeMap::new(), chunks: BTreeMap::new() })
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
        self.headers.insert(client, Some(hlc));
    }

    fn drop_session(&mut self, client: ClientId) {
        let Some(session) = self.clients.remove(&client) else { return };
        self.headers.insert(client, None);
        self.chunks.extend(session.rows.into_iter().map(|chunk| ((client, chunk), None)));
    }

    /// Whether a request was applied before.
    pub(super) fn seen<S: Store>(&self, store: &S, request: &RequestId) -> Result<Seen> {
        let RequestId { client, sequence, .. } = *request;
        let Some(session) = self.clients.get(&client) else {
            return Ok(Seen::Unknown(Error::session_not_open(client)));
        };
        if session.known.contains(&sequence) && !mutants::is_on(Mutant::LostDedup) {
            let lost = || Error::corrupt(format!("session {client} has lost the outcome of request {sequence}"));
            let chunk = sequence / CHUNK;
            let stored = match self.chunks.get(&(client, chunk)) {
                Some(pending) => pending.as_ref().and_then(|stored| stored.0.get(&sequence)).cloned(),
                None => self.stored(store, client, chunk)?.0.remove(&sequence),
            };
            return stored.map(|stored| Seen::Before(stored.outcome)).ok_or_else(lost);
        }
        if sequence < session.floor || sequence < request.acked_below {
            return Ok(Seen::Unknown(Error::request_forgotten(client, sequence)));
        }
        Ok(Seen::New)
    }

    /// The outcomes in the row of a chunk; none if there is no row.
    fn stored<S: Store>(&self, store: &S, client: ClientId, chunk: u64) -> Result<StoredOutcomes> {
        let row = store.get(Column::Data, &outcomes_key(self.shard, client, chunk))?;
        row.map_or_else(|| Ok(StoredOutcomes::default()), |row| StoredOutcomes::decode(&row))
    }

    /// Keeps the outcome of a request that [`Self::seen`] called new.
    pub(super) fn record<S: Store>(
        &mut self,
        store: &S,
        request: &RequestId,
        hlc: Hlc,
        outcome: &Outcome,
    ) -> Result<()> {
        let RequestId { client, sequence, acked_below } = *request;
        let chunk = sequence / CHUNK;
        let Some(session) = self.clients.get(&client) else { return Ok(()) };
        if !matches!(self.chunks.get(&(client, chunk)), Some(Some(_))) {
            // The row is read once a call, and only if there is one.
            let has_row = session.rows.contains(&chunk);
            let before = if has_row { self.stored(store, client, chunk)? } else { StoredOutcomes::default() };
            self.chunks.insert((client, chunk), Some(before));
        }
        if let Some(Some(stored)) = self.chunks.get_mut(&(client, chunk)) {
            stored.0.insert(sequence, StoredOutcome { hlc, acked_below, outcome: outcome.clone() });
        }
        let Some(session) = self.clients.get_mut(&client) else { return Ok(()) };
        session.note(sequence, acked_below, hlc);
        self.chunks.extend(session.take_passed().into_iter().map(|chunk| ((client, chunk), None)));
        Ok(())
    }

    /// Moves the rows of the current call into its batch.
    pub(super) fn drain_ops(&mut self, ops: &mut Vec<StoreOp>) {
        let shard = self.shard;
        let row = |key: Bytes, row: Option<Bytes>| match row {
            Some(row) => StoreOp::Put(Column::Data, key, row),
            None => StoreOp::Delete(Column::Data, key),
        };
        let headers = std::mem::take(&mut self.headers).into_iter();
        ops.extend(headers.map(|(client, hlc)| row(session_key(shard, client), hlc.map(encode_header))));
        let chunks = std::mem::take(&mut self.chunks).into_iter();
        ops.extend(chunks.map(|((client, chunk), stored)| {
            row(outcomes_key(shard, client, chunk), stored.map(|stored| stored.encode()))
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
