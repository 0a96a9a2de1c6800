//! Messages as callers see them, and the checks on what they bring.

use std::collections::{BTreeMap, BTreeSet};

use keevo_core::{Error, ErrorKind, Result, call};

use crate::custom::Patch;
use crate::ids::{Place, validate_name};
use crate::options::ChatOptions;
use crate::rows::{MessageRow, PinRow};

/// The most attachments of a message.
pub const ATTACHMENTS_MAX: usize = 30;
/// The most users, and the most groups, that a message mentions.
pub const MENTIONS_MAX: usize = 100;

/// Whom a message mentions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mentions {
    /// Users, by id; at most 100.
    pub users: BTreeSet<String>,
    /// Groups of users, by id; at most 100.
    pub groups: BTreeSet<String>,
    /// Everybody in the channel.
    pub channel: bool,
}

/// Who sees a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Audience {
    /// Everybody who reads the channel.
    #[default]
    Everybody,
    /// Only who sent it, who is banned in the shadow.
    Sender,
}

/// What lies beside a message, and is shown with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shows {
    /// The poll of the channel with this id ([`Chat::poll`](crate::Chat::poll)).
    Poll(String),
    /// The location that its sender shares ([`Chat::location`](crate::Chat::location)).
    Location,
}

impl Shows {
    fn of(poll_id: Option<String>, location: u32) -> Option<Self> {
        match poll_id {
            Some(id) => Some(Self::Poll(id)),
            None if location != 0 => Some(Self::Location),
            None => None,
        }
    }
}

/// How a message is pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// When it was pinned, in milliseconds since the epoch.
    pub pinned_at_ms: u64,
    /// By whom.
    pub pinned_by: String,
    /// When that ends; `None` = it stays.
    pub expires_at_ms: Option<u64>,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its id, unique in the channel.
    pub id: String,
    /// Where it stands: its number, in the channel or in a thread.
    pub place: Place,
    /// Who sent it.
    pub user_id: String,
    /// What it says; empty once deleted.
    pub text: String,
    /// The message that it replies to.
    pub parent_id: Option<String>,
    /// Custom data, a JSON object; `None` once deleted.
    pub custom: Option<String>,
    /// Attachments, each a JSON object; none once deleted.
    pub attachments: Vec<String>,
    /// Whom it mentions; nobody once deleted.
    pub mentions: Mentions,
    /// The message that it quotes.
    pub quoted_id: Option<String>,
    /// What it shows that lies beside it; nothing once deleted.
    pub shows: Option<Shows>,
    /// How it is pinned, if it is.
    pub pinned: Option<Pin>,
    /// Whether the system wrote it, not a person. Never unread.
    pub system: bool,
    /// Whether it was sent without making anything unread.
    pub silent: bool,
    /// When it was sent, in milliseconds since the epoch.
    pub created_at_ms: u64,
    /// When it was last edited.
    pub updated_at_ms: Option<u64>,
    /// When it was deleted.
    pub deleted_at_ms: Option<u64>,
    /// Whether nothing of it is kept, so that it can't be brought back.
    pub erased: bool,
    /// Who sees it. Histories and subscriptions that name no user hold all messages: whoever passes them on looks.
    pub audience: Audience,
    /// 1 when sent, one more with each edit, pin, deletion and so on.
    pub version: u32,
    /// Counts of replies and reactions, where they were read: in history, not in events or answers to writes.
    pub stats: Option<MessageStats>,
}

/// Counts that belong to a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageStats {
    /// Replies in its thread, without the deleted ones.
    pub reply_count: u64,
    /// Reactions by type.
    pub reactions: BTreeMap<String, u64>,
    /// The sums of their scores by type.
    pub scores: BTreeMap<String, i64>,
}

