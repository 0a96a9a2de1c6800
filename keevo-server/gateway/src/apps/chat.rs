//! What an app says of its chat: whom it asks before messages are sent, whom it tells of events, its commands, and how long
//! messages are kept.

use std::collections::{BTreeMap, BTreeSet};

use keevo_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::model::{Secret, WEBHOOKS_MAX, check_hook};

/// The most commands of an app.
pub const COMMANDS_MAX: usize = 50;
/// The most channel types for which an app says how long messages are kept.
pub const RETENTIONS_MAX: usize = 100;
/// How long an app may have its hook take before a message is sent, in milliseconds.
pub const BEFORE_SEND_MS: std::ops::RangeInclusive<u64> = 50..=3_000;
/// The most bytes of a name.
const NAME_BYTES_MAX: usize = 64;
/// The most bytes of a description.
const TEXT_BYTES_MAX: usize = 1_000;
/// The most events, or channel types, that a hook names.
const NAMED_MAX: usize = 100;

/// What an app says of its chat.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ChatSettings {
    /// Whom to ask before a message is sent; `None` = nobody.
    pub before_send: Option<BeforeSend>,
    /// Whom to tell of events, by name.
    pub hooks: BTreeMap<String, ChatHook>,
    /// What can be typed as `/name`, by name.
    pub commands: BTreeMap<String, ChatCommand>,
    /// How long messages are kept, by channel type; others are kept for good.
    pub retention: BTreeMap<String, ChatRetention>,
}

/// What happens to a message when the hook that is asked gives no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// It is sent as it is.
    #[default]
    Send,
    /// It is refused, and may be repeated.
    Refuse,
}

/// Whom to ask before a message is sent or edited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeforeSend {
    /// An `http` or `https` address.
    pub url: String,
    /// Signs each body.
    pub secret: Secret,
    /// How long the answer may take, in milliseconds.
    pub timeout_ms: u64,
    /// What happens without an answer.
    pub on_failure: OnFailure,
    /// Only messages of channels of these types; empty = all.
    pub types: BTreeSet<String>,
}

/// Whom to tell of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatHook {
    /// An `http` or `https` address.
    pub url: String,
    /// Signs each body.
    pub secret: Secret,
    /// Only events of these types; empty = all.
    pub events: BTreeSet<String>,
}

/// What can be typed as `/name`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatCommand {
    /// The address that carries it out.
    pub url: String,
    /// Signs each body.
    pub secret: Secret,
    /// What it does, for people.
    pub description: String,
    /// Its arguments, such as `[user] [reason]`.
    pub arguments: String,
    /// Only in channels of these types; empty = all.
    pub types: BTreeSet<String>,
}

/// How long messages are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatRetention {
    /// The age from which on a message is erased, in milliseconds.
    pub age_ms_max: u64,
    /// Whether pinned messages are kept as long as they are pinned.
    pub keep_pinned: bool,
}

impl ChatSettings {
    pub(super) fn check(&self) -> Result<()> {
        for (what, count, max) in [
            ("webhooks of chat", self.hooks.len(), WEBHOOKS_MAX),
            ("commands", self.commands.len(), COMMANDS_MAX),
            ("retentions", self.retention.len(), RETENTIONS_MAX),
        ] {
            if count > max {
                return Err(Error::invalid(format!("an app has at most {max} {what}, not {count}")));
            }
        }
        let names = self.hooks.keys().chain(self.commands.keys()).chain(self.retention.keys());
        names.map(String::as_str).try_for_each(check_name)?;
        if let Some(before) = &self.before_send {
            check_hook(&before.url, &before.secret)?;
            check_named(&before.types)?;
            if !BEFORE_SEND_MS.contains(&before.timeout_ms) {
                let (least, most) = (BEFORE_SEND_MS.start(), BEFORE_SEND_MS.end());
                return Err(Error::invalid(format!("timeout_ms is {least} to {most}, not {}", before.timeout_ms)));
            }
        }
        for hook in self.hooks.values() {
            check_hook(&hook.url, &hook.secret)?;
            check_named(&hook.events)?;
        }
        for command in self.commands.values() {
            check_hook(&command.url, &command.secret)?;
            check_named(&command.types)?;
            if command.description.len().max(command.arguments.len()) > TEXT_BYTES_MAX {
                return Err(Error::invalid(format!("a command's texts have up to {TEXT_BYTES_MAX} bytes each")));
            }
        }
        if self.retention.values().any(|one| one.age_ms_max == 0) {
            return Err(Error::invalid("age_ms_max is 1 or more: leave the retention out to keep messages for good"));
        }
        Ok(())
    }
}

fn check_name(name: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(allowed) {
        return Err(Error::invalid(format!("a name of a setting has 1 to {NAME_BYTES_MAX} of a-z A-Z 0-9 _ -")));
    }
    Ok(())
}

fn check_named(names: &BTreeSet<String>) -> Result<()> {
    if names.len() > NAMED_MAX || names.iter().any(|name| name.is_empty() || name.len() > NAME_BYTES_MAX) {
        return Err(Error::invalid(format!("a setting names up to {NAMED_MAX}, of 1 to {NAME_BYTES_MAX} bytes each")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(url: &str, secret: &str) -> ChatHook {
        ChatHook { url: url.to_owned(), secret: Secret::new(secret), events: BTreeSet::new() }
    }

    #[test]
    fn settings_are_checked() {
        let with = |name: &str, hook: ChatHook| ChatSettings {
            hooks: BTreeMap::from([(name.to_owned(), hook)]),
            ..ChatSettings::default()
        };
        assert!(with("a", hook("https://example.org/x", "a secret")).check().is_ok());
        for (name, url, secret) in [
            ("", "https://example.org", "a secret"),
            ("a b", "https://example.org", "a secret"),
            ("a", "ftp://example.org", "a secret"),
            ("a", "nowhere", "a secret"),
            ("a", "https://example.org", "short"),
        ] {
            assert!(with(name, hook(url, secret)).check().is_err(), "{name} {url} {secret}");
        }
        let many = (0..=WEBHOOKS_MAX).map(|number| (number.to_string(), hook("https://example.org", "a secret")));
        assert!(ChatSettings { hooks: many.collect(), ..ChatSettings::default() }.check().is_err());
        let before = |timeout_ms| ChatSettings {
            before_send: Some(BeforeSend {
                url: "https://example.org".to_owned(),
                secret: Secret::new("a secret"),
                timeout_ms,
                on_failure: OnFailure::Send,
                types: BTreeSet::new(),
            }),
            ..ChatSettings::default()
        };
        assert!(before(1_000).check().is_ok() && before(0).check().is_err() && before(60_000).check().is_err());
        let none = ChatRetention { age_ms_max: 0, keep_pinned: true };
        let retention = BTreeMap::from([("team".to_owned(), none)]);
        assert!(ChatSettings { retention, ..ChatSettings::default() }.check().is_err());
    }

    #[test]
    fn what_was_stored_without_settings_has_none() {
        let app: super::super::App = serde_json::from_str(r#"{"id": 1, "name": "x"}"#).expect("an app");
        assert_eq!(app.chat, ChatSettings::default());
    }
}
