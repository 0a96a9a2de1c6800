//! What a sink is: whose changes, where to, in which form.
//!
//! Invariant: what is stored was checked, so that whoever runs a sink meets no impossible one.

use keevo_core::limits::{KEYSPACE_NAME_BYTES_MAX, PARTITION_BYTES_MAX};
use keevo_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::kafka::Connection;
use crate::secret::Secret;

/// The most sinks of a cluster.
pub const SINKS_MAX: usize = 32;
/// The longest name of a sink, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// The longest name of a topic, as Kafka has it.
const TOPIC_BYTES_MAX: usize = 249;
/// The most that the brokers' addresses may take, in bytes.
const BROKERS_BYTES_MAX: usize = 1_024;
/// The longest user name or password, in bytes.
const SASL_BYTES_MAX: usize = 512;
/// The most bytes of a CA's certificates.
const CA_BYTES_MAX: usize = 16 << 10;
/// The largest file of JSON lines, in MiB.
const ROTATE_MIB_MAX: u32 = 4_096;

/// In which form changes are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object a change, with everything in it.
    Json,
    /// The value as it is stored; the rest in the record's headers. For Kafka.
    Raw,
}

/// What a Kafka sink promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Each change once, to consumers that read committed records: a batch is a transaction of Kafka.
    ExactlyOnce,
    /// Each change at least once; the same change has the same dedup key.
    AtLeastOnce,
}

/// How a client proves to the brokers who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mechanism {
    /// PLAIN.
    Plain,
    /// SCRAM-SHA-256.
    ScramSha256,
    /// SCRAM-SHA-512.
    ScramSha512,
}

impl Mechanism {
    /// Its name, as Kafka has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }

    /// The mechanism of this name.
    ///
    /// # Errors
    /// `Invalid` for others.
    pub fn from_name(name: &str) -> Result<Self> {
        [Self::Plain, Self::ScramSha256, Self::ScramSha512].into_iter().find(|one| one.name() == name).ok_or_else(
            || {
                let name = name.escape_debug();
                Error::invalid(format!("a SASL mechanism is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, not '{name}'"))
            },
        )
    }
}

/// User and password for the brokers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sasl {
    /// How they are proven.
    pub mechanism: Mechanism,
    /// The user.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// That connections to the brokers are encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tls {
    /// The CA's certificates, PEM; `None` = those that the system of the node trusts.
    pub ca_pem: Option<String>,
}

/// A topic of Kafka.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KafkaTopic {
    /// The brokers.
    pub connection: Connection,
    /// The topic, which must exist.
    pub topic: String,
    /// What is promised.
    pub delivery: Delivery,
}

/// Where changes go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum To {
    /// A topic of Kafka.
    Kafka(KafkaTopic),
    /// Files of JSON lines in the sink's folder at the node that runs it.
    File {
        /// The size at which a new file is begun, in MiB.
        rotate_mib: u32,
        /// How many files are kept; 0 = all.
        keep: u32,
    },
    /// The standard output of the keevod that runs it.
    Stdout,
}

/// A sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sink {
    /// Random: another sink of the same name, made later, is another sink.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// The keyspace whose changes it tells.
    pub keyspace: String,
    /// What the partitions start with whose changes it tells; empty = all.
    #[serde(default)]
    pub prefix: Vec<u8>,
    /// Where they go.
    pub to: To,
    /// In which form.
    pub format: Format,
    /// The only node that may run it; `None` = any.
    #[serde(default)]
    pub node: Option<u64>,
    /// Whether it stands still.
    #[serde(default)]
    pub paused: bool,
    /// When it was made, in milliseconds since the epoch.
    pub created_ms: u64,
}

impl Sink {
    /// Whether everything in it is possible.
    ///
    /// # Errors
    /// `Invalid`, and the message says what is to be changed.
    pub fn check(&self) -> Result<()> {
        check_name(&self.name)?;
        if self.keyspace.is_empty() || self.keyspace.len() > KEYSPACE_NAME_BYTES_MAX {
            return Err(Error::invalid(format!("a keyspace's name has 1 to {KEYSPACE_NAME_BYTES_MAX} bytes")));
        }
        if self.keyspace == crate::KEYSPACE {
            return Err(Error::invalid("the places of sinks are no changes to tell: they would never end"));
        }
        if self.prefix.len() > PARTITION_BYTES_MAX {
            return Err(Error::invalid(format!("a prefix of partitions has at most {PARTITION_BYTES_MAX} bytes")));
        }
        if self.node == Some(0) {
            return Err(Error::invalid("nodes are numbered from 1"));
        }
        match &self.to {
            To::Kafka(topic) => check_kafka(&topic.connection, &topic.topic),
            To::File { .. } | To::Stdout if self.format == Format::Raw => {
                Err(Error::invalid("lines are JSON: the format raw is for Kafka alone"))
            }
            To::File { rotate_mib, .. } if !(1..=ROTATE_MIB_MAX).contains(rotate_mib) => {
                Err(Error::invalid(format!("a file is rotated at 1 to {ROTATE_MIB_MAX} MiB, not at {rotate_mib}")))
            }
            To::File { keep: 1, .. } => {
                Err(Error::invalid("keep at least 2 files, or 0 for all: what was just rotated is still read"))
            }
            To::File { .. } | To::Stdout => Ok(()),
        }
    }