/// A message to be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewMessage {
    /// The id, chosen by the client: sending it again returns the stored message. `None` = made up here,
    /// and then a repeat is a second message.
    pub id: Option<String>,
    /// Who sends it.
    pub user_id: String,
    /// What it says. May be empty where there is custom data or an attachment.
    pub text: String,
    /// The message of the channel that it replies to. Threads have one level.
    pub parent_id: Option<String>,
    /// Custom data, a JSON object.
    pub custom: Option<String>,
    /// Attachments, each a JSON object; at most 30.
    pub attachments: Vec<String>,
    /// Whom it mentions. Nobody is told that is not in the text: front ends find the names in it.
    pub mentions: Mentions,
    /// The message of the channel, or of a thread in it, that it quotes.
    pub quoted_id: Option<String>,
    /// The poll of the channel that it shows.
    pub poll_id: Option<String>,
    /// Whether the system wrote it.
    pub system: bool,
    /// Whether it leaves unread counts alone.
    pub silent: bool,
    /// When it was sent, for imports; `None` = now. Does not change its place.
    pub created_at_ms: Option<u64>,
}

impl NewMessage {
    /// A plain message.
    pub fn new(user_id: impl Into<String>, text: impl Into<String>) -> Self {
        Self { user_id: user_id.into(), text: text.into(), ..Self::default() }
    }

    /// The same message with an id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// The same message as a reply.
    #[must_use]
    pub fn reply_to(mut self, parent_id: impl Into<String>) -> Self {
        self.parent_id = Some(parent_id.into());
        self
    }

    /// The same message with a user mentioned.
    #[must_use]
    pub fn mentioning(mut self, user_id: impl Into<String>) -> Self {
        self.mentions.users.insert(user_id.into());
        self
    }

    pub(crate) fn prepare(self, options: &ChatOptions) -> Result<MessageRow> {
        self.prepare_as(options, false)
    }

    /// As [`NewMessage::prepare`]; `bare` = the message may say nothing.
    pub(crate) fn prepare_as(self, options: &ChatOptions, bare: bool) -> Result<MessageRow> {
        let now_ms = call::now_ms(options.clock.as_ref());
        let id = self.id.unwrap_or_else(|| new_id(options, now_ms));
        validate_name("a message id", &id)?;
        validate_name("a user id", &self.user_id)?;
        if let Some(parent_id) = &self.parent_id {
            validate_name("the id of the message replied to", parent_id)?;
        }
        validate_text(&self.text, options)?;
        validate_custom(self.custom.as_deref(), options)?;
        validate_attachments(&self.attachments, options)?;
        validate_mentions(&self.mentions)?;
        if let Some(quoted_id) = &self.quoted_id {
            validate_name("the id of the message quoted", quoted_id)?;
        }
        if let Some(poll_id) = &self.poll_id {
            validate_name("the id of the poll", poll_id)?;
        }
        let shows = bare || self.poll_id.is_some();
        if self.text.is_empty() && self.custom.is_none() && self.attachments.is_empty() && !shows {
            return Err(says_nothing());
        }
        let mut row = MessageRow {
            id,
            user_id: self.user_id,
            text: self.text,
            custom: self.custom,
            parent_id: self.parent_id,
            system: self.system,
            silent: self.silent,
            created_at_ms: self.created_at_ms.unwrap_or(now_ms),
            updated_at_ms: None,
            deleted_at_ms: None,
            version: 1,
            fingerprint: 0,
            attachments: self.attachments,
            mentions: self.mentions.users.into_iter().collect(),
            mentions_channel: self.mentions.channel,
            mentioned_groups: self.mentions.groups.into_iter().collect(),
            quoted_id: self.quoted_id,
            pinned: None,
            erased: 0,
            audience: 0,
            poll_id: self.poll_id,
            location: 0,
        };
        row.fingerprint = fingerprint(&row);
        Ok(row)
    }
}

/// A change of a message, in whole or in part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edit {
    /// Who changes it.
    pub user_id: String,
    /// The new text; `None` = as it was.
    pub text: Option<String>,
    /// The new custom data; `None` = as it was.
    pub custom: Option<String>,
    /// The new attachments; `None` = as they were.
    pub attachments: Option<Vec<String>>,
    /// Whom it mentions now; `None` = as it was. Who was not mentioned when it was sent is shown, but not counted.
    pub mentions: Option<Mentions>,
    /// Changes of single fields of the custom data, after `custom`.
    pub patch: Patch,
}

