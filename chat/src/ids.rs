//! Names: apps, channels, users, and a message's place.
//!
//! Invariant: a name that passed its check fits a partition and a sort key and holds no control byte, so
//! that `00` can end a name inside a key.

use std::fmt;
use std::str::FromStr;

use keevo_core::{Error, ErrorKind, Result};

/// The longest name of a channel, a user or a message, in bytes.
pub const NAME_BYTES_MAX: usize = 128;
const KIND_BYTES_MAX: usize = 64;

/// An app: a tenant whose data never meets another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppId(pub u32);

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A channel's name: its type, such as `messaging`, and its id within the type. Written `type:id`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId {
    name: String,
    kind_bytes: usize,
}

impl ChannelId {
    /// The channel `id` of type `kind`. A type has 1 to 64 bytes of `a-z A-Z 0-9 _ -`, an id up to
    /// [`NAME_BYTES_MAX`] without control characters; else `Invalid`.
    pub fn new(kind: &str, id: &str) -> Result<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if kind.is_empty() || kind.len() > KIND_BYTES_MAX || !kind.bytes().all(plain) {
            return Err(Error::invalid(format!(
                "a channel type has 1 to {KIND_BYTES_MAX} characters of a-z A-Z 0-9 _ -, unlike '{}'",
                kind.escape_debug()
            )));
        }
        validate_name("a channel id", id)?;
        Ok(Self { name: format!("{kind}:{id}"), kind_bytes: kind.len() })
    }

    /// The channel's type.
    pub fn kind(&self) -> &str {
        self.name.split_at(self.kind_bytes).0
    }

    /// The channel's id within its type.
    pub fn id(&self) -> &str {
        self.name.split_at(self.kind_bytes + 1).1
    }

    /// The whole name, `type:id`.
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl FromStr for ChannelId {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name.split_once(':') {
            Some((kind, id)) => Self::new(kind, id),
            None => Err(Error::invalid(format!("a channel is named type:id, unlike '{}'", name.escape_debug()))),
        }
    }
}

/// Where a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// In the channel's own sequence, which starts at 1 and has no gaps.
    Channel(u64),
    /// In a thread, whose sequence starts at 1 and has no gaps.
    Thread {
        /// The place of the message replied to, in the channel's sequence.
        parent: u64,
        /// The reply's number in the thread.
        reply: u64,
    },
}

impl Place {
    /// The number in the sequence that the message belongs to.
    pub fn number(self) -> u64 {
        match self {
            Self::Channel(number) | Self::Thread { reply: number, .. } => number,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(number) => write!(f, "{number}"),
            Self::Thread { parent, reply } => write!(f, "{parent}.{reply}"),
        }
    }
}

/// Refuses a name that is empty, too long, or holds a control character. `what` names it in the error.
pub(crate) fn validate_name(what: &str, name: &str) -> Result<()> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("{what} has 1 to {NAME_BYTES_MAX} bytes, not {}", name.len()),
        ));
    }
    if name.chars().any(char::is_control) {
        return Err(Error::invalid(format!("{what} holds a control character: '{}'", name.escape_debug())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_reads_back_from_its_name() {
        let channel: ChannelId = "messaging:a:b".parse().expect("a name");
        assert_eq!((channel.kind(), channel.id()), ("messaging", "a:b"));
        assert_eq!(channel.to_string(), "messaging:a:b");
        for bad in ["", "x", ":x", "x:", "a b:x", "x:\u{0}", &format!("x:{}", "y".repeat(129))] {
            assert_eq!(bad.parse::<ChannelId>().expect_err(bad).kind(), ErrorKind::Invalid);
        }
    }
}
