//! Texts that come in by a queue: one verdict each, whatever comes twice, breaks or dies.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use keevo_core::{Error, ErrorKind, MemoryEngine, Result, SystemClock};
use tokio_util::sync::CancellationToken;

use crate::queue::{Offsets, QueuedText, TextQueue, TextReader};
use crate::testing::{FaultyEngine, World};
use crate::text::TextKind;

/// A queue in memory, of two partitions; breaks after some records.
#[derive(Clone, Default)]
struct Topic {
    records: Arc<Mutex<[Vec<Bytes>; 2]>>,
    opened: Arc<Mutex<Vec<BTreeMap<i32, i64>>>>,
}

impl Topic {
    fn put(&self, partition: usize, id: &str, text: &str) {
        let record = serde_json::json!({ "app": 1, "id": id, "text": text, "author": "alice" }).to_string();
        self.put_raw(partition, record);
    }

    fn put_raw(&self, partition: usize, record: impl Into<Bytes>) {
        self.records.lock().expect("no panic")[partition].push(record.into());
    }
}

struct Reader {
    topic: Topic,
    next: BTreeMap<i32, i64>,
    reads: usize,
}

impl TextQueue for Topic {
    fn name(&self) -> String {
        "mails".into()
    }

    fn open(&self, next: BTreeMap<i32, i64>) -> BoxFuture<'_, Result<Box<dyn TextReader>>> {
        self.opened.lock().expect("no panic").push(next.clone());
        let reader: Box<dyn TextReader> = Box::new(Reader { topic: self.clone(), next, reads: 0 });
        futures::future::ready(Ok(reader)).boxed()
    }
}

impl TextReader for Reader {
    fn next(&mut self, _wait: Duration) -> BoxFuture<'_, Result<Vec<QueuedText>>> {
        async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.reads += 1;
            if self.reads.is_multiple_of(50) {
                return Err(Error::new(ErrorKind::Unavailable, "the test breaks the queue"));
            }
            let mut found = Vec::new();
            for (partition, records) in (0_i32..).zip(self.topic.records.lock().expect("no panic").iter()) {
                let next = self.next.entry(partition).or_default();
                let start = usize::try_from(*next).expect("small");
                for payload in records.iter().skip(start).take(3) {
                    found.push(QueuedText { partition, offset: *next, at_ms: 7, payload: payload.clone() });
                    *next += 1;
                }
            }
            Ok(found)
        }
        .boxed()
    }
}

async fn real() -> World {
    let world = World::new().await.with_lists().await;
    World { engine: MemoryEngine::with_clock_and_retained(Arc::new(SystemClock::new()), 10_000), ..world }
}

async fn passed(world: &World) -> i64 {
    let moderator = world.moderator(FaultyEngine::sound(&world.engine)).await;
    let offsets = Offsets::load(moderator.verdicts().await.expect("opened"), "mails").await.expect("read");
    offsets.next().values().sum()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..1_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain until {what}");
}

async fn start(
    world: &World,
    topic: &Topic,
    engine: FaultyEngine,
    seed: u64,
) -> (CancellationToken, BoxFuture<'static, ()>) {
    let stop = CancellationToken::new();
    let moderator = world.moderator(engine).await;
    let pipeline = world.pipeline_of(moderator, seed).with_queues(vec![Arc::new(topic.clone())]);
    (stop.clone(), pipeline.run(stop).boxed())
}

#[tokio::test]
async fn each_text_of_a_queue_has_one_verdict_over_deaths_and_duplicates() {
    let (world, topic) = (real().await, Topic::default());
    for number in 0..60 {
        let text = if number % 5 == 0 { "so bad" } else { "fine" };
        topic.put(number % 2, &format!("t{}", number % 40), text);
    }
    topic.put_raw(0, "no JSON");
    topic.put_raw(1, "{\"app\":1}");
    let total = 62;
    // Nodes die while they work, with their last write done or not.
    for at in [3, 9, 20, 41] {
        let faulty = FaultyEngine::at(&world.engine, crate::testing::Fault::StopAfter, at);
        let (_stop, run) = start(&world, &topic, faulty.clone(), u64::try_from(at).expect("small")).await;
        let task = tokio::spawn(run);
        until("the node has died, or is done", async || faulty.fired() || passed(&world).await == total).await;
        task.abort();
        tokio::time::sleep(Duration::from_millis(310)).await;
    }
    let (stop, run) = start(&world, &topic, FaultyEngine::sound(&world.engine), 99).await;
    let task = tokio::spawn(run);
    until("all is passed", async || passed(&world).await == total).await;
    stop.cancel();
    task.await.expect("it ends");
    let moderator = world.moderator(FaultyEngine::sound(&world.engine)).await;
    let verdicts = moderator.verdicts().await.expect("opened");
    let mut count = 0;
    for number in 0..40 {
        let found = verdicts.of_text(1, TextKind::Text, &format!("t{number}"), 10).await.expect("read");
        let mut texts: Vec<_> = found.iter().map(|one| one.version.text.clone()).collect();
        count += texts.len();
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), found.len(), "t{number} has two verdicts on one version");
    }
    assert_eq!(count, 40, "a text that came twice is one version");
    assert_eq!(world.waiting().await, 0);
    assert!(
        topic.opened.lock().expect("no panic").iter().skip(1).any(|next| !next.is_empty()),
        "it goes on where it was"
    );
}

#[tokio::test]
async fn while_no_worker_answers_nothing_is_passed_and_nothing_lost() {
    let (world, topic) = (real().await, Topic::default());
    for number in 0..30 {
        topic.put(number % 2, &format!("t{number}"), "fine");
    }
    world.judge.down.store(true, Ordering::SeqCst);
    let (stop, run) = start(&world, &topic, FaultyEngine::sound(&world.engine), 1).await;
    let task = tokio::spawn(run);
    until("some wait", async || world.waiting().await > 0).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((passed(&world).await, world.waiting().await), (0, 6), "one chunk waits, and the rest in the queue");
    world.judge.down.store(false, Ordering::SeqCst);
    until("all is passed", async || passed(&world).await == 30).await;
    stop.cancel();
    task.await.expect("it ends");
    assert_eq!(world.waiting().await, 0);
}

/// A topic that was deleted and made anew counts from its start: its texts were once passed over until they had come as far as
/// those before.
#[tokio::test]
async fn places_go_back_with_a_queue_that_was_made_anew() {
    let world = real().await;
    let moderator = world.moderator(FaultyEngine::sound(&world.engine)).await;
    let mut offsets = Offsets::load(moderator.verdicts().await.expect("opened"), "mails").await.expect("read");
    let record = |offset| QueuedText { partition: 0, offset, at_ms: 7, payload: Bytes::new() };
    offsets.pass(&[record(98), record(99)]).await.expect("saved");
    assert_eq!(passed(&world).await, 100);
    offsets.pass(&[record(0), record(1)]).await.expect("saved");
    assert_eq!((passed(&world).await, offsets.next()), (2, BTreeMap::from([(0, 2)])));
}
