//! What a role allows: actions, and where.
//!
//! ```text
//! read,write kv:orders/eu-      read *      admin feeds:3
//! └ actions ┘└──── where ─┘
//! ```
//!
//! Invariant: a grant covers what its text says and nothing more; the keyspaces of the typed layers, which hold every app's
//! data, are covered by name or by administration only.

use std::fmt::{self, Write};
use std::str::FromStr;

use bytes::Bytes;
use keevo_core::limits::PARTITION_BYTES_MAX;
use keevo_core::{Error, Result, keyspaces};

/// The keyspaces of the typed layers and of the gateways: one who reads them reads every app.
pub const LAYER_KEYSPACES: [&str; 7] = [
    crate::apilog::KEYSPACE,
    keevo_chat::KEYSPACE,
    keevo_feeds::KEYSPACE,
    keevo_moderation_policy::KEYSPACE,
    keevo_gateway::KEYSPACE,
    keevo_gateway::META_KEYSPACE,
    keevo_streams::KEYSPACE,
];

/// Something that a caller does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Follows changes.
    Watch,
    /// Administers.
    Admin,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Watch, Self::Admin];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Watch => "watch",
            Self::Admin => "admin",
        }
    }
}

/// Where a grant holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Everywhere.
    Everything,
    /// In one keyspace, or in all but those of the layers; in partitions that begin with `prefix`.
    Keyspaces {
        /// `None` = all.
        name: Option<String>,
        /// What the partitions begin with; empty = all of them.
        prefix: Bytes,
    },
    /// In the feeds of one app, or of all.
    Feeds(Option<u32>),
    /// In the chat of one app, or of all.
    Chat(Option<u32>),
    /// In the API log.
    ApiLog,
}

/// One thing that a role allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// In the order of [`Action::ALL`].
    actions: Vec<Action>,
    place: Place,
}

/// What a request touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// The cluster.
    Cluster,
    /// A keyspace as such: its name may be known, and with [`Action::Admin`] it may be made.
    Keyspace(&'a str),
    /// One partition of a keyspace.
    Partition(&'a str, &'a [u8]),
    /// All partitions of a keyspace that begin with a prefix.
    Prefix(&'a str, &'a [u8]),
    /// The feeds of an app.
    Feeds(u32),
    /// The chat of an app.
    Chat(u32),
    /// The API log: to read is to see the calls of all apps, to administer is to replay them.
    ApiLog,
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("the cluster"),
            Self::Keyspace(name) => write!(f, "keyspace {name}"),
            Self::Partition(name, partition) => write!(f, "partition {} of keyspace {name}", escape(partition)),
            Self::Prefix(name, []) => write!(f, "all of keyspace {name}"),
            Self::Prefix(name, prefix) => write!(f, "partitions of keyspace {name} beyond {}", escape(prefix)),
            Self::Feeds(app) => write!(f, "the feeds of app {app}"),
            Self::Chat(app) => write!(f, "the chat of app {app}"),
            Self::ApiLog => f.write_str("the API log"),
        }
    }
}

impl Grant {
    /// A grant of some actions.
    pub fn new(actions: &[Action], place: Place) -> Self {
        let actions = Action::ALL.into_iter().filter(|action| actions.contains(action)).collect();
        Self { actions, place }
    }

    /// Whether it allows `action` on all of `target`.
    pub fn covers(&self, action: Action, target: Target<'_>) -> bool {
        self.actions.contains(&action) && self.reaches(target)
    }

    /// Whether it allows `action` anywhere among keys and values.
    pub fn touches_keys(&self, action: Action) -> bool {
        self.actions.contains(&action) && matches!(self.place, Place::Everything | Place::Keyspaces { .. })
    }

    /// Whether it allows anything in the keyspace of that name, so that its holder may know that it is there.
    pub fn knows(&self, keyspace: &str) -> bool {
        self.names(keyspace)
    }

    fn names(&self, keyspace: &str) -> bool {
        match &self.place {
            Place::Everything => self.actions.contains(&Action::Admin) || !LAYER_KEYSPACES.contains(&keyspace),
            Place::Keyspaces { name: Some(name), .. } => name == keyspace,
            Place::Keyspaces { name: None, .. } => !LAYER_KEYSPACES.contains(&keyspace),
            Place::Feeds(_) | Place::Chat(_) | Place::ApiLog => false,
        }
    }