/// What a message said before an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviousText {
    /// The version that said it.
    pub version: u32,
    /// What it said.
    pub text: String,
    /// Its custom data.
    pub custom: Option<String>,
    /// Its attachments.
    pub attachments: Vec<String>,
    /// When it was replaced.
    pub replaced_at_ms: u64,
    /// Who replaced it.
    pub replaced_by: String,
}

impl Message {
    /// Whether this user sees the message.
    pub fn is_visible_to(&self, user: &str) -> bool {
        self.audience == Audience::Everybody || self.user_id == user
    }

    pub(crate) fn from_row(row: MessageRow, place: Place) -> Self {
        let deleted = row.deleted_at_ms.is_some();
        Self {
            id: row.id,
            place,
            user_id: row.user_id,
            text: if deleted { String::new() } else { row.text },
            parent_id: row.parent_id,
            custom: if deleted { None } else { row.custom },
            attachments: if deleted { Vec::new() } else { row.attachments },
            mentions: if deleted {
                Mentions::default()
            } else {
                Mentions {
                    users: row.mentions.into_iter().collect(),
                    groups: row.mentioned_groups.into_iter().collect(),
                    channel: row.mentions_channel,
                }
            },
            quoted_id: row.quoted_id,
            shows: if deleted { None } else { Shows::of(row.poll_id, row.location) },
            pinned: row.pinned.map(Pin::from_row),
            system: row.system,
            silent: row.silent,
            created_at_ms: row.created_at_ms,
            updated_at_ms: row.updated_at_ms,
            deleted_at_ms: row.deleted_at_ms,
            erased: row.erased != 0,
            audience: if row.audience == 0 { Audience::Everybody } else { Audience::Sender },
            version: row.version,
            stats: None,
        }
    }
}

impl Pin {
    fn from_row(row: PinRow) -> Self {
        Self { pinned_at_ms: row.pinned_at_ms, pinned_by: row.pinned_by, expires_at_ms: row.expires_at_ms }
    }
}

pub(crate) fn says_nothing() -> Error {
    Error::invalid("a message has a text, custom data, an attachment or a poll")
}

pub(crate) fn validate_attachments(attachments: &[String], options: &ChatOptions) -> Result<()> {
    if attachments.len() > ATTACHMENTS_MAX {
        let message = format!("a message has at most {ATTACHMENTS_MAX} attachments, not {}", attachments.len());
        return Err(Error::invalid(message));
    }
    let (bytes, limit) = (attachments.iter().map(String::len).sum::<usize>(), options.custom_limit());
    if bytes > limit {
        let message = format!("the attachments have {bytes} bytes, more than {limit}: send links to what is large");
        return Err(Error::new(ErrorKind::BatchTooLarge, message));
    }
    attachments.iter().try_for_each(|one| validate_object("an attachment", one))
}

pub(crate) fn validate_mentions(mentions: &Mentions) -> Result<()> {
    for (what, names) in [("a mentioned user", &mentions.users), ("a mentioned group", &mentions.groups)] {
        if names.len() > MENTIONS_MAX {
            let message = format!("a message mentions at most {MENTIONS_MAX} users and groups, not {}", names.len());
            return Err(Error::invalid(message));
        }
        names.iter().try_for_each(|name| validate_name(what, name))?;
    }
    Ok(())
}

pub(crate) fn validate_text(text: &str, options: &ChatOptions) -> Result<()> {
    let limit = options.text_limit();
    if text.len() > limit {
        return Err(Error::new(
            ErrorKind::BatchTooLarge,
            format!("the text has {} bytes, more than {limit}", text.len()),
        ));
    }
    Ok(())
}

/// Refuses custom data that is too long or no JSON object.
pub(crate) fn validate_custom(custom: Option<&str>, options: &ChatOptions) -> Result<()> {
    let Some(custom) = custom else {
        return Ok(());
    };
    let limit = options.custom_limit();
    if custom.len() > limit {
        return Err(Error::new(
            ErrorKind::BatchTooLarge,
            format!("the custom data has {} bytes, more than {limit}", custom.len()),
        ));
    }
    validate_object("custom data", custom)
}

