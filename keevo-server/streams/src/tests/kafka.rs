//! Sinks to Kafka: nothing lost and nothing twice, whatever is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use keevo_core::{Random, SeededRandom};
use krafka::ConsumerRecord;
use krafka::testing::{ApiKey, Control, FakeBroker};

use super::{Node, made, sink, topic, until, until_told};
use crate::format::DEDUP_HEADER;
use crate::queue::KafkaQueue;
use crate::secret::Secret;
use crate::spec::{Delivery, Format, KafkaTopic, Mechanism, Sasl, To};
use crate::status::State;
use crate::target::DefaultTargets;
use crate::testing::Rig;
use crate::{Connection, Start};

async fn broker() -> FakeBroker {
    let broker = FakeBroker::start().await.expect("a broker");
    assert!(broker.create_topic("orders", 3));
    broker
}

fn targets() -> Arc<DefaultTargets> {
    Arc::new(DefaultTargets::new("unused".into()))
}

fn dedup(record: &ConsumerRecord) -> String {
    let header = record.headers.iter().find(|(name, _)| name == DEDUP_HEADER).and_then(|(_, value)| value.clone());
    String::from_utf8(header.expect("a dedup key").to_vec()).expect("text")
}

fn value(record: &ConsumerRecord) -> String {
    let line: serde_json::Value = serde_json::from_slice(record.value.as_deref().expect("a value")).expect("JSON");
    line["value"].as_str().expect("text").to_owned()
}

/// Every value is there; each partition of Keevo in order, when the first of each dedup key counts. Answers with how many
/// records say what another one said before.
fn assert_all(records: &[ConsumerRecord], count: usize) -> usize {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut firsts: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
    for record in records {
        if seen.insert(dedup(record)) {
            let number = value(record).trim_start_matches('v').parse().expect("a number");
            firsts.entry(record.key.clone().expect("a key").to_vec()).or_default().push(number);
        }
    }
    let mut all: Vec<usize> = firsts.values().flatten().copied().collect();
    assert!(firsts.values().all(|numbers| numbers.is_sorted()), "a partition is out of order: {firsts:?}");
    all.sort_unstable();
    assert_eq!(all, (0..count).collect::<Vec<_>>(), "nothing is lost");
    records.len() - seen.len()
}

