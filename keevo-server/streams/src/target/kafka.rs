//! A topic of Kafka: a batch is a transaction, or acknowledged records.
//!
//! # Why each change is told once
//!
//! ```text
//! begin ─> records, acknowledged ─> (offset of one of them is stored in Keevo) ─> commit
//! ```
//!
//! Whoever takes the sink over opens the transactional id first: Kafka ends the transaction of whoever had it before, one way
//! or the other, and lets that one write nothing more. Then the record whose offset was stored is looked for, as consumers of
//! committed records see the topic: it is there, so the whole batch is; or it is not and never will be, so the batch is given
//! again.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use keevo_core::{ClusterId, Error, ErrorKind, Result};
use krafka::consumer::{AutoOffsetReset, IsolationLevel};
use krafka::producer::{DeliveryHandle, Producer, TransactionalProducer};
use krafka::{CloseOptions, Compression, Kafka, Record};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::{Recovered, Target};
use crate::format::{DEDUP_HEADER, Outgoing};
use crate::kafka::failed;
use crate::spec::{Delivery, KafkaTopic, Sink};

/// How long Kafka keeps a transaction whose sink fell silent.
const TRANSACTION: Duration = Duration::from_mins(1);
/// How long a record may take to be acknowledged, retries included; less than a transaction lives.
const DELIVERY: Duration = Duration::from_secs(15);
/// How long a call may wait for metadata, memory or a coordinator.
const BLOCK: Duration = Duration::from_secs(15);
/// How long records wait for others in a batch.
const LINGER: Duration = Duration::from_millis(5);
/// The size of a batch of Kafka, in bytes.
const BATCH_BYTES: usize = 256 << 10;
/// How long the record of a staged batch is looked for.
const LOOK: Duration = Duration::from_secs(15);
/// How long one poll for it may take.
const POLL: Duration = Duration::from_millis(500);
/// How long the end of a producer may take.
const CLOSE: Duration = Duration::from_secs(2);
/// How long the end of a transaction that is given up may take.
const ABORT: Duration = Duration::from_secs(3);

/// Which record of a batch is looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Probe {
    partition: i32,
    offset: i64,
    dedup: String,
}

/// Opens a topic.
pub(super) async fn open(
    topic: &KafkaTopic,
    sink: &Sink,
    cluster: ClusterId,
    staged: Option<&Value>,
) -> Result<(Box<dyn Target>, Recovered)> {
    let kafka = topic.connection.connect(&format!("keevo-sink-{}", sink.name)).await?;
    let producer = kafka
        .producer()
        .compression(Compression::Lz4)
        .linger(LINGER)
        .batch_size(BATCH_BYTES)
        .delivery_timeout(DELIVERY)
        .max_block(BLOCK)
        .metrics_push(false);
    let name = topic.topic.clone();
    match topic.delivery {
        Delivery::AtLeastOnce => {
            let producer = producer.build().await.map_err(|error| failed("the brokers give no producer id", error))?;
            // A batch is acknowledged before it is noted that it was staged.
            Ok((Box::new(Plain { producer, topic: name }), Recovered { has_staged: true, seen: Vec::new() }))
        }
        Delivery::ExactlyOnce => {
            let id = format!("keevo-sink-{cluster}-{:016x}", sink.id);
            let producer = producer
                .transaction_timeout(TRANSACTION)
                .build_transactional(id)
                .await
                .map_err(|error| failed("the brokers give no transactions (a sink can do without)", error))?;
            let target = Transactions { producer, topic: name, begun: false };
            let has_staged = match staged {
                Some(proof) => match target.has(&kafka, proof).await {
                    Ok(has) => has,
                    Err(error) => {
                        Box::new(target).close().await;
                        return Err(error);
                    }
                },
                None => false,
            };
            Ok((Box::new(target), Recovered { has_staged, seen: Vec::new() }))
        }
    }
}

fn record(topic: &str, one: &Outgoing) -> Record {
    let record = match &one.value {
        Some(value) => Record::new(topic, value.clone()).key(one.key.clone()),
        None => Record::tombstone(topic, one.key.clone()),
    };
    let record = record.header(DEDUP_HEADER, one.dedup());
    one.headers.iter().fold(record, |record, (name, value)| record.header(*name, value.clone()))
}

/// Waits for the acknowledgements of a batch; answers with a record whose offset is known.
async fn acknowledged(handles: Vec<DeliveryHandle>, batch: &[Outgoing]) -> Result<Option<Probe>> {
    let mut probe = None;
    for (handle, one) in handles.into_iter().zip(batch) {
        let told = handle.await.map_err(|error| failed("a record was not acknowledged", error))?;
        if probe.is_none() && told.is_success() {
            probe = Some(Probe { partition: told.partition, offset: told.offset, dedup: one.dedup() });
        }
    }
    Ok(probe)
}