    fn reaches(&self, target: Target<'_>) -> bool {
        let within = |partition: &[u8]| match &self.place {
            Place::Keyspaces { prefix, .. } => partition.starts_with(prefix),
            _ => true,
        };
        let of_app = |own: &Option<u32>, app: u32| own.is_none_or(|own| own == app);
        match (target, &self.place) {
            (Target::Keyspace(name), _) => self.names(name) && within(b""),
            (Target::Partition(name, partition) | Target::Prefix(name, partition), _) => {
                self.names(name) && within(partition)
            }
            (Target::Feeds(app), Place::Feeds(own)) | (Target::Chat(app), Place::Chat(own)) => of_app(own, app),
            (Target::ApiLog, Place::ApiLog) => true,
            // It shows the keyspaces of all layers.
            (Target::ApiLog, place) => *place == Place::Everything && self.actions.contains(&Action::Admin),
            (Target::Cluster | Target::Feeds(_) | Target::Chat(_), place) => *place == Place::Everything,
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.actions.iter().map(|action| action.name()).collect();
        write!(f, "{} ", names.join(","))?;
        let app = |app: &Option<u32>| app.map_or_else(|| "*".to_owned(), |app| app.to_string());
        match &self.place {
            Place::Everything => f.write_str("*"),
            Place::Keyspaces { name, prefix } => {
                write!(f, "kv:{}", name.as_deref().unwrap_or("*"))?;
                if prefix.is_empty() { Ok(()) } else { write!(f, "/{}", escape(prefix)) }
            }
            Place::Feeds(own) => write!(f, "feeds:{}", app(own)),
            Place::Chat(own) => write!(f, "chat:{}", app(own)),
            Place::ApiLog => f.write_str("apilog"),
        }
    }
}

impl FromStr for Grant {
    type Err = Error;

    /// Reads a grant; `Invalid` says what is wrong with it.
    fn from_str(text: &str) -> Result<Self> {
        let (named, place) = text.trim().split_once(' ').ok_or_else(|| {
            Error::invalid(format!("a grant is actions, a space and where, such as 'read kv:orders', unlike '{text}'"))
        })?;
        let mut actions = Vec::new();
        for name in named.split(',') {
            let action = Action::ALL.into_iter().find(|action| action.name() == name);
            actions.push(action.ok_or_else(|| {
                Error::invalid(format!("an action is read, write, watch or admin, unlike '{}'", name.escape_debug()))
            })?);
        }
        Ok(Self::new(&actions, parse_place(place.trim())?))
    }
}

fn parse_place(text: &str) -> Result<Place> {
    if text == "*" {
        return Ok(Place::Everything);
    }
    if text == "apilog" {
        return Ok(Place::ApiLog);
    }
    let app = |text: &str| match text {
        "*" => Ok(None),
        number => number.parse().map(Some).map_err(|error: std::num::ParseIntError| {
            Error::invalid(format!("an app is a number or *, unlike '{}'", number.escape_debug())).with_source(error)
        }),
    };
    match text.split_once(':') {
        Some(("feeds", rest)) => app(rest).map(Place::Feeds),
        Some(("chat", rest)) => app(rest).map(Place::Chat),
        Some(("kv", rest)) => {
            let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let prefix = unescape(prefix)?;
            if prefix.len() > PARTITION_BYTES_MAX {
                return Err(Error::invalid(format!("a partition has at most {PARTITION_BYTES_MAX} bytes")));
            }
            if name == "*" {
                return Ok(Place::Keyspaces { name: None, prefix });
            }
            keyspaces::validate_name(name)?;
            Ok(Place::Keyspaces { name: Some(name.to_owned()), prefix })
        }
        _ => Err(Error::invalid(format!(
            "a grant holds in kv:KEYSPACE, kv:KEYSPACE/PREFIX, feeds:APP, chat:APP, apilog or *, unlike '{}'",
            text.escape_debug()
        ))),
    }
}

/// Bytes as text: what is no visible ASCII, and the backslash, as `\xNN`.
pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'\\' => text.push_str("\\x5c"),
            b'!'..=b'~' => text.push(char::from(*byte)),
            other => write!(text, "\\x{other:02x}").expect("a string takes all text"),
        }
    }
    text
}

