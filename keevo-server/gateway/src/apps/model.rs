//! An app as it is stored, and its limits.

use std::collections::BTreeMap;
use std::fmt;

use keevo_core::{Error, Result};
use keevo_feeds::{GroupConfig, GroupKind, Groups, TIMELINE_MAX, Template};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::chat::ChatSettings;

/// The most apps of a cluster.
pub const APPS_MAX: usize = 1_000;
/// The most keys of an app.
pub const KEYS_MAX: usize = 20;
/// The most feed groups of an app.
pub const GROUPS_MAX: usize = 100;
/// The most webhooks of an app.
pub const WEBHOOKS_MAX: usize = 10;
/// The most bytes of a key, a secret and a name.
const TEXT_BYTES_MAX: usize = 255;
/// The fewest bytes of a secret that somebody chose.
const SECRET_BYTES_MIN: usize = 6;
/// The most bytes of an aggregation template, or of a ranking.
const EXPRESSION_BYTES_MAX: usize = 4_096;
/// The most rankings of a group.
const RANKINGS_MAX: usize = 20;

/// A secret: it prints as dots, so that no log and no error holds it.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The secret with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Its text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("•••")
    }
}

/// An API key and the secret that its tokens are signed with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppKey {
    /// The public part: 1 to 255 letters, digits, `-` and `_`.
    pub key: String,
    /// The secret part, 6 to 255 bytes.
    pub secret: Secret,
    /// When it was added, in milliseconds since the epoch.
    pub created_ms: u64,
}

impl AppKey {
    pub(super) fn check(&self) -> Result<()> {
        check_key(&self.key)?;
        if !(SECRET_BYTES_MIN..=TEXT_BYTES_MAX).contains(&self.secret.expose().len()) {
            return Err(Error::invalid(format!("a secret has {SECRET_BYTES_MIN} to {TEXT_BYTES_MAX} bytes")));
        }
        Ok(())
    }
}

/// A feed group of an app.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GroupSetting {
    /// How it shows its activities.
    pub kind: GroupKind,
    /// The template that groups activities, such as `{{ verb }}_{{ time.strftime("%Y-%m-%d") }}`; `None` = that one.
    pub aggregation: Option<String>,
    /// Ranking expressions by name: `{"score": …, "defaults": {…}}`.
    pub rankings: BTreeMap<String, Value>,
    /// How many of its newest activities a feed shows, up to 10,000; `None` = all.
    pub timeline_max: Option<u32>,
    /// Above how many followers a feed is merged by its readers instead of being written to each; `None` = never.
    pub read_merge_above: Option<u64>,
    /// Whether a user's token reads feeds of other users.
    pub others_read: bool,
    /// Whether a user's token writes to feeds of other users, through `to` and `target_feeds`.
    pub others_write: bool,
}

impl GroupSetting {
    fn template(&self) -> Result<Template> {
        self.aggregation.as_deref().map_or_else(|| Ok(Template::default()), Template::parse)
    }

    fn check(&self, slug: &str) -> Result<()> {
        if self.aggregation.as_ref().is_some_and(|text| text.len() > EXPRESSION_BYTES_MAX) {
            return Err(Error::invalid(format!("group {slug}: a template has up to {EXPRESSION_BYTES_MAX} bytes")));
        }
        self.template().map_err(|error| Error::invalid(format!("group {slug}: {}", error.message())))?;
        if self.rankings.len() > RANKINGS_MAX {
            return Err(Error::invalid(format!("group {slug}: at most {RANKINGS_MAX} rankings")));
        }
        if self.rankings.values().any(|one| one.to_string().len() > EXPRESSION_BYTES_MAX) {
            return Err(Error::invalid(format!("group {slug}: a ranking has up to {EXPRESSION_BYTES_MAX} bytes")));
        }
        for (name, ranking) in &self.rankings {
            keevo_feeds::Ranking::from_json(ranking)
                .map_err(|error| Error::invalid(format!("group {slug}, ranking {name}: {}", error.message())))?;
        }
        if self.timeline_max.is_some_and(|max| max == 0 || usize::try_from(max).is_ok_and(|max| max > TIMELINE_MAX)) {
            return Err(Error::invalid(format!("group {slug}: timeline_max is 1 to {TIMELINE_MAX}")));
        }
        Ok(())
    }
}

/// Where changes of feeds are sent to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// An `http` or `https` address.
    pub url: String,
    /// Signs each body: `X-Signature` is the hexadecimal HMAC-SHA-256 of it.
    pub secret: Secret,
    /// Only changes of feeds of these groups; empty = all.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// What users' tokens may do beyond what the groups say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policies {
    /// Whether users read activities by their ids.
    pub activities_read: bool,
    /// Whether users upload files and images.
    pub files_write: bool,
    /// Whether users have pages scraped for Open Graph.
    pub og_read: bool,
}