/// Kills nodes at random points, answers of the broker among them, until everything was told.
async fn killed_over_and_over(delivery: Delivery, seed: u64) -> (FakeBroker, usize) {
    let (broker, rig, random) = (broker().await, Rig::new().await, SeededRandom::new(seed));
    made(&rig, topic(broker.bootstrap_servers(), delivery)).await;
    let mut count = 0;
    for round in 0..8 {
        let more = 40 + usize::try_from(random.next_u64() % 60).expect("small");
        rig.write(count..count + more).await;
        count += more;
        let node = Node::start(&rig, targets(), round + 1);
        // The moments at which nobody knows what came of a request.
        let api = [ApiKey::EndTxn, ApiKey::Produce][usize::try_from(random.next_u64() % 2).expect("small")];
        broker.on_once(api, |_| Control::ApplyThen(Box::new(Control::Silence)));
        tokio::time::sleep(Duration::from_millis(100 + random.next_u64() % 700)).await;
        node.kill();
        broker.clear_hooks();
    }
    let node = Node::start(&rig, targets(), 99);
    let total = u64::try_from(count).expect("small");
    until_told(&rig, total).await;
    // What is behind the last change is not told twice either.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let status = rig.sinks.status("orders").await.expect("a status");
    assert_eq!((status.told, status.state), (total, State::Running), "{status:?}");
    node.kill();
    (broker, count)
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_tell_each_change_once_whatever_is_killed() {
    for seed in 1..=2 {
        let (broker, count) = killed_over_and_over(Delivery::ExactlyOnce, seed).await;
        let committed = broker.committed_records("orders").expect("read");
        assert_eq!(assert_all(&committed, count), 0, "seed {seed}: nothing is told twice");
        assert!(broker.all_records("orders").expect("read").len() >= committed.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_transactions_a_change_told_twice_has_one_dedup_key() {
    let (broker, count) = killed_over_and_over(Delivery::AtLeastOnce, 3).await;
    let twice = assert_all(&broker.all_records("orders").expect("read"), count);
    assert!(twice < count, "{twice} of {count} were told twice");
}

/// The node ends after Kafka has committed and before that is noted: the batch must not be given again. And the other way
/// round, between the note and the commit: it must be.
#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_the_last_batch_is_found_out() {
    for committed in [true, false] {
        let (broker, rig) = (broker().await, Rig::new().await);
        made(&rig, topic(broker.bootstrap_servers(), Delivery::ExactlyOnce)).await;
        let silent = if committed { Control::ApplyThen(Box::new(Control::Silence)) } else { Control::Silence };
        broker.on_once(ApiKey::EndTxn, move |_| silent.clone());
        rig.write(0..20).await;
        let node = Node::start(&rig, targets(), 1);
        assert!(broker.wait_for_requests(ApiKey::EndTxn, 1, Duration::from_secs(20)).await, "a commit");
        node.kill();
        assert_eq!(rig.sinks.status("orders").await.expect("a status").told, 0, "nobody knows of it yet");
        let node = Node::start(&rig, targets(), 2);
        until_told(&rig, 20).await;
        let records = broker.committed_records("orders").expect("read");
        assert_eq!(assert_all(&records, 20), 0, "committed: {committed}");
        node.kill();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_down_costs_lag_and_nothing_else() {
    let (broker, rig) = (broker().await, Rig::new().await);
    made(&rig, topic(broker.bootstrap_servers(), Delivery::ExactlyOnce)).await;
    let node = Node::start(&rig, targets(), 1);
    rig.write(0..50).await;
    until_told(&rig, 50).await;
    broker.crash(0);
    rig.write(50..1_000).await;
    let lag = |behind: u64| {
        move |status: &crate::SinkStatus| status.lag.iter().map(|one| one.revisions()).sum::<u64>() >= behind
    };
    until(&rig, "the lag is seen", lag(900)).await;
    for _ in 0..500 {
        let metrics = node.runner.metrics();
        if metrics.iter().any(|one| one.lag.iter().map(|(_, lag)| lag).sum::<u64>() >= 900) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let metrics = node.runner.metrics();
    assert!(metrics[0].lag.iter().map(|(_, lag)| lag).sum::<u64>() >= 900, "{metrics:?}");
    assert_eq!(metrics[0].told, 50);
    broker.restart(0);
    until_told(&rig, 1_000).await;
    assert_eq!(assert_all(&broker.committed_records("orders").expect("read"), 1_000), 0);
    node.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_records_and_a_prefix_and_a_password() {
    let (broker, rig) = (broker().await, Rig::new().await);
    broker.require_sasl_plain("keevo", "s3cret");
    let to = |password: &str| {
        let sasl = Sasl { mechanism: Mechanism::Plain, username: "keevo".into(), password: Secret::new(password) };
        let connection = Connection { brokers: broker.bootstrap_servers(), tls: None, sasl: Some(sasl) };
        To::Kafka(KafkaTopic { connection, topic: "orders".into(), delivery: Delivery::ExactlyOnce })
    };
    made(&rig, to("wr0ng")).await;
    let node = Node::start(&rig, targets(), 1);
    let status = until(&rig, "the password is refused", |status| status.failure.is_some()).await;
    assert!(!format!("{status:?}").contains("wr0ng"), "{status:?}");
    rig.sinks.delete("orders").await.expect("deleted");
    let mut raw = sink(to("s3cret"));
    (raw.format, raw.prefix) = (Format::Raw, b"p3".to_vec());
    rig.sinks.create(raw, Start::Now).await.expect("made");
    rig.write(0..14).await;
    rig.engine_delete("p3", "3").await;
    until_told(&rig, 3).await;
    let records = broker.committed_records("orders").expect("read");
    let mut values: Vec<Option<&[u8]>> = records.iter().map(|record| record.value.as_deref()).collect();
    values.sort_unstable();
    assert_eq!(values, [None, Some(b"v10".as_slice()), Some(b"v3")]);
    node.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_read_from_kept_offsets() {
    let (broker, rig) = (broker().await, Rig::new().await);
    made(&rig, topic(broker.bootstrap_servers(), Delivery::AtLeastOnce)).await;
    let node = Node::start(&rig, targets(), 1);
    rig.write(0..60).await;
    until_told(&rig, 60).await;
    node.kill();
    let connection = Connection { brokers: broker.bootstrap_servers(), tls: None, sasl: None };
    let queue = KafkaQueue::new(connection, "orders").expect("possible");
    let mut next = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut reader = queue.open(&next).await.expect("opened");
    while seen.len() < 30 {
        for one in reader.next(Duration::from_secs(5)).await.expect("read").into_iter().take(10) {
            assert_eq!(next.insert(one.partition, one.offset + 1).unwrap_or_default(), one.offset, "in order");
            assert!(seen.insert(one.payload));
        }
        reader = queue.open(&next).await.expect("opened anew");
    }
    while seen.len() < 60 {
        for one in reader.next(Duration::from_secs(5)).await.expect("read") {
            assert!(seen.insert(one.payload), "what was passed does not come again");
        }
    }
    assert!(reader.next(Duration::from_millis(50)).await.expect("read").is_empty());
}
