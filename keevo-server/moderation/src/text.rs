//! A text version: what is judged, exactly once.
//!
//! Invariant: a version is named by its text's id and the hash of what it says. The same words under the same id are one
//! version, however often and by whatever way they come in; an edit is another.

use aws_lc_rs::digest::{SHA256, digest};
use keevo_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// The most bytes of a text that are kept and judged; what lies behind is cut off, which the version says.
pub const TEXT_BYTES_MAX: usize = 128 << 10;
/// The longest id of a text, in bytes, so that it fits a partition.
const ID_BYTES_MAX: usize = 480;

/// What kind of thing says a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextKind {
    /// A message of chat; its id is `CHANNEL_TYPE:CHANNEL message`, parted by a NUL.
    Message,
    /// An activity of feeds.
    Activity,
    /// A reaction of feeds.
    Reaction,
    /// A text that stands nowhere in Keevo: it came in by a queue, to be judged.
    Text,
}

impl TextKind {
    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Activity => "activity",
            Self::Reaction => "reaction",
            Self::Text => "text",
        }
    }

    /// The kind of this name; `None` where there is none.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// All of them.
    pub const ALL: [Self; 4] = [Self::Message, Self::Activity, Self::Reaction, Self::Text];

    fn tag(self) -> u8 {
        match self {
            Self::Message => 1,
            Self::Activity => 2,
            Self::Reaction => 3,
            Self::Text => 4,
        }
    }
}

/// The kind that a tag stands for.
pub(crate) fn kind_of_tag(tag: u8) -> Option<TextKind> {
    TextKind::ALL.into_iter().find(|kind| kind.tag() == tag)
}

/// How the ids of texts begin, behind their channel, that stand beside its messages: in polls, and as commands. No message tells
/// what becomes of them.
const BESIDE: [&str; 2] = ["poll/", "command/"];

/// The hash of what a version says: 16 bytes of SHA-256 over the whole text.
type ContentHash = [u8; 16];

/// What says a text, whatever it says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TextId {
    /// The app.
    pub app: u32,
    /// What says it.
    pub kind: TextKind,
    /// The id of what says it.
    pub id: String,
}

impl TextId {
    /// The channel of chat that it is said in, and its id there; `None` for what is said elsewhere.
    pub(crate) fn in_channel(&self) -> Option<(&str, &str)> {
        if self.kind == TextKind::Message { self.id.split_once('\0') } else { None }
    }

    /// The partition of all verdicts on the text.
    pub(crate) fn partition(&self) -> Vec<u8> {
        partition(self.app, self.kind, &self.id)
    }

    /// What names the version with this hash among those of all texts.
    pub(crate) fn digest(&self, hash: &str) -> [u8; 16] {
        content_hash_of(&[&self.partition(), hash.as_bytes()])
    }
}

/// A text as it stood at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextVersion {
    /// The app.
    pub app: u32,
    /// What says it.
    pub kind: TextKind,
    /// The id of what says it, unique within app and kind.
    pub id: String,
    /// Where it stands: `chat:CHANNEL_TYPE` or `feeds:FEED_GROUP`.
    pub scope: String,
    /// Who wrote it.
    pub author: String,
    /// What it says; at most [`TEXT_BYTES_MAX`] bytes.
    pub text: String,
    /// When it was written, in milliseconds since the epoch.
    pub at_ms: u64,
    /// The hash of the whole text, in hexadecimal.
    hash: String,
    /// How many bytes were cut off its end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cut_bytes: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl TextVersion {
    /// The version of a text that says `text`. `Invalid` for an id that is empty or too long.
    pub fn new(app: u32, kind: TextKind, id: impl Into<String>, text: impl Into<String>) -> Result<Self> {
        let (id, mut text) = (id.into(), text.into());
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            return Err(Error::invalid(format!("a text's id has 1 to {ID_BYTES_MAX} bytes, not {}", id.len())));
        }
        let hash = hex(&content_hash(&text));
        let whole = text.len();
        if whole > TEXT_BYTES_MAX {
            text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        }
        let cut_bytes = whole - text.len();
        Ok(Self { app, kind, id, scope: String::new(), author: String::new(), text, at_ms: 0, hash, cut_bytes })
    }

    /// The same, written by `author` at `at_ms`, standing in `scope`.
    #[must_use]
    pub fn by(mut self, author: impl Into<String>, scope: impl Into<String>, at_ms: u64) -> Self {
        (self.author, self.scope, self.at_ms) = (author.into(), scope.into(), at_ms);
        self
    }

    /// The same place saying something else.
    pub fn saying(&self, text: impl Into<String>) -> Result<Self> {
        let other = Self::new(self.app, self.kind, self.id.clone(), text)?;
        Ok(other.by(self.author.clone(), self.scope.clone(), self.at_ms))
    }

    /// The hash of the whole text, in hexadecimal.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Whether the version says exactly `text`.
    pub fn says(&self, text: &str) -> bool {
        self.hash == hex(&content_hash(text))
    }

    /// The partition of all verdicts on the text, whatever its version.
    pub(crate) fn partition(&self) -> Vec<u8> {
        partition(self.app, self.kind, &self.id)
    }

    /// What says it.
    pub fn text_id(&self) -> TextId {
        TextId { app: self.app, kind: self.kind, id: self.id.clone() }
    }

    /// Whether it is a version of this text.
    pub(crate) fn is_of(&self, text: &TextId) -> bool {
        self.app == text.app && self.kind == text.kind && self.id == text.id
    }

    /// Whether it stands beside the messages of a channel.
    pub(crate) fn is_beside(&self) -> bool {
        let text = self.text_id();
        text.in_channel().is_some_and(|(_, id)| BESIDE.iter().any(|start| id.starts_with(start)))
    }

    /// 16 bytes that name the version among those of all texts.
    pub(crate) fn digest(&self) -> [u8; 16] {
        self.text_id().digest(&self.hash)
    }
}

