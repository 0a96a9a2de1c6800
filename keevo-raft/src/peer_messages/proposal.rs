//! Proposals: a command for a shard's leader, what its entry says of API calls, and the answer.
//!
//! Both ways carry the sender's hybrid logical clock, so that what a node does after it heard of a write is later than it.

use bytes::{BufMut, Bytes, BytesMut};
use keevo_core::call::{Envelope, Note, Outcomes};
use keevo_core::trace::{self, TraceContext};
use keevo_core::{Command, Entry, Hlc, Outcome, Result};
use prost::Message;
use prost::encoding::{WireType, encode_key};

use super::parse;

/// The field of an answer that holds the leader's clock, behind those of the outcome.
const HLC_TAG: u32 = 15;
/// About what one outcome takes in the log, in bytes.
const OUTCOME_BYTES: usize = 32;

/// A proposal: a command and how long the leader may take.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ProposeWire {
    #[prost(uint64, tag = "1")]
    pub(crate) deadline_ms: u64,
    /// The command, in an entry whose clock is the sender's.
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) entry: Bytes,
    /// The note of the API call that the command is of.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(crate) note: Option<Bytes>,
    /// How calls ended, for a command that says so.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub(crate) outcomes: Option<Bytes>,
    /// The trace of the call that the command is of.
    #[prost(bytes = "bytes", optional, tag = "5")]
    pub(crate) trace: Option<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct HlcWire {
    #[prost(fixed64, tag = "15")]
    hlc: u64,
}

/// What an entry says of API calls, beside its command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Aside {
    /// Nothing.
    None,
    /// It is of a call.
    Note(Note),
    /// Calls have failed.
    Outcomes(Outcomes),
}

impl Aside {
    pub(crate) fn append_to(&self, entry: Bytes) -> Bytes {
        match self {
            Self::None => entry,
            Self::Note(note) => note.append_to(&entry),
            Self::Outcomes(outcomes) => outcomes.append_to(&entry),
        }
    }

    /// About how many bytes it adds to the log.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Note(note) => note.envelope.len(),
            Self::Outcomes(outcomes) => outcomes.0.len().saturating_mul(OUTCOME_BYTES),
        }
    }
}

pub(crate) fn encode_command(command: Command, hlc: Hlc) -> Bytes {
    Entry { hlc, command }.encode()
}

/// A proposal by a node whose clock is `hlc`.
pub(crate) fn propose_wire(command: Command, aside: &Aside, hlc: Hlc, deadline_ms: u64) -> ProposeWire {
    let (note, outcomes) = match aside {
        Aside::None => (None, None),
        Aside::Note(note) => (Some(note.encode()), None),
        Aside::Outcomes(outcomes) => (None, Some(outcomes.encode())),
    };
    let trace = trace::current().and_then(|trace| trace.context()).map(TraceContext::encode);
    ProposeWire { deadline_ms, entry: encode_command(command, hlc), note, outcomes, trace }
}

/// Decodes a proposed command and the sender's clock; what it may write is checked by the receiver again.
pub(crate) fn decode_command(entry: &Bytes) -> Result<(Command, Hlc)> {
    let Entry { command, hlc } = Entry::decode(entry)?;
    match &command {
        Command::Write(batch) => batch.validate()?,
        Command::FanOut(fan_out) => fan_out.validate()?,
        Command::Restore(restore) => restore.validate()?,
        Command::OpenSession(_) | Command::Checksum | Command::MoveClock | Command::Archived(_) => {}
    }
    Ok((command, hlc))
}

/// What a proposal says of calls. Envelopes are checked here: no log has one that cannot be read.
pub(crate) fn aside_of(wire: &ProposeWire) -> Result<Aside> {
    if let Some(note) = &wire.note {
        let note = Note::decode(note)?;
        Envelope::decode(&note.envelope)?;
        return Ok(Aside::Note(note));
    }
    match &wire.outcomes {
        Some(outcomes) => Outcomes::decode(outcomes).map(Aside::Outcomes),
        None => Ok(Aside::None),
    }
}

/// The answer of a leader whose clock is `hlc`. Who does not know the clock skips it.
pub(crate) fn encode_outcome(outcome: &Outcome, hlc: Hlc) -> Bytes {
    let outcome = outcome.encode();
    let mut out = BytesMut::with_capacity(outcome.len() + 9);
    out.put_slice(&outcome);
    encode_key(HLC_TAG, WireType::SixtyFourBit, &mut out);
    out.put_u64_le(hlc.0);
    out.freeze()
}

/// An answer, and the leader's clock; zero where it did not say.
pub(crate) fn decode_outcome(answer: &Bytes) -> Result<(Outcome, Hlc)> {
    let outcome = Outcome::decode(answer)?;
    let wire: HlcWire = parse("the answer to a proposal", &answer.slice(1..))?;
    Ok((outcome, Hlc(wire.hlc)))
}

#[cfg(test)]
mod tests {
    use keevo_core::{ErrorKind, FannedOut};

    use super::*;

    #[test]
    fn the_clocks_go_both_ways() {
        let wire = propose_wire(Command::MoveClock, &Aside::None, Hlc(9), 5);
        assert_eq!(decode_command(&wire.entry).expect("intact"), (Command::MoveClock, Hlc(9)));
        let outcome = Outcome::FannedOut(FannedOut { applied: 3, skipped: 4 });
        for (answer, expected) in [(encode_outcome(&outcome, Hlc(77)), 77), (outcome.encode(), 0)] {
            let (read, hlc) = decode_outcome(&answer).expect("intact");
            assert_eq!((format!("{read:?}"), hlc), (format!("{outcome:?}"), Hlc(expected)));
        }
    }

    #[test]
    fn a_note_that_no_reader_could_read_is_refused() {
        let note = Note { envelope: Bytes::from_static(b"nothing"), attempt: 0 };
        let wire = propose_wire(Command::MoveClock, &Aside::Note(note), Hlc(1), 5);
        assert_eq!(
            aside_of(&wire).expect_err("no envelope").kind(),
            ErrorKind::NewerFormat,
            "of a version that begins with n"
        );
        let outcomes = Aside::Outcomes(Outcomes(Vec::new()));
        let wire = propose_wire(Command::MoveClock, &outcomes, Hlc(1), 5);
        assert_eq!(aside_of(&wire).expect("intact"), outcomes);
    }
}
