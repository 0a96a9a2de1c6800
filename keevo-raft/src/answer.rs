//! Answers between nodes as bytes: a result, or an error with its kind, message and leader hint.
//!
//! Transports carry these envelopes, so that an error means the same on both ends.

use bytes::Bytes;
use keevo_core::{Error, ErrorKind, Result};
use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct AnswerWire {
    #[prost(bytes = "bytes", tag = "1")]
    body: Bytes,
    #[prost(message, optional, tag = "2")]
    error: Option<ErrorWire>,
}

#[derive(Clone, PartialEq, Message)]
struct ErrorWire {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(string, optional, tag = "3")]
    leader: Option<String>,
}

/// The envelope of an answer.
pub fn encode(answer: &Result<Bytes>) -> Bytes {
    let wire = match answer {
        Ok(body) => AnswerWire { body: body.clone(), error: None },
        Err(error) => AnswerWire {
            body: Bytes::new(),
            error: Some(ErrorWire {
                kind: error.kind().to_string(),
                message: error.message().to_owned(),
                leader: error.leader().map(str::to_owned),
            }),
        },
    };
    wire.encode_to_vec().into()
}

/// Opens an envelope: the peer's answer, or its error.
pub fn decode(envelope: Bytes) -> Result<Bytes> {
    let wire = AnswerWire::decode(envelope)
        .map_err(|error| Error::corrupt("a peer's answer does not decode").with_source(error))?;
    let Some(error) = wire.error else { return Ok(wire.body) };
    // A kind of a newer version: whether the request was applied cannot be told.
    let kind = ErrorKind::from_name(&error.kind).unwrap_or(ErrorKind::OutcomeUnknown);
    let decoded = Error::new(kind, error.message);
    Err(match error.leader {
        Some(leader) => decoded.with_leader(leader),
        None => decoded,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_errors_round_trip() {
        assert_eq!(decode(encode(&Ok(Bytes::from_static(b"x")))).expect("ok"), "x");
        for row in keevo_core::ERROR_TABLE {
            let error = Error::new(row.kind, "what happened").with_leader("127.0.0.1:1");
            let decoded = decode(encode(&Err(error))).expect_err("an error");
            assert_eq!(
                (decoded.kind(), decoded.message(), decoded.leader()),
                (row.kind, "what happened", Some("127.0.0.1:1"))
            );
        }
        assert_eq!(decode(Bytes::from_static(b"\xff\xff")).expect_err("nonsense").kind(), ErrorKind::Corrupt);
    }
}
