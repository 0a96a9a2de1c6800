//! Scenarios: shards without a leader keep nobody waiting but who needs them. What they hold up comes once they answer,
//! and nothing is written twice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use keevo_core::{
    Batch, Consistency, Engine, Error, ErrorKind, FanOut, FannedOut, Key, Keyspace, KeyspaceKind, ManualClock, Record,
    Result, Scan, ScanPage, ScanRange, Watch, WatchFrom, WatchRange, Written,
};

use super::{Scene, feed, numbered};
use crate::apart::{bit, slot_of};
use crate::feed_id::FeedId;
use crate::feeds::{Feeds, FeedsOptions};
use crate::follow::NewFollow;
use crate::ids::ActivityId;
use crate::keys::{FOLLOWER_BUCKETS, OUTBOX_BUCKETS};
use crate::lanes::Lane;

/// How long the feeds of these scenarios wait, and how long who has no leader lets them.
const PATIENCE_MS: u64 = 100;
const SILENCE: Duration = Duration::from_secs(2);
/// So many jobs a worker drives at once, and one more wave.
const STUCK: usize = 9;

pub(crate) async fn run<E: Engine>(engine: &E) {
    followers_in_shards_that_answer_are_served(engine).await;
    lists_in_shards_that_answer_are_walked(engine).await;
    jobs_in_shards_that_answer_are_driven(engine).await;
    outboxes_in_shards_that_answer_are_swept(engine).await;
}

/// A wrapper around an engine: partitions in dead slots do not answer, as if their shards had no leader. A call that names
/// one of them does nothing at all.
#[derive(Debug, Clone)]
struct Leaderless<E> {
    inner: E,
    dead: Arc<AtomicU64>,
    unanswered: Arc<AtomicUsize>,
}

impl<E: Engine> Leaderless<E> {
    fn new(inner: E) -> Self {
        Self { inner, dead: Arc::default(), unanswered: Arc::default() }
    }

    fn kill(&self, mask: u64) {
        self.dead.store(mask, Ordering::SeqCst);
    }

    /// How many calls got no answer.
    fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::SeqCst)
    }

    async fn reach<'a>(&self, partitions: impl IntoIterator<Item = &'a Bytes>) -> Result<()> {
        let dead = self.dead.load(Ordering::SeqCst);
        if partitions.into_iter().all(|partition| dead & bit(slot_of(partition)) == 0) {
            return Ok(());
        }
        self.unanswered.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(SILENCE).await;
        Err(Error::new(ErrorKind::Unavailable, "the shard has no leader"))
    }
}

impl<E: Engine> Engine for Leaderless<E> {
    async fn keyspace(&self, name: &str, kind: KeyspaceKind) -> Result<Keyspace> {
        self.inner.keyspace(name, kind).await
    }

    async fn find_keyspace(&self, name: &str) -> Result<Keyspace> {
        self.inner.find_keyspace(name).await
    }

    async fn get(&self, key: Key, consistency: Consistency) -> Result<Option<Record>> {
        self.reach([&key.partition]).await?;
        self.inner.get(key, consistency).await
    }

    async fn multi_get(&self, keys: Vec<Key>, consistency: Consistency) -> Result<Vec<Option<Record>>> {
        self.reach(keys.iter().map(|key| &key.partition)).await?;
        self.inner.multi_get(keys, consistency).await
    }

    async fn scan(&self, scan: Scan) -> Result<ScanPage> {
        if let ScanRange::Partition { partition, .. } = &scan.range {
            self.reach([partition]).await?;
        }
        self.inner.scan(scan).await
    }

    async fn write(&self, batch: Batch) -> Result<Written> {
        self.reach(batch.ops.iter().map(|op| &op.key().partition)).await?;
        self.inner.write(batch).await
    }

    async fn fan_out(&self, fan_out: FanOut) -> Result<FannedOut> {
        self.reach(fan_out.targets.iter().map(|target| &target.partition)).await?;
        self.inner.fan_out(fan_out).await
    }

    async fn watch(&self, range: WatchRange, from: WatchFrom) -> Result<Watch> {
        self.inner.watch(range, from).await
    }
}

/// A scene, its engine with shards that may be dead, and feeds over that which have little patience.
struct Stage<E> {
    scene: Scene<E>,
    engine: Leaderless<E>,
    feeds: Feeds<Leaderless<E>>,
    star: FeedId,
    fans: Vec<FeedId>,
}

impl<E: Engine> Stage<E> {
    /// With a star that has so many followers, all of them left to the worker but one.
    async fn new(engine: &E, fans: usize) -> Self {
        let scene = Scene::new(engine).await;
        let (star, engine) = (feed("user:star"), Leaderless::new(engine.clone()));
        let fans: Vec<FeedId> = (0..fans).map(|n| feed(&format!("timeline:{n}"))).collect();
        let follow =
            |follower: &FeedId| NewFollow { follower: follower.clone(), target: star.clone(), copy_limit: None };
        scene.feeds.follow_many(fans.iter().map(follow).collect()).await.expect("follows");
        scene.feeds.flush_finished().await;
        let clock: Arc<ManualClock> = Arc::clone(&scene.clock);
        let options = FeedsOptions {
            clock,
            inline_targets_max: 1,
            patience_ms: PATIENCE_MS,
            claim_ms: 0,
            ..FeedsOptions::default()
        };
        let feeds = Feeds::open(engine.clone(), scene.app, options).await.expect("feeds open");
        Self { scene, engine, feeds, star, fans }
    }