/// The partition of all verdicts on a text.
pub(crate) fn partition(app: u32, kind: TextKind, id: &str) -> Vec<u8> {
    [b"v".as_slice(), &app.to_be_bytes(), &[kind.tag()], id.as_bytes()].concat()
}

/// The text whose verdicts a partition holds; `None` for a partition of something else.
pub(crate) fn text_of(partition: &[u8]) -> Option<TextId> {
    let (app, rest) = partition.strip_prefix(b"v")?.split_first_chunk::<4>()?;
    let (tag, id) = rest.split_first()?;
    let id = std::str::from_utf8(id).ok()?.to_owned();
    Some(TextId { app: u32::from_be_bytes(*app), kind: kind_of_tag(*tag)?, id })
}

/// 16 bytes that stand for the name of an author or a channel.
pub(crate) fn name_digest(name: &str) -> [u8; 16] {
    content_hash(name)
}

fn content_hash(text: &str) -> ContentHash {
    content_hash_of(&[text.as_bytes()])
}

fn content_hash_of(parts: &[&[u8]]) -> ContentHash {
    let whole = digest(&SHA256, &parts.concat());
    whole.as_ref().first_chunk::<16>().copied().unwrap_or_default()
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The bytes that a hexadecimal text names; `None` where it is none.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let nibble = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some((nibble(*high)? << 4) | nibble(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_its_id_and_its_words() {
        let version = |id: &str, text: &str| TextVersion::new(1, TextKind::Message, id, text).expect("valid");
        let one = version("a", "hello").by("alice", "chat:x", 5);
        assert_eq!(one.digest(), version("a", "hello").digest());
        assert_ne!(one.digest(), version("b", "hello").digest());
        assert_ne!(one.digest(), one.saying("hello!").expect("valid").digest());
        assert!(one.says("hello") && !one.says("hello "));
        assert_eq!(one.hash(), "2cf24dba5fb0a30e26e83b2ac5b9e29e", "16 bytes of SHA-256, for ever");
        assert_eq!(one.saying("x").expect("valid").author, "alice");
        assert!(TextVersion::new(1, TextKind::Message, "", "x").is_err());
        assert!(TextVersion::new(1, TextKind::Message, "x".repeat(481), "x").is_err());
    }

    #[test]
    fn a_long_text_is_cut_but_named_as_a_whole() {
        let long = "é".repeat(TEXT_BYTES_MAX);
        let version = TextVersion::new(1, TextKind::Message, "a", long.clone()).expect("valid");
        assert_eq!(version.text.len() + version.cut_bytes, long.len());
        assert!(version.text.len() <= TEXT_BYTES_MAX && version.says(&long));
    }

    #[test]
    fn a_text_of_chat_knows_its_channel() {
        let version = |kind, id: &str| TextVersion::new(1, kind, id, "x").expect("valid");
        let of = |kind, id| version(kind, id).text_id().in_channel().map(|(channel, id)| format!("{channel} {id}"));
        assert_eq!(of(TextKind::Message, "team:x\0m1").as_deref(), Some("team:x m1"));
        assert_eq!((of(TextKind::Message, "m1"), of(TextKind::Reaction, "team:x\0m1")), (None, None));
        let beside = |id| version(TextKind::Message, id).is_beside();
        assert!(beside("team:x\0poll/1") && beside("team:x\0command/1") && !beside("team:x\0m1") && !beside("poll/1"));
    }

    #[test]
    fn hexadecimal_goes_both_ways() {
        assert_eq!(unhex(&hex(&[0, 1, 0xab, 0xff])), Some(vec![0, 1, 0xab, 0xff]));
        for bad in ["0", "zz", "+1", "é"] {
            assert_eq!(unhex(bad), None, "{bad}");
        }
    }
}
