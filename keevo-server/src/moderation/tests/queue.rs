//! Texts that come by a topic of Kafka, and what is left of an erased user's texts.

use krafka::Record;
use krafka::testing::FakeBroker;

use super::*;
use crate::config::KafkaTexts;

/// Writes records to the topic.
async fn produce(broker: &FakeBroker, records: &[serde_json::Value]) {
    let kafka = krafka::Kafka::builder(broker.bootstrap_servers()).connect().await.expect("connected");
    let producer = kafka.producer().build().await.expect("a producer");
    for record in records {
        let sent = producer.send(Record::new("texts", record.to_string())).await.expect("sent");
        assert!(sent.is_success());
    }
    producer.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_kafka_is_judged_once_a_text_and_acts_where_the_text_stands() {
    let mut world = world().await;
    let broker = FakeBroker::start().await.expect("a broker");
    broker.create_topic("texts", 2);
    let config = KafkaTexts {
        brokers: broker.bootstrap_servers(),
        topic: "texts".into(),
        tls: false,
        ca: None,
        sasl_file: None,
    };
    let topic = kafka::open(&config).expect("possible");
    world.moderation.queues = vec![Arc::new(topic)];
    world.moderation.sources = Vec::new();
    world.send("team:x", "1", "oh hmpf").await.expect_err("bounced");
    world.judge.down.store(true, Ordering::SeqCst);
    // A message that stands, although its text is one that would be blocked.
    let chat = Chat::new(world.engine.clone(), AppId(1), ChatOptions::default());
    let channel = "team:x".parse().expect("a name");
    chat.send(&channel, NewMessage::new("alice", "zork").with_id("2")).await.expect("sent past the gate");
    let text = |id: &str, text: &str| json!({"app": 1, "id": id, "text": text, "author": "bob"});
    let message =
        json!({"app": 1, "id": "2", "text": "zork", "kind": "message", "channel": "team:x", "scope": "chat:team"});
    let gone = json!({"app": 1, "id": "9", "text": "zork", "kind": "message", "channel": "team:x"});
    let odd = json!({"app": 1, "id": "no uuid", "text": "zork", "kind": "activity"});
    produce(&broker, &[text("a", "so bad"), text("b", "fine"), text("a", "so bad"), json!([]), message, gone, odd])
        .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.judge.down.store(false, Ordering::SeqCst);
    world
        .run_until("all are judged", async || {
            let mut judged = 0;
            for (kind, id) in [
                (TextKind::Text, "a"),
                (TextKind::Text, "b"),
                (TextKind::Message, "team:x\u{0}2"),
                (TextKind::Message, "team:x\u{0}9"),
                (TextKind::Activity, "no uuid"),
            ] {
                judged += usize::from(!world.verdicts(kind, id).await.is_empty());
            }
            let waits = world.moderation.moderator.verdicts().await.expect("opened").count_waiting(100).await;
            judged == 5 && world.moderation.moderator.metrics().queued == 7 && waits.expect("read") == 0
        })
        .await;
    let verdicts = world.verdicts(TextKind::Text, "a").await;
    assert_eq!((verdicts.len(), verdicts[0].action), (1, Action::Flag), "it came twice");
    assert_eq!(world.verdicts(TextKind::Text, "b").await[0].action, Action::Allow);
    assert_ne!(world.stored("team:x", "2").await.as_deref(), Some("zork"), "what stands and is blocked is taken back");
    assert_eq!(world.moderation.moderator.metrics().unreadable, 1);
    // Another node goes on behind what was passed.
    produce(&broker, &[text("c", "fine")]).await;
    let dealt = || world.moderation.moderator.metrics().queued;
    let judged = async || dealt() >= 8 && !world.verdicts(TextKind::Text, "c").await.is_empty();
    world.run_until("the next is judged", judged).await;
    assert_eq!(dealt(), 8, "nothing is read twice");
}

#[tokio::test]
async fn an_erased_users_refused_and_held_texts_are_kept_nowhere() {
    let world = world().await;
    world.send("team:x", "1", "zork").await.expect_err("blocked");
    world.send("team:x", "2", "so bad").await.expect("sent, and flagged");
    world.send("held:x", "3", "so bad").await.expect("held");
    let ids = ["team:x\u{0}1", "team:x\u{0}2", "held:x\u{0}3"];
    let count = async || {
        let mut count = 0;
        for id in ids {
            count += world.verdicts(TextKind::Message, id).await.len();
        }
        let verdicts = world.moderation.moderator.verdicts().await.expect("opened");
        count += verdicts.queue(1, 100, None).await.expect("listed").entries.len();
        count + verdicts.count_waiting(100).await.expect("read")
    };
    world.run_until("all are judged", async || count().await >= 6).await;
    let chat = Chat::new(world.engine.clone(), AppId(1), ChatOptions::default());
    chat.erase_user("alice", keevo_chat::Texts::Erase).await.expect("begun");
    for _ in 0..100 {
        if chat.erasure("alice").await.expect("read").is_some_and(|erasure| erasure.done_at_ms.is_some()) {
            break;
        }
        chat.run_outbox_once().await.expect("a run of the outbox");
    }
    assert!(chat.erasure("alice").await.expect("read").is_some_and(|erasure| erasure.done_at_ms.is_some()));
    world.run_until("nothing is left", async || count().await == 0).await;
}
