//! Resume tokens: where a subscription stands, as opaque bytes.
//!
//! ```text
//! [format u8 = 1][protobuf of TokenRow]
//! ```
//!
//! A token is bound to its app, its channel and, where one is named, its user. It is no proof of rights: whoever
//! accepts one checks them again. It carries no signature yet, so a client can make one up; it gains nothing by
//! that, since the membership is read anew and a place before the user joined is refused. It has no expiry of its
//! own: it ends with the changes that the engine retains.

use bytes::Bytes;
use keevo_core::{ClusterId, Cursor, Error, ErrorKind, Result, Revision, ShardId};
use prost::Message;

use crate::chat::Head;
use crate::event::Position;
use crate::ids::{AppId, ChannelId};
use crate::rows::{CursorRow, TokenRow};

const FORMAT: u8 = 1;

/// Where a subscription stands. A subscription from here misses nothing after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumeToken {
    pub(crate) app: AppId,
    pub(crate) channel: ChannelId,
    /// Whose subscription it continues, if a user was named.
    pub(crate) user: Option<String>,
    /// Changes up to here are done with.
    pub(crate) cursor: Cursor,
    /// The last event that is done with.
    pub(crate) position: Position,
    /// Messages of the channel's sequence up to here are known, whichever way.
    pub(crate) seen_sequence: u64,
    /// Whether stored messages after `seen_sequence` come before the live events.
    pub(crate) replaying: bool,
}

impl ResumeToken {
    pub(crate) fn at_head(app: AppId, channel: &ChannelId, head: &Head, newest: u64) -> Self {
        Self {
            app,
            channel: channel.clone(),
            user: None,
            cursor: head.as_of,
            position: Position { version: head.version, index: u32::MAX },
            seen_sequence: head.sequence.max(newest),
            replaying: false,
        }
    }

    /// The same token for a subscription of this user, such as that of a page of history. Check first that the
    /// user is a member.
    #[must_use]
    pub fn for_user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// The same token for a trusted caller's subscription.
    #[must_use]
    pub fn for_nobody(mut self) -> Self {
        self.user = None;
        self
    }

    /// The same token for whoever has also had the events up to `position`: those do not come again.
    #[must_use]
    pub fn having_seen(mut self, position: Position) -> Self {
        self.position = self.position.max(position);
        self
    }

    /// The same token for whoever also has the channel's messages up to `number`: their `message.new` does not come again.
    #[must_use]
    pub fn knowing(mut self, number: u64) -> Self {
        self.seen_sequence = self.seen_sequence.max(number);
        self
    }

    /// The same token for a subscription that many share: whatever one of them knows from a page of history, it tells.
    #[must_use]
    pub fn for_everybody(mut self) -> Self {
        self.user = None;
        self.seen_sequence = 0;
        self
    }

    /// Up to which number the channel's messages are known beside the events, such as from a page of history.
    pub fn known(&self) -> u64 {
        self.seen_sequence
    }

    /// The channel.
    pub fn channel(&self) -> &ChannelId {
        &self.channel
    }

    /// The place of the last event that is done with; behind a page of history, one behind all events of a version.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Whether stored messages come before the live events: such a token's events repeat one place.
    pub fn replays(&self) -> bool {
        self.replaying
    }

    /// The token as bytes, for a client to keep.
    pub fn encode(&self) -> Bytes {
        let cluster = self.cursor.cluster.0;
        let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).expect("masked to 64 bits");
        let row = TokenRow {
            app: self.app.0,
            channel: self.channel.as_str().to_owned(),
            cursors: vec![CursorRow {
                cluster_high: half(cluster >> 64),
                cluster_low: half(cluster),
                shard: self.cursor.shard.0,
                revision: self.cursor.revision.0,
                offset: self.cursor.offset,
            }],
            version: self.position.version,
            index: self.position.index,
            seen_sequence: self.seen_sequence,
            replaying: self.replaying,
            user: self.user.clone().unwrap_or_default(),
        };
        let mut out = vec![FORMAT];
        out.extend(row.encode_to_vec());
        out.into()
    }

    /// Reads a token's bytes; `Invalid` for anything that no version of Keevo made, `NewerFormat` for a later one's.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let foreign = || Error::invalid("the resume token does not decode");
        let (&format, rest) = bytes.split_first().ok_or_else(foreign)?;
        if format > FORMAT {
            return Err(Error::new(ErrorKind::NewerFormat, format!("the resume token has format {format}")));
        }
        let row = TokenRow::decode(rest).map_err(|error| foreign().with_source(error))?;
        let (FORMAT, [cursor]) = (format, row.cursors.as_slice()) else {
            return Err(foreign());
        };
        Ok(Self {
            app: AppId(row.app),
            channel: row.channel.parse()?,
            user: Some(row.user).filter(|user| !user.is_empty()),
            cursor: Cursor {
                cluster: ClusterId((u128::from(cursor.cluster_high) << 64) | u128::from(cursor.cluster_low)),
                shard: ShardId(cursor.shard),
                revision: Revision(cursor.revision),
                offset: cursor.offset,
            },
            position: Position { version: row.version, index: row.index },
            seen_sequence: row.seen_sequence,
            replaying: row.replaying,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_foreign_bytes_are_refused() {
        let token = ResumeToken {
            app: AppId(3),
            channel: ChannelId::new("team", "x").expect("a name"),
            user: Some("ada".to_owned()),
            cursor: Cursor { cluster: ClusterId(u128::MAX - 5), shard: ShardId(7), revision: Revision(9), offset: 2 },
            position: Position { version: 4, index: 1 },
            seen_sequence: 12,
            replaying: true,
        };
        let bytes = token.encode();
        assert_eq!(ResumeToken::decode(&bytes).expect("decodes"), token);
        for cut in 0..bytes.len() {
            // A prefix may be a token of fewer fields, but never a panic.
            drop(ResumeToken::decode(&bytes[..cut]));
        }
        assert_eq!(ResumeToken::decode(b"\x02x").expect_err("newer").kind(), ErrorKind::NewerFormat);
        assert_eq!(ResumeToken::decode(b"\x01\xff\xff").expect_err("foreign").kind(), ErrorKind::Invalid);
        assert_eq!(ResumeToken::decode(b"").expect_err("empty").kind(), ErrorKind::Invalid);
    }
}