/// Records without transactions.
struct Plain {
    producer: Producer,
    topic: String,
}

impl Target for Plain {
    fn stage<'a>(&'a mut self, batch: &'a [Outgoing]) -> BoxFuture<'a, Result<Value>> {
        async move {
            let mut handles = Vec::with_capacity(batch.len());
            for one in batch {
                let queued = self.producer.enqueue(record(&self.topic, one)).await;
                handles.push(queued.map_err(|error| failed("the topic takes no record", error))?);
            }
            acknowledged(handles, batch).await.map(|_probe| Value::Null)
        }
        .boxed()
    }

    fn commit(&mut self) -> BoxFuture<'_, Result<()>> {
        futures::future::ready(Ok(())).boxed()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        async move {
            if let Err(error) = self.producer.close_with(CloseOptions::new().timeout(CLOSE)).await {
                tracing::debug!(%error, "a producer did not end well");
            }
        }
        .boxed()
    }
}

/// Records in transactions.
struct Transactions {
    producer: TransactionalProducer,
    topic: String,
    /// Whether a transaction is open.
    begun: bool,
}

impl Transactions {
    /// Whether the topic has the staged batch. Only to be asked after the transactional id was taken.
    async fn has(&self, kafka: &Kafka, proof: &Value) -> Result<bool> {
        let probe: Probe = serde_json::from_value(proof.clone())
            .map_err(|error| Error::corrupt("the proof of a sink's batch is malformed").with_source(error))?;
        let wrong = |error| failed("the topic cannot be read", error);
        let consumer = kafka
            .consumer_without_group()
            .isolation_level(IsolationLevel::ReadCommitted)
            .auto_offset_reset(AutoOffsetReset::Earliest)
            .max_poll_records(1)
            .metrics_push(false)
            .build()
            .await
            .map_err(wrong)?;
        consumer.assign(&self.topic, vec![probe.partition]).await.map_err(wrong)?;
        consumer.seek(&self.topic, probe.partition, probe.offset).await.map_err(wrong)?;
        let until = Instant::now() + LOOK;
        while Instant::now() < until {
            let found = consumer.poll(POLL).await.map_err(wrong)?;
            if let Some(first) = found.first() {
                let mut headers = first.headers.iter().filter(|(name, _)| name == DEDUP_HEADER);
                let same = headers.any(|(_, value)| value.as_deref() == Some(probe.dedup.as_bytes()));
                // One before it is read where the topic was made anew, or its records have been deleted since.
                return Ok(first.offset == probe.offset && same);
            }
            let next = consumer.fetch_position(&self.topic, probe.partition).await;
            if next.is_some_and(|next| next != probe.offset) {
                return Ok(false);
            }
        }
        let message = format!(
            "what became of the last batch cannot be seen: a transaction of others is open in partition {} of {}",
            probe.partition, self.topic
        );
        Err(Error::new(ErrorKind::Unavailable, message))
    }
}

impl Target for Transactions {
    fn stage<'a>(&'a mut self, batch: &'a [Outgoing]) -> BoxFuture<'a, Result<Value>> {
        async move {
            self.producer.begin().map_err(|error| failed("no transaction can begin", error))?;
            self.begun = true;
            let mut handles = Vec::with_capacity(batch.len());
            for one in batch {
                let queued = self.producer.enqueue(record(&self.topic, one)).await;
                handles.push(queued.map_err(|error| failed("the topic takes no record", error))?);
            }
            let probe = acknowledged(handles, batch).await?;
            let probe = probe.ok_or_else(|| {
                Error::new(ErrorKind::Unavailable, "the brokers told no offset of a transaction; it is tried again")
            })?;
            serde_json::to_value(probe)
                .map_err(|error| Error::invalid("the proof of a batch cannot be written").with_source(error))
        }
        .boxed()
    }

    fn commit(&mut self) -> BoxFuture<'_, Result<()>> {
        async move {
            self.producer.commit().await.map_err(|error| failed("a transaction was not committed", error))?;
            self.begun = false;
            Ok(())
        }
        .boxed()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        async move {
            let ending = async {
                // After a commit of unknown outcome this is refused, and whoever comes next finds out.
                if self.begun
                    && let Err(error) = self.producer.abort().await
                {
                    tracing::debug!(%error, "a transaction ends when somebody takes its id, or by itself");
                }
                self.producer.close_with(CloseOptions::new().timeout(CLOSE)).await
            };
            if !matches!(tokio::time::timeout(ABORT, ending).await, Ok(Ok(()))) {
                tracing::debug!("a transactional producer did not end well");
            }
        }
        .boxed()
    }
}