/// The bytes that [`escape`] wrote; other characters stand for their UTF-8. `Invalid` for a backslash without two digits.
pub(crate) fn unescape(text: &str) -> Result<Bytes> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let digits = after.strip_prefix('x').and_then(|after| after.get(..2));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(
            byte.ok_or_else(|| Error::invalid("a byte of a prefix is written \\xNN, with two hexadecimal digits"))?,
        );
        rest = after.get(3..).unwrap_or_default();
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(text: &str) -> Grant {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_grant_is_written_as_it_is_read() {
        for text in [
            "read *",
            "read,write,watch,admin *",
            "read kv:*",
            "write kv:orders",
            "read,watch kv:orders/eu-",
            "read kv:orders/\\x00\\xff",
            "read kv:*/eu-",
            "read feeds:3",
            "write,admin feeds:*",
            "watch chat:1",
            "read,admin apilog",
        ] {
            assert_eq!(grant(text).to_string(), text);
        }
        assert_eq!(grant("admin,read,read *").to_string(), "read,admin *", "in one order, each once");
        for bad in
            ["", "read", "eat *", "read kv", "read kv:", "read kv:UPPER", "read feeds:x", "read,  *", "read kv:a/\\x0"]
        {
            assert_eq!(bad.parse::<Grant>().expect_err(bad).kind(), keevo_core::ErrorKind::Invalid, "{bad}");
        }
    }

    #[test]
    fn a_grant_covers_what_it_says() {
        use Target::{Chat, Cluster, Feeds, Keyspace, Partition, Prefix};
        let eu = grant("read kv:orders/eu-");
        for (target, covered) in [
            (Partition("orders", b"eu-1"), true),
            (Partition("orders", b"eu-"), true),
            (Partition("orders", b"eu"), false),
            (Partition("orders", b"us-1"), false),
            (Partition("other", b"eu-1"), false),
            (Prefix("orders", b"eu-x"), true),
            (Prefix("orders", b""), false),
            (Keyspace("orders"), false),
            (Cluster, false),
            (Feeds(1), false),
        ] {
            assert_eq!(eu.covers(Action::Read, target), covered, "{target}");
            assert!(!eu.covers(Action::Write, target), "{target}");
        }
        assert!(eu.knows("orders") && !eu.knows("other"));
        let all = grant("read kv:*");
        assert!(all.covers(Action::Read, Prefix("anything", b"")));
        for layer in LAYER_KEYSPACES {
            assert!(!all.covers(Action::Read, Partition(layer, b"x")), "{layer}");
            assert!(!grant("read,write *").covers(Action::Read, Partition(layer, b"x")), "{layer}");
            assert!(grant("read,admin *").covers(Action::Read, Partition(layer, b"x")), "{layer}");
            assert!(grant(&format!("read kv:{layer}")).covers(Action::Read, Partition(layer, b"x")), "{layer}");
        }
        assert!(grant("read feeds:3").covers(Action::Read, Feeds(3)));
        assert!(!grant("read feeds:3").covers(Action::Read, Feeds(4)));
        assert!(!grant("read feeds:3").covers(Action::Read, Chat(3)));
        assert!(grant("watch chat:*").covers(Action::Watch, Chat(9)));
        assert!(grant("read apilog").covers(Action::Read, Target::ApiLog));
        assert!(!grant("read apilog").covers(Action::Admin, Target::ApiLog));
        assert!(grant("read,admin *").covers(Action::Admin, Target::ApiLog));
        for other in ["read,write,watch *", "read kv:*", "read chat:*", "read feeds:*"] {
            assert!(!grant(other).covers(Action::Read, Target::ApiLog), "{other}");
        }
        assert!(!grant("admin apilog").covers(Action::Admin, Cluster));
        assert!(grant("admin *").covers(Action::Admin, Cluster) && !grant("write *").covers(Action::Admin, Cluster));
        assert!(grant("admin kv:orders").covers(Action::Admin, Keyspace("orders")));
        assert!(!grant("admin kv:orders/eu-").covers(Action::Admin, Keyspace("orders")));
    }
}