fn validate_object(what: &str, text: &str) -> Result<()> {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(serde_json::Value::Object(_)) => Ok(()),
        Ok(_) => Err(Error::invalid(format!("{what} is a JSON object, and this is another kind of value"))),
        Err(error) => Err(Error::invalid(format!("{what} is not JSON: {error}"))),
    }
}

/// A UUIDv7 from the given clock and generator.
pub(crate) fn new_id(options: &ChatOptions, now_ms: u64) -> String {
    let random = call::random_u128(options.random.as_ref()).to_be_bytes();
    let tail = random.first_chunk::<10>().expect("16 bytes hold 10");
    uuid::Builder::from_unix_timestamp_millis(now_ms, tail).into_uuid().to_string()
}

/// FNV-1a over what makes two sends the same message. Stable for ever, since it is stored.
pub(crate) fn fingerprint(row: &MessageRow) -> u64 {
    let flags = [u8::from(row.system), u8::from(row.silent)];
    let parts = [
        Some(row.user_id.as_bytes()),
        Some(row.text.as_bytes()),
        row.parent_id.as_deref().map(str::as_bytes),
        row.custom.as_deref().map(str::as_bytes),
        Some(flags.as_slice()),
    ];
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for part in parts {
        add(&[u8::from(part.is_some())]);
        let part = part.unwrap_or_default();
        add(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        add(part);
    }
    // What came later changes the hash only where it is used, so that older messages keep theirs.
    let lists = [&row.attachments, &row.mentions, &row.mentioned_groups];
    for (tag, list) in (2_u8..).zip(lists) {
        for item in list {
            add(&[tag]);
            add(&u64::try_from(item.len()).unwrap_or(u64::MAX).to_be_bytes());
            add(item.as_bytes());
        }
    }
    if row.mentions_channel {
        add(&[5]);
    }
    for (tag, id) in [(6, &row.quoted_id), (7, &row.poll_id)] {
        if let Some(id) = id {
            add(&[tag]);
            add(id.as_bytes());
        }
    }
    if row.location != 0 {
        add(&[8]);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_messages_are_refused_by_kind() {
        let options = ChatOptions { text_bytes_max: 8, ..ChatOptions::default() };
        let refused = |message: NewMessage| message.prepare(&options).expect_err("refused").kind();
        assert_eq!(refused(NewMessage::new("u", "")), ErrorKind::Invalid);
        assert_eq!(refused(NewMessage::new("", "x")), ErrorKind::Invalid);
        assert_eq!(refused(NewMessage::new("u", "x").with_id("a\nb")), ErrorKind::Invalid);
        assert_eq!(refused(NewMessage::new("u", "123456789")), ErrorKind::BatchTooLarge);
        for custom in ["[1]", "{", "\"x\""] {
            let message = NewMessage { custom: Some(custom.into()), ..NewMessage::new("u", "x") };
            assert_eq!(refused(message), ErrorKind::Invalid, "{custom}");
        }
    }

    #[test]
    fn the_fingerprint_keeps_fields_apart() {
        let options = ChatOptions::default();
        let of = |message: NewMessage| message.with_id("i").prepare(&options).expect("valid").fingerprint;
        assert_eq!(of(NewMessage::new("u", "x")), of(NewMessage::new("u", "x")));
        assert_ne!(of(NewMessage::new("u", "x")), of(NewMessage::new("ux", "").reply_to("p").with_custom_for_test()));
        assert_ne!(of(NewMessage::new("ab", "c")), of(NewMessage::new("a", "bc")));
        assert_ne!(of(NewMessage::new("u", "x")), of(NewMessage::new("u", "x").mentioning("ada")));
        assert_eq!(
            of(NewMessage::new("u", "x")),
            0x60cc_a24a_d330_2c07,
            "what was stored by earlier versions is still right"
        );
    }

    impl NewMessage {
        fn with_custom_for_test(mut self) -> Self {
            self.custom = Some("{}".into());
            self
        }
    }
}