    /// What it promises, in a few words.
    pub fn promise(&self) -> &'static str {
        match &self.to {
            To::Kafka(topic) if topic.delivery == Delivery::ExactlyOnce => "exactly once (transactions)",
            To::Kafka(_) | To::Stdout => "at least once (dedup key)",
            To::File { .. } => "exactly once in the files of a node; at least once (dedup key) when the node changes",
        }
    }

    /// Where its changes go, in a few words.
    pub fn destination(&self) -> String {
        match &self.to {
            To::Kafka(topic) => format!("kafka {} at {}", topic.topic, topic.connection.brokers),
            To::File { .. } => "file".to_owned(),
            To::Stdout => "stdout".to_owned(),
        }
    }
}

/// Whether a sink may be called so; names are folders too.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(good) {
        return Err(Error::invalid(format!("a sink's name has 1 to {NAME_BYTES_MAX} of a-z 0-9 _ -")));
    }
    Ok(())
}

/// Whether a connection and a topic are possible ones.
pub(crate) fn check_kafka(connection: &Connection, topic: &str) -> Result<()> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if topic.is_empty() || topic.len() > TOPIC_BYTES_MAX || !topic.bytes().all(good) || matches!(topic, "." | "..") {
        return Err(Error::invalid(format!("a topic's name has 1 to {TOPIC_BYTES_MAX} of a-z A-Z 0-9 . _ -")));
    }
    let has_port = |broker: &str| {
        broker.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    };
    let brokers = &connection.brokers;
    if brokers.len() > BROKERS_BYTES_MAX || !brokers.split(',').all(|broker| has_port(broker.trim())) {
        return Err(Error::invalid("brokers are a list like kafka1:9092,kafka2:9092"));
    }
    let ca = connection.tls.as_ref().and_then(|tls| tls.ca_pem.as_ref());
    if ca.is_some_and(|pem| pem.len() > CA_BYTES_MAX || !pem.contains("BEGIN CERTIFICATE")) {
        return Err(Error::invalid(format!("a CA's certificates are PEM, of at most {CA_BYTES_MAX} bytes")));
    }
    if let Some(sasl) = &connection.sasl {
        let long = |text: &str| text.is_empty() || text.len() > SASL_BYTES_MAX;
        if long(&sasl.username) || long(sasl.password.expose()) {
            return Err(Error::invalid(format!("a SASL user and password have 1 to {SASL_BYTES_MAX} bytes each")));
        }
        if sasl.mechanism == Mechanism::Plain && connection.tls.is_none() && !connection.is_loopback() {
            return Err(Error::invalid(
                "PLAIN sends the password as it is: use TLS with it, or SCRAM-SHA-256 or SCRAM-SHA-512",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kafka(brokers: &str, sasl: Option<Mechanism>, tls: bool) -> Sink {
        let sasl = sasl.map(|mechanism| Sasl { mechanism, username: "u".into(), password: Secret::new("hush") });
        let connection = Connection { brokers: brokers.into(), tls: tls.then(Tls::default), sasl };
        let delivery = Delivery::ExactlyOnce;
        Sink {
            id: 1,
            name: "orders".into(),
            keyspace: "orders".into(),
            prefix: Vec::new(),
            to: To::Kafka(KafkaTopic { connection, topic: "orders".into(), delivery }),
            format: Format::Json,
            node: None,
            paused: false,
            created_ms: 0,
        }
    }

    #[test]
    fn impossible_sinks_are_refused() {
        type Change = (&'static str, fn(&mut Sink));
        let good = kafka("a:9092, b:9092", Some(Mechanism::Plain), true);
        good.check().expect("possible");
        let bad: [Change; 8] = [
            ("a name with a slash", |sink| sink.name = "a/b".into()),
            ("no name", |sink| sink.name.clear()),
            ("dots", |sink| sink.name = "..".into()),
            ("its own places", |sink| sink.keyspace = crate::KEYSPACE.into()),
            ("node 0", |sink| sink.node = Some(0)),
            ("raw lines", |sink| {
                (sink.to, sink.format) = (To::Stdout, Format::Raw);
            }),
            ("files of nothing", |sink| sink.to = To::File { rotate_mib: 0, keep: 0 }),
            ("one file", |sink| sink.to = To::File { rotate_mib: 1, keep: 1 }),
        ];
        for (what, change) in bad {
            let mut sink = good.clone();
            change(&mut sink);
            assert_eq!(sink.check().expect_err(what).kind(), keevo_core::ErrorKind::Invalid, "{what}");
        }
        for brokers in ["", "a", "a:x", "a:1,,b:2", ":1"] {
            assert!(kafka(brokers, None, false).check().is_err(), "{brokers}");
        }
        assert!(kafka("kafka:9092", Some(Mechanism::Plain), false).check().is_err(), "a password in the open");
        assert!(kafka("127.0.0.1:9092", Some(Mechanism::Plain), false).check().is_ok());
        assert!(kafka("kafka:9092", Some(Mechanism::ScramSha512), false).check().is_ok());
    }

    #[test]
    fn secrets_are_stored_and_not_shown() {
        let sink = kafka("a:1", Some(Mechanism::ScramSha256), false);
        assert!(!format!("{sink:?}").contains("hush"), "{sink:?}");
        let stored = serde_json::to_vec(&sink).expect("JSON");
        assert_eq!(serde_json::from_slice::<Sink>(&stored).expect("read back"), sink);
    }
}