impl Default for Policies {
    fn default() -> Self {
        Self { activities_read: true, files_write: true, og_read: true }
    }
}

/// An app.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct App {
    /// Its id; feeds of different apps never meet.
    pub id: u32,
    /// What people call it.
    pub name: String,
    /// When it was made, in milliseconds since the epoch.
    pub created_ms: u64,
    /// Whether it is suspended: its keys are known and refused.
    pub suspended: bool,
    /// Its keys.
    pub keys: Vec<AppKey>,
    /// Its feed groups, by slug.
    pub groups: BTreeMap<String, GroupSetting>,
    /// What users' tokens may do.
    pub policies: Policies,
    /// Where changes of its feeds are sent to.
    pub webhooks: Vec<Webhook>,
    /// Limits of requests a minute, by the limit's name; others have the default.
    pub rates: BTreeMap<String, u32>,
    /// What it says of its chat.
    pub chat: ChatSettings,
}

impl App {
    /// The secret of one of its keys.
    pub(crate) fn secret(&self, key: &str) -> Option<&Secret> {
        self.keys.iter().find(|one| one.key == key).map(|one| &one.secret)
    }

    /// Its groups as the feeds take them. They were checked when they were set.
    pub(crate) fn feed_groups(&self) -> Groups {
        Groups::new(self.groups.iter().map(|(slug, group)| {
            let config = GroupConfig {
                kind: group.kind,
                aggregation: group.template().unwrap_or_default(),
                merge_above: group.read_merge_above,
                timeline_max: group.timeline_max.and_then(|max| usize::try_from(max).ok()),
            };
            (slug.clone(), config)
        }))
    }

    pub(super) fn check(&self) -> Result<()> {
        check_name(&self.name)?;
        if self.keys.len() > KEYS_MAX {
            return Err(Error::invalid(format!("an app has at most {KEYS_MAX} keys; revoke one first")));
        }
        self.keys.iter().try_for_each(AppKey::check)?;
        if self.groups.len() > GROUPS_MAX {
            return Err(Error::invalid(format!("an app has at most {GROUPS_MAX} feed groups")));
        }
        for (slug, group) in &self.groups {
            keevo_feeds::FeedId::new(slug, "x")?;
            group.check(slug)?;
        }
        for name in self.rates.keys() {
            if !crate::limits::LIMITS.iter().any(|(_, known, _)| known == name) {
                let known: Vec<&str> = crate::limits::LIMITS.iter().map(|(_, known, _)| *known).collect();
                return Err(Error::invalid(format!("there is no limit '{name}'; there are {}", known.join(", "))));
            }
        }
        if self.webhooks.len() > WEBHOOKS_MAX {
            return Err(Error::invalid(format!("an app has at most {WEBHOOKS_MAX} webhooks")));
        }
        for hook in &self.webhooks {
            check_hook(&hook.url, &hook.secret)?;
        }
        self.chat.check()
    }
}

/// Refuses an address that cannot be posted to, and a secret that is too short or too long.
pub(super) fn check_hook(url: &str, secret: &Secret) -> Result<()> {
    let good = url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if !good || url.len() > 2_048 {
        return Err(Error::invalid("a webhook is an http or https address of up to 2,048 bytes"));
    }
    if !(SECRET_BYTES_MIN..=TEXT_BYTES_MAX).contains(&secret.expose().len()) {
        return Err(Error::invalid(format!("a secret has {SECRET_BYTES_MIN} to {TEXT_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// The groups of a new app: `user`, `timeline`, `flat` and `topic`, which are flat, `aggregated` and `notification`.
pub fn default_groups() -> BTreeMap<String, GroupSetting> {
    let flat = |others_read| GroupSetting { others_read, ..GroupSetting::default() };
    BTreeMap::from(
        [
            ("user", flat(true)),
            ("timeline", flat(false)),
            ("flat", flat(true)),
            ("topic", flat(true)),
            ("aggregated", GroupSetting { kind: GroupKind::Aggregated, ..GroupSetting::default() }),
            (
                "notification",
                GroupSetting { kind: GroupKind::Notification, others_write: true, ..GroupSetting::default() },
            ),
        ]
        .map(|(slug, group)| (slug.to_owned(), group)),
    )
}

/// Refuses a name that is empty, too long, or holds control characters.
pub(super) fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > TEXT_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(Error::invalid(format!("an app's name has 1 to {TEXT_BYTES_MAX} bytes of text")));
    }
    Ok(())
}

/// Refuses a key that is empty, too long, or has other characters than letters, digits, `-` and `_`.
pub(super) fn check_key(key: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if key.is_empty() || key.len() > TEXT_BYTES_MAX || !key.bytes().all(allowed) {
        return Err(Error::invalid(format!("an API key has 1 to {TEXT_BYTES_MAX} bytes of a-z A-Z 0-9 _ -")));
    }
    Ok(())
}
