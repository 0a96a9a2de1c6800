//! Outcomes as bytes: for a session's rows, and for whoever sends an outcome to another node.
//!
//! Invariant: a stored outcome reads back as the answer that was first given, error kind and message included.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::messages::{
    ChecksumMessage, FannedOutMessage, OutcomeKindMessage, OutcomeMessage, RefusedMessage, StoredOutcomeMessage,
    StoredOutcomesMessage, Unit, WrittenMessage,
};
use super::{decode_message, encode_message, newer};
use crate::batch::Written;
use crate::command::{Hlc, Outcome};
use crate::error::{Error, ErrorKind, Result};
use crate::fan_out::FannedOut;
use crate::ids::Revision;

impl Outcome {
    /// The outcome as bytes. Of a refusal, the kind and the message are kept.
    pub fn encode(&self) -> Bytes {
        encode_message(&outcome_message(self))
    }

    /// Decodes an outcome. An unknown version or kind is `NewerFormat`.
    pub fn decode(bytes: &Bytes) -> Result<Self> {
        outcome_of(decode_message(bytes, "outcome")?)
    }
}

/// What a session keeps of one request.
#[derive(Debug, Clone)]
pub(crate) struct StoredOutcome {
    /// The shard clock when it was applied.
    pub(crate) hlc: Hlc,
    /// What the client had the answers of by then.
    pub(crate) acked_below: u64,
    /// The answer.
    pub(crate) outcome: Outcome,
}

/// What a session keeps of the requests of one chunk, by sequence: one row.
#[derive(Debug, Clone, Default)]
pub(crate) struct StoredOutcomes(pub(crate) BTreeMap<u64, StoredOutcome>);

impl StoredOutcomes {
    pub(crate) fn encode(&self) -> Bytes {
        let outcomes = self.0.iter().map(|(sequence, stored)| StoredOutcomeMessage {
            hlc: stored.hlc.0,
            acked_below: stored.acked_below,
            outcome: Some(outcome_message(&stored.outcome)),
            sequence: *sequence,
        });
        encode_message(&StoredOutcomesMessage { outcomes: outcomes.collect() })
    }

    pub(crate) fn decode(bytes: &Bytes) -> Result<Self> {
        let message: StoredOutcomesMessage = decode_message(bytes, "row of stored outcomes")?;
        let mut stored = BTreeMap::new();
        for StoredOutcomeMessage { hlc, acked_below, outcome, sequence } in message.outcomes {
            let outcome = outcome.ok_or_else(|| Error::corrupt("a stored outcome is empty"))?;
            stored.insert(sequence, StoredOutcome { hlc: Hlc(hlc), acked_below, outcome: outcome_of(outcome)? });
        }
        Ok(Self(stored))
    }
}

fn outcome_message(outcome: &Outcome) -> OutcomeMessage {
    let kind = match outcome {
        Outcome::Written(written) => OutcomeKindMessage::Written(WrittenMessage {
            revision: written.revision.0,
            assigned: written.assigned.clone(),
        }),
        Outcome::FannedOut(FannedOut { applied, skipped }) => {
            OutcomeKindMessage::FannedOut(FannedOutMessage { applied: *applied, skipped: *skipped })
        }
        Outcome::SessionOpened => OutcomeKindMessage::SessionOpened(Unit {}),
        Outcome::ClockMoved => OutcomeKindMessage::ClockMoved(Unit {}),
        Outcome::Done => OutcomeKindMessage::Done(Unit {}),
        Outcome::Checksum { revision, hash, records } => {
            OutcomeKindMessage::Checksum(ChecksumMessage { revision: revision.0, hash: *hash, records: *records })
        }
        Outcome::Refused(error) => OutcomeKindMessage::Refused(RefusedMessage {
            kind: error.kind().row().name.to_owned(),
            message: error.message().to_owned(),
        }),
    };
    OutcomeMessage { kind: Some(kind) }
}

fn outcome_of(message: OutcomeMessage) -> Result<Outcome> {
    Ok(match message.kind.ok_or_else(|| newer("an outcome"))? {
        OutcomeKindMessage::Written(WrittenMessage { revision, assigned }) => {
            Outcome::Written(Written { revision: Revision(revision), assigned })
        }
        OutcomeKindMessage::FannedOut(FannedOutMessage { applied, skipped }) => {
            Outcome::FannedOut(FannedOut { applied, skipped })
        }
        OutcomeKindMessage::SessionOpened(Unit {}) => Outcome::SessionOpened,
        OutcomeKindMessage::ClockMoved(Unit {}) => Outcome::ClockMoved,
        OutcomeKindMessage::Done(Unit {}) => Outcome::Done,
        OutcomeKindMessage::Checksum(ChecksumMessage { revision, hash, records }) => {
            Outcome::Checksum { revision: Revision(revision), hash, records }
        }
        OutcomeKindMessage::Refused(RefusedMessage { kind, message }) => {
            let kind = ErrorKind::from_name(&kind).ok_or_else(|| newer("a refusal"))?;
            Outcome::Refused(Error::new(kind, message))
        }
    })
}
