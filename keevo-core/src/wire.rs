//! The bytes of log entries, outcomes and change rows: protobuf messages behind a version byte.
//!
//! Invariant: decoding never panics and never guesses. A version, a command or an operation that this
//! version does not know is `NewerFormat`; other bytes that do not decode are `Corrupt`. A batch names its
//! partition once; a key that lies elsewhere (which apply refuses) is still carried faithfully.

mod changes;
mod entry;
mod messages;
mod outcome;

pub(crate) use changes::ChangeRow;
pub(crate) use entry::{decode_entry, encode_entry, peek_hlc};
pub(crate) use outcome::{StoredOutcome, StoredOutcomes};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use crate::error::{Error, ErrorKind, Result};
use crate::ids::KeyspaceId;
use crate::key::{Keyspace, KeyspaceKind};
use crate::system::check_format;
use messages::KeyspaceMessage;

/// The version byte of everything that this module writes.
const VERSION: u8 = 1;

fn encode_message(message: &impl Message) -> Bytes {
    let mut out = BytesMut::with_capacity(1 + message.encoded_len());
    out.put_u8(VERSION);
    message.encode(&mut out).expect("the buffer grows as needed");
    out.freeze()
}

/// Decodes a versioned message; its byte fields share the memory of `bytes`.
fn decode_message<M: Message + Default>(bytes: &Bytes, what: &str) -> Result<M> {
    check_format(bytes, VERSION, what)?;
    let mut rest = bytes.clone();
    rest.advance(1);
    M::decode(rest).map_err(|error| Error::corrupt(format!("a {what} does not decode")).with_source(error))
}

fn newer(what: &str) -> Error {
    Error::new(ErrorKind::NewerFormat, format!("{what} is of a kind that this version does not know"))
}

impl From<Keyspace> for KeyspaceMessage {
    fn from(keyspace: Keyspace) -> Self {
        let partition_bytes = match keyspace.kind {
            KeyspaceKind::Hashed => 0,
            KeyspaceKind::Ordered { partition_bytes } => u32::from(partition_bytes),
        };
        Self { id: keyspace.id.0, partition_bytes }
    }
}

fn keyspace_of(message: Option<KeyspaceMessage>) -> Result<Keyspace> {
    let message = message.ok_or_else(|| Error::corrupt("a keyspace is missing"))?;
    let kind = match u8::try_from(message.partition_bytes) {
        Ok(0) => KeyspaceKind::Hashed,
        Ok(partition_bytes) => KeyspaceKind::Ordered { partition_bytes },
        Err(error) => return Err(Error::corrupt("a keyspace declares a huge partition").with_source(error)),
    };
    Ok(Keyspace { id: KeyspaceId(message.id), kind })
}

#[cfg(test)]
mod tests;
