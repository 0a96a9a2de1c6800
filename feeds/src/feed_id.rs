//! Feed names: `slug:id`.
//!
//! Invariant: both parts are word characters and `-` only, so a feed's name never holds the colon, the zero
//! byte or the `0xff` that keys use as marks.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use keevo_core::{Error, Result};

/// The longest slug, in bytes.
pub const SLUG_BYTES_MAX: usize = 64;
/// The longest id of a feed within its group, in bytes.
pub const FEED_ID_BYTES_MAX: usize = 255;

/// A feed: the group it belongs to (its slug) and its id within the group.
///
/// ```
/// # use keevo_feeds::FeedId;
/// let feed: FeedId = "timeline:alice".parse().unwrap();
/// assert_eq!((feed.slug(), feed.id()), ("timeline", "alice"));
/// assert!("timeline".parse::<FeedId>().is_err());
/// assert!("timeline:al:ice".parse::<FeedId>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeedId {
    name: Arc<str>,
    slug_bytes: u8,
}

impl FeedId {
    /// The feed of that slug and id; `Invalid` when a part is empty, too long, or holds another character.
    pub fn new(slug: &str, id: &str) -> Result<Self> {
        check("slug", slug, SLUG_BYTES_MAX)?;
        check("id", id, FEED_ID_BYTES_MAX)?;
        let slug_bytes = u8::try_from(slug.len()).unwrap_or(u8::MAX);
        Ok(Self { name: format!("{slug}:{id}").into(), slug_bytes })
    }

    /// The group.
    pub fn slug(&self) -> &str {
        self.name.get(..usize::from(self.slug_bytes)).unwrap_or_default()
    }

    /// The id within the group.
    pub fn id(&self) -> &str {
        self.name.get(usize::from(self.slug_bytes) + 1..).unwrap_or_default()
    }

    /// `slug:id`.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The feed named in stored bytes; anything else there is `Corrupt`.
    pub(crate) fn from_stored(bytes: &[u8]) -> Result<Self> {
        std::str::from_utf8(bytes)
            .ok()
            .and_then(|name| name.parse().ok())
            .ok_or_else(|| Error::corrupt(format!("a key or row names the feed {}", bytes.escape_ascii())))
    }
}

fn check(part: &str, text: &str, bytes_max: usize) -> Result<()> {
    if text.is_empty() || text.len() > bytes_max {
        return Err(Error::invalid(format!("a feed's {part} has 1 to {bytes_max} bytes, not {}", text.len())));
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    match text.chars().find(|&c| !is_word(c)) {
        Some(bad) => Err(Error::invalid(format!("a feed's {part} holds letters, digits, _ and - only, not {bad:?}"))),
        None => Ok(()),
    }
}

impl FromStr for FeedId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (slug, id) =
            text.split_once(':').ok_or_else(|| Error::invalid(format!("a feed is named slug:id, not {text:?}")))?;
        Self::new(slug, id)
    }
}

impl fmt::Display for FeedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for FeedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["user:1", "user_x:a-b_C", "läufer:é1", "a:-"] {
            assert_eq!(good.parse::<FeedId>().expect("a feed").to_string(), good);
        }
        for bad in ["", "user", ":1", "user:", "user:1:2", "us er:1", "user:1/2", "user:a\u{0}", "user:a.b"] {
            assert!(bad.parse::<FeedId>().is_err(), "{bad:?}");
        }
        assert!(FeedId::new(&"s".repeat(65), "1").is_err());
        assert!(FeedId::new("s", &"i".repeat(256)).is_err());
        assert!(FeedId::new("s", &"i".repeat(255)).is_ok());
    }
}
