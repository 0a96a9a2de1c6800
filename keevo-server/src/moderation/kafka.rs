//! A topic of Kafka whose texts are judged.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use keevo_core::{Error, ErrorKind, Result};
use keevo_moderation_policy::{QueuedText, TextQueue, TextReader};
use keevo_streams::{Connection, KafkaQueue, Mechanism, QueueReader, Sasl, Secret, Tls};

use crate::config::KafkaTexts;

/// The topic, and the brokers that have it.
struct Topic {
    queue: KafkaQueue,
    brokers: String,
}

/// One that is read.
struct Reader(QueueReader);

/// The topic that is configured; its files are read now.
///
/// # Errors
/// `Config` where a file cannot be read or says nothing of use, or the topic is impossible.
pub(super) fn open(config: &KafkaTexts) -> Result<impl TextQueue> {
    let read = |setting: &str, path: &std::path::Path| {
        std::fs::read_to_string(path).map_err(|error| {
            let message = format!("{setting} {} cannot be read", path.display());
            Error::new(ErrorKind::Config, message).with_source(error)
        })
    };
    let ca_pem = config.ca.as_ref().map(|path| read("moderation_kafka_ca", path)).transpose()?;
    let sasl = config.sasl_file.as_ref().map(|path| sasl_of(&read("moderation_kafka_sasl_file", path)?)).transpose()?;
    let tls = config.tls.then_some(Tls { ca_pem });
    let brokers = config.brokers.clone();
    let connection = Connection { brokers: brokers.clone(), tls, sasl };
    let queue = KafkaQueue::new(connection, config.topic.clone())
        .map_err(|error| Error::new(ErrorKind::Config, format!("moderation_kafka: {}", error.message())))?;
    Ok(Topic { queue, brokers })
}

/// `MECHANISM:USER:PASSWORD`, on one line.
fn sasl_of(text: &str) -> Result<Sasl> {
    let wrong = || Error::new(ErrorKind::Config, "moderation_kafka_sasl_file holds one line, MECHANISM:USER:PASSWORD");
    let mut parts = text.trim_end_matches(['\r', '\n']).splitn(3, ':');
    let (Some(mechanism), Some(username), Some(password)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(wrong());
    };
    let mechanism = Mechanism::from_name(mechanism).map_err(|_unknown| wrong())?;
    Ok(Sasl { mechanism, username: username.to_owned(), password: Secret::new(password) })
}

impl TextQueue for Topic {
    /// A topic of the same name at other brokers is another one, with places of its own.
    fn name(&self) -> String {
        format!("kafka {} at {}", self.queue.topic(), self.brokers)
    }

    fn open(&self, next: BTreeMap<i32, i64>) -> BoxFuture<'_, Result<Box<dyn TextReader>>> {
        async move {
            let reader: Box<dyn TextReader> = Box::new(Reader(self.queue.open(&next).await?));
            Ok(reader)
        }
        .boxed()
    }
}

impl TextReader for Reader {
    fn next(&mut self, wait: Duration) -> BoxFuture<'_, Result<Vec<QueuedText>>> {
        async move {
            let records = self.0.next(wait).await?;
            let text = |one: keevo_streams::Queued| QueuedText {
                partition: one.partition,
                offset: one.offset,
                at_ms: one.at_ms,
                payload: one.payload,
            };
            Ok(records.into_iter().map(text).collect())
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_may_hold_colons_and_is_not_shown() {
        let sasl = sasl_of("SCRAM-SHA-512:keevo:a:b\n").expect("whole");
        assert_eq!((sasl.username.as_str(), sasl.password.expose()), ("keevo", "a:b"));
        for bad in ["", "PLAIN", "PLAIN:hush", "GSSAPI:keevo:hush"] {
            let error = sasl_of(bad).expect_err(bad);
            assert!(error.kind() == ErrorKind::Config && !format!("{error:?}").contains("hush"), "{error:?}");
        }
    }
}