    /// The slots that a post of the star needs, whoever its followers are: a bit for each.
    fn needed(&self, posts: &[u64]) -> u64 {
        let layout = self.scene.feeds.layout();
        let outboxes = (0..OUTBOX_BUCKETS).map(|bucket| layout.outbox(bucket));
        let homes = posts.iter().map(|number| layout.home(self.scene.id(*number)));
        let own = [layout.feed(&self.star), layout.followers(&self.star, 0)];
        outboxes.chain(homes).chain(own).fold(0, |mask, partition| mask | bit(slot_of(&partition)))
    }

    fn slot(&self, fan: &FeedId) -> u64 {
        bit(slot_of(&self.scene.feeds.layout().feed(fan)))
    }

    /// Posts, without the worker.
    async fn post(&self, number: u64) -> ActivityId {
        self.feeds.add_activity(&self.star, numbered(number)).await.expect("an add").id
    }

    /// The fans that show exactly these, as whoever reaches all shards sees them.
    async fn showing(&self, ids: &[ActivityId]) -> BTreeSet<FeedId> {
        let wanted: BTreeSet<ActivityId> = ids.iter().copied().collect();
        let mut showing = BTreeSet::new();
        for fan in &self.fans {
            if self.scene.ids(fan).await.into_iter().collect::<BTreeSet<_>>() == wanted {
                showing.insert(fan.clone());
            }
        }
        showing
    }

