//! What an entry says of calls, beside its command: one call, or how some calls ended.
//!
//! ```text
//! entry   … [field 7: note = envelope, attempt] or [field 8: outcomes]     behind the command of the entry
//! ```
//!
//! A reader that knows neither field skips it, and applies the entry to the same effect.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::envelope::{CallId, Envelope, open, seal};
use crate::error::{Error, Result};

const NOTE_TAG: u32 = 7;
const OUTCOMES_TAG: u32 = 8;
const OUTCOMES_FORMAT: u8 = 1;
/// What every entry begins with.
const ENTRY_VERSION: u8 = 1;

/// That an entry belongs to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The encoded [`Envelope`].
    pub envelope: Bytes,
    /// How many writes of the call carried the note before and were not applied: of a call's notes the one with the highest
    /// attempt counts, and of those the first.
    pub attempt: u32,
}

/// How calls ended that left a note and failed nevertheless: the name of the error's kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcomes(pub Vec<(CallId, String)>);

/// What an entry says of calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryNote {
    /// It is of a call.
    Call {
        /// Who asked for what.
        envelope: Envelope,
        /// See [`Note::attempt`].
        attempt: u32,
    },
    /// Calls before it have failed.
    Outcomes(Outcomes),
}

/// The fields of an entry that are read here; all others are skipped.
#[derive(Clone, PartialEq, Message)]
struct NotesMessage {
    #[prost(message, optional, tag = "7")]
    note: Option<NoteMessage>,
    #[prost(bytes = "bytes", optional, tag = "8")]
    outcomes: Option<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct NoteMessage {
    #[prost(bytes = "bytes", tag = "1")]
    envelope: Bytes,
    #[prost(uint32, tag = "2")]
    attempt: u32,
}

#[derive(Clone, PartialEq, Message)]
struct OutcomesMessage {
    #[prost(message, repeated, tag = "1")]
    failed: Vec<FailedMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct FailedMessage {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(fixed64, tag = "2")]
    stamp_us: u64,
    #[prost(string, tag = "3")]
    kind: String,
}

impl Note {
    /// The note as bytes, for the way to another node.
    pub fn encode(&self) -> Bytes {
        self.message().encode_to_vec().into()
    }

    /// Decodes a note from another node.
    pub fn decode(bytes: &Bytes) -> Result<Self> {
        let message = NoteMessage::decode(bytes.clone())
            .map_err(|error| Error::corrupt("the note of a call does not decode").with_source(error))?;
        Ok(Self { envelope: message.envelope, attempt: message.attempt })
    }

    fn message(&self) -> NoteMessage {
        NoteMessage { envelope: self.envelope.clone(), attempt: self.attempt }
    }

    /// Appends the note to an encoded entry.
    pub fn append_to(&self, entry: &[u8]) -> Bytes {
        append(entry, NOTE_TAG, &self.message().encode_to_vec())
    }
}

impl Outcomes {
    /// Appends the outcomes to an encoded entry.
    pub fn append_to(&self, entry: &[u8]) -> Bytes {
        append(entry, OUTCOMES_TAG, &self.encode())
    }

    /// The outcomes as bytes.
    pub fn encode(&self) -> Bytes {
        let failed =
            self.0.iter().map(|(id, kind)| FailedMessage { node: id.node, stamp_us: id.stamp_us, kind: kind.clone() });
        seal(OUTCOMES_FORMAT, &OutcomesMessage { failed: failed.collect() })
    }

    /// Decodes outcomes.
    pub fn decode(bytes: &Bytes) -> Result<Self> {
        let message: OutcomesMessage = open(OUTCOMES_FORMAT, bytes, "list of outcomes")?;
        let failed = message.failed.into_iter();
        Ok(Self(failed.map(|one| (CallId { node: one.node, stamp_us: one.stamp_us }, one.kind)).collect()))
    }
}

impl EntryNote {
    /// What an encoded entry says of calls, if anything. `Corrupt` for damage, `NewerFormat` for what is not known.
    pub fn of_entry(entry: &Bytes) -> Result<Option<Self>> {
        crate::system::check_format(entry, ENTRY_VERSION, "log entry")?;
        let mut rest = entry.clone();
        rest.advance(1);
        let notes = NotesMessage::decode(rest)
            .map_err(|error| Error::corrupt("what an entry says of calls does not decode").with_source(error))?;
        if let Some(outcomes) = notes.outcomes {
            return Ok(Some(Self::Outcomes(Outcomes::decode(&outcomes)?)));
        }
        let Some(note) = notes.note else { return Ok(None) };
        Ok(Some(Self::Call { envelope: Envelope::decode(&note.envelope)?, attempt: note.attempt }))
    }
}

/// `entry` with one more field of bytes. Its order among the fields makes no difference.
fn append(entry: &[u8], tag: u32, value: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(entry.len() + value.len() + 8);
    out.put_slice(entry);
    encode_key(tag, WireType::LengthDelimited, &mut out);
    encode_varint(u64::try_from(value.len()).unwrap_or(u64::MAX), &mut out);
    out.put_slice(value);
    out.freeze()
}
