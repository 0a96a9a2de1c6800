//! A topic of Kafka as a queue that is read: its records in order, from offsets that are kept elsewhere.
//!
//! Invariant: nothing is committed to Kafka: where the reader is, its caller keeps, together with what came of the records.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use keevo_core::{Error, ErrorKind, Result};
use krafka::consumer::{AutoOffsetReset, Consumer, IsolationLevel};
use tokio::time::Instant;

use crate::kafka::{Connection, failed};
use crate::spec::check_kafka;

/// The most records that are given at once.
const RECORDS_MAX: i32 = 256;
/// The most bytes that one fetch brings.
const FETCH_BYTES_MAX: i32 = 8 << 20;
/// How often it is looked whether the topic has more partitions.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// A record of the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// Its partition.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// When it was written, in milliseconds since the epoch, as Kafka has it.
    pub at_ms: u64,
    /// What it says; empty for a tombstone.
    pub payload: Bytes,
}

/// A topic that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaQueue {
    connection: Connection,
    topic: String,
}

impl KafkaQueue {
    /// The topic at these brokers. Does no I/O.
    ///
    /// # Errors
    /// `Invalid` where the brokers or the topic are impossible.
    pub fn new(connection: Connection, topic: impl Into<String>) -> Result<Self> {
        let topic = topic.into();
        check_kafka(&connection, &topic)?;
        Ok(Self { connection, topic })
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Begins to read at these offsets, by partition; a partition that is not among them is read from its start.
    pub async fn open(&self, next: &BTreeMap<i32, i64>) -> Result<QueueReader> {
        let wrong = |error| failed("the topic cannot be read", error);
        let kafka = self.connection.connect("keevo-moderation").await?;
        let consumer = kafka
            .consumer_without_group()
            .isolation_level(IsolationLevel::ReadCommitted)
            .auto_offset_reset(AutoOffsetReset::Earliest)
            .max_poll_records(RECORDS_MAX)
            .max_buffered_records(RECORDS_MAX)
            .fetch_max_bytes(FETCH_BYTES_MAX)
            .metrics_push(false)
            .build()
            .await
            .map_err(wrong)?;
        let mut reader = QueueReader { consumer, topic: self.topic.clone(), partitions: Vec::new(), looked: None };
        reader.partitions = reader.look().await?;
        reader.consumer.assign(&self.topic, reader.partitions.clone()).await.map_err(wrong)?;
        for (partition, offset) in next.iter().filter(|(partition, _)| reader.partitions.contains(partition)) {
            reader.consumer.seek(&self.topic, *partition, *offset).await.map_err(wrong)?;
        }
        Ok(reader)
    }
}

/// Reads a topic.
pub struct QueueReader {
    consumer: Consumer,
    topic: String,
    partitions: Vec<i32>,
    looked: Option<Instant>,
}

impl fmt::Debug for QueueReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueReader").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl QueueReader {
    /// The topic's partitions as they are now.
    async fn look(&mut self) -> Result<Vec<i32>> {
        let found = self.consumer.fetch_metadata(Some(&self.topic)).await;
        let found = found.map_err(|error| failed("the topic's partitions cannot be seen", error))?;
        self.looked = Some(Instant::now());
        let topic = found.topics.into_iter().find(|topic| topic.name == self.topic);
        let mut partitions: Vec<i32> = topic.map(|topic| topic.partitions.into_keys().collect()).unwrap_or_default();
        partitions.sort_unstable();
        if partitions.is_empty() {
            return Err(Error::new(ErrorKind::Unavailable, format!("the brokers have no topic {}", self.topic)));
        }
        Ok(partitions)
    }

    /// The next records, of each partition in order; none where none came within `wait`.
    ///
    /// # Errors
    /// `Unavailable` where the brokers fail, or the topic has more partitions now: open it anew.
    pub async fn next(&mut self, wait: Duration) -> Result<Vec<Queued>> {
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) && self.look().await? != self.partitions {
            return Err(Error::new(ErrorKind::Unavailable, "the topic has other partitions now; it is opened anew"));
        }
        let records = self.consumer.poll(wait).await.map_err(|error| failed("the topic cannot be read", error))?;
        let queued = |record: krafka::ConsumerRecord| Queued {
            partition: record.partition,
            offset: record.offset,
            at_ms: u64::try_from(record.timestamp).unwrap_or_default(),
            payload: record.value.unwrap_or_default(),
        };
        Ok(records.into_iter().map(queued).collect())
    }
}