    /// All shards have leaders again: the worker comes to its end, and everybody has everything.
    async fn healed(&self, ids: &[ActivityId]) {
        self.engine.kill(0);
        self.scene.clock.advance_ms(10_000);
        let mut quiet = 0;
        for _ in 0..400 {
            let run = self.feeds.run_outbox_once(1_000).await.expect("a run over the outbox");
            quiet = if run.driven + run.waiting + run.failed == 0 { quiet + 1 } else { 0 };
            if quiet > 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(self.showing(ids).await.len(), self.fans.len(), "everybody shows everything");
        self.scene.drain().await;
        let report = self.scene.feeds.verify(self.fans.clone()).await.expect("a verification");
        assert!(report.is_clean(), "{report:?}");
    }
}

/// Catches a step that waits, or ends, for all where two shards do not answer, and a worker that asks them at every step.
async fn followers_in_shards_that_answer_are_served<E: Engine>(engine: &E) {
    let stage = Stage::new(engine, 60).await;
    let needed = stage.needed(&[0, 4]);
    let free: BTreeSet<u64> = stage.fans.iter().map(|fan| stage.slot(fan)).filter(|slot| needed & slot == 0).collect();
    let dead = free.iter().take(2).fold(0, |mask, slot| mask | slot);
    assert!(dead.count_ones() == 2, "sixty feeds lie in more than two slots");
    let served: BTreeSet<FeedId> = stage.fans.iter().filter(|fan| stage.slot(fan) & dead == 0).cloned().collect();
    assert!(!served.is_empty() && served.len() < stage.fans.len());

    stage.engine.kill(dead);
    let first = stage.post(0).await;
    let run = stage.feeds.run_lane(Lane::Prompt, 100).await.expect("a run");
    assert_eq!((run.driven, run.failed), (1, 0), "{run:?}");
    assert_eq!(stage.showing(&[first]).await, served, "all whose shards answer");
    let before = stage.engine.unanswered();
    assert!(before >= 2, "each dead slot was asked");
    let second = stage.post(4).await;
    stage.feeds.run_lane(Lane::Prompt, 100).await.expect("a run");
    assert_eq!(stage.engine.unanswered(), before, "they are left alone by what comes later");
    assert_eq!(stage.showing(&[first, second]).await, served);

    // The large lane asks them again, and not at every run.
    tokio::time::sleep(Duration::from_millis(2 * PATIENCE_MS)).await;
    for _ in 0..20 {
        stage.feeds.run_lane(Lane::Bulk, 100).await.expect("a run");
    }
    let asked = stage.engine.unanswered() - before;
    assert!((1..=8).contains(&asked), "two slots, by two jobs, once or twice: {asked}");
    assert_eq!(stage.showing(&[first, second]).await, served);
    stage.healed(&[first, second]).await;
    let written = stage.feeds.metrics().entries_fanned_out;
    assert_eq!(written, 2 * 60, "each row once: the others were not served again");
}

/// Catches a walk over many followers that stops at the first list that cannot be read.
async fn lists_in_shards_that_answer_are_walked<E: Engine>(engine: &E) {
    let stage = Stage::new(engine, 1_200).await;
    let layout = stage.scene.feeds.layout();
    let list = |bucket| bit(slot_of(&layout.followers(&stage.star, bucket)));
    let needed = stage.needed(&[0]);
    let dead = (1..FOLLOWER_BUCKETS / 2).map(list).find(|slot| needed & slot == 0).expect("one of them");
    let in_dead = |fan: &&FeedId| stage.slot(fan) & dead != 0;

    stage.engine.kill(dead);
    let id = stage.post(0).await;
    let run = stage.feeds.run_lane(Lane::Prompt, 100).await.expect("a run");
    assert_eq!((run.driven, run.failed), (1, 0), "{run:?}");
    let showing = stage.showing(&[id]).await;
    assert!(showing.iter().all(|fan| !in_dead(&fan)), "who cannot be reached is not");
    let reachable = stage.fans.iter().filter(|fan| !in_dead(fan)).count();
    let left = reachable - showing.len();
    assert!(left < 60, "of two hundred in 63 lists only those in dead ones are left out: {left}");
    assert!(showing.len() > 1_000, "and the lists behind are walked: {}", showing.len());
    stage.healed(&[id]).await;
    assert_eq!(stage.feeds.metrics().entries_fanned_out, 1_200, "each row once");
}

/// Catches a worker whose places are all taken by jobs that wait for one shard.
async fn jobs_in_shards_that_answer_are_driven<E: Engine>(engine: &E) {
    let stage = Stage::new(engine, 3).await;
    let layout = stage.scene.feeds.layout();
    let home = |number: u64| bit(slot_of(&layout.home(stage.scene.id(number))));
    let fans = stage.fans.iter().fold(0, |mask, fan| mask | stage.slot(fan));
    let needed = stage.needed(&[]) | fans;
    // All of these have times and foreign ids of their own.
    let numbers: Vec<u64> = (0..8_000).collect();
    let dead = numbers.iter().map(|number| home(*number)).find(|slot| needed & slot == 0).expect("one of them");
    let stuck: Vec<u64> = numbers.iter().copied().filter(|number| home(*number) == dead).take(STUCK).collect();
    assert_eq!(stuck.len(), STUCK);
    let healthy = numbers.iter().copied().find(|number| home(*number) != dead).expect("one of them");
    let mut ids = Vec::new();
    for number in &stuck {
        ids.push(stage.post(*number).await);
    }
    let id = stage.post(healthy).await;
    ids.push(id);

    stage.engine.kill(dead);
    let run = stage.feeds.run_lane(Lane::Prompt, 100).await.expect("a run");
    assert_eq!((run.driven, run.failed + run.waiting), (1, STUCK), "{run:?}");
    assert!(run.failed < STUCK, "those of the next wave wait at once: {run:?}");
    let asked = stage.engine.unanswered();
    assert!(asked <= 8, "one wave of jobs learns that the shard does not answer: {asked}");
    for fan in stage.fans.iter().skip(1) {
        assert_eq!(stage.scene.ids(fan).await, [id], "{fan}: the job behind them was driven");
    }
    stage.healed(&ids).await;
}

/// Catches a sweep that ends at the first bucket of the outbox that cannot be read.
async fn outboxes_in_shards_that_answer_are_swept<E: Engine>(engine: &E) {
    let stage = Stage::new(engine, 3).await;
    let layout = stage.scene.feeds.layout();
    let (numbers, later) = ((0..16).map(|n| n * 4).collect::<Vec<u64>>(), 400);
    let homes = numbers.iter().chain([&later]).map(|number| layout.home(stage.scene.id(*number)));
    let fans = stage.fans.iter().map(|fan| layout.feed(fan));
    let own = [layout.feed(&stage.star), layout.followers(&stage.star, 0)];
    let needed = homes.chain(fans).chain(own).fold(0, |mask, partition| mask | bit(slot_of(&partition)));
    let outbox = |bucket| bit(slot_of(&layout.outbox(bucket)));
    let dead = (0..OUTBOX_BUCKETS).map(outbox).find(|slot| needed & slot == 0).expect("one of them");
    let mut ids = Vec::new();
    for number in numbers {
        ids.push(stage.post(number).await);
    }
    let mut lost = 0;
    for bucket in (0..OUTBOX_BUCKETS).filter(|bucket| outbox(*bucket) == dead) {
        let scan = layout.scan(layout.outbox(bucket), Lane::Prompt.tag(), Lane::Prompt.tag().into(), 100);
        lost += stage.scene.feeds.scan_on(scan).await.expect("a scan").records.len();
    }
    stage.scene.clock.advance_ms(60_000);
    stage.engine.kill(dead);
    // Another process, which has to find them.
    let options = stage.feeds.options().clone();
    let feeds = Feeds::open(stage.engine.clone(), stage.scene.app, options).await.expect("feeds open");
    for _ in 0..2 {
        feeds.run_lane(Lane::Prompt, 100).await.expect("a run");
    }
    let served = stage.scene.ids(stage.fans.get(1).expect("three")).await.len();
    assert_eq!(served, ids.len() - lost, "all but those whose pointers cannot be read");
    let id = feeds.add_activity(&stage.star, numbered(later)).await.expect("an add that points elsewhere").id;
    ids.push(id);
    drop(feeds);
    stage.healed(&ids).await;
}
