//! Scenarios: one call stops at a chosen point, another runs in between, and the first goes on.
//!
//! Each plays one narrow race for certain, and names the mistake that it catches. Nothing is healed afterwards:
//! whoever worked in between takes its finished jobs out of the outbox before the slow call goes on.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use keevo_core::{
    Batch, Consistency, Engine, FanOut, FannedOut, Key, Keyspace, KeyspaceKind, Op, Record, Result, Scan, ScanPage,
    ScanRange, Watch, WatchFrom, WatchRange, Written,
};

use super::{Fault, Scene, TestEngine, feed, numbered};
use crate::ids::ActivityId;
use crate::keys::{OWN, TIMELINE};
use crate::lanes::Lane;
use crate::worker::OutboxRun;

/// A call at which an engine may be interrupted.
pub(crate) enum Call<'a> {
    /// After it.
    Scan(&'a Scan),
    /// Before it.
    Write(&'a Batch),
    /// Before it.
    MultiGet(&'a [Key]),
}

/// A wrapper around an engine that does something else once, after a matching scan or before another matching call.
#[derive(Clone)]
pub(crate) struct Interrupted<E> {
    inner: E,
    shared: Arc<Shared>,
}

struct Shared {
    at: fn(&Call<'_>) -> bool,
    then: Mutex<Option<BoxFuture<'static, ()>>>,
    matched: AtomicUsize,
    played: AtomicBool,
}

impl<E: Engine> Interrupted<E> {
    pub(crate) fn new(inner: E, at: fn(&Call<'_>) -> bool, then: impl Future<Output = ()> + Send + 'static) -> Self {
        let then: BoxFuture<'static, ()> = Box::pin(then);
        let shared =
            Shared { at, then: Mutex::new(Some(then)), matched: AtomicUsize::new(0), played: AtomicBool::new(false) };
        Self { inner, shared: Arc::new(shared) }
    }

    /// Whether the interruption has run to its end.
    pub(crate) fn played(&self) -> bool {
        self.shared.played.load(Ordering::SeqCst)
    }

    /// How many calls matched.
    pub(crate) fn matched(&self) -> usize {
        self.shared.matched.load(Ordering::SeqCst)
    }

    fn matches(&self, call: &Call<'_>) -> bool {
        let matches = (self.shared.at)(call);
        self.shared.matched.fetch_add(usize::from(matches), Ordering::SeqCst);
        matches
    }

    async fn play(&self) {
        let then = self.shared.then.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(then) = then {
            then.await;
            self.shared.played.store(true, Ordering::SeqCst);
        }
    }
}

impl<E: Engine> Engine for Interrupted<E> {
    async fn keyspace(&self, name: &str, kind: KeyspaceKind) -> Result<Keyspace> {
        self.inner.keyspace(name, kind).await
    }

    async fn find_keyspace(&self, name: &str) -> Result<Keyspace> {
        self.inner.find_keyspace(name).await
    }

    async fn get(&self, key: Key, consistency: Consistency) -> Result<Option<Record>> {
        self.inner.get(key, consistency).await
    }

    async fn multi_get(&self, keys: Vec<Key>, consistency: Consistency) -> Result<Vec<Option<Record>>> {
        if self.matches(&Call::MultiGet(&keys)) {
            self.play().await;
        }
        self.inner.multi_get(keys, consistency).await
    }

    async fn scan(&self, scan: Scan) -> Result<ScanPage> {
        let matches = self.matches(&Call::Scan(&scan));
        let page = self.inner.scan(scan).await;
        if matches {
            self.play().await;
        }
        page
    }

    async fn write(&self, batch: Batch) -> Result<Written> {
        if self.matches(&Call::Write(&batch)) {
            self.play().await;
        }
        self.inner.write(batch).await
    }

    async fn fan_out(&self, fan_out: FanOut) -> Result<FannedOut> {
        self.inner.fan_out(fan_out).await
    }

    async fn watch(&self, range: WatchRange, from: WatchFrom) -> Result<Watch> {
        self.inner.watch(range, from).await
    }
}

pub(crate) async fn run<E: Engine>(engine: &E) {
    a_post_between_the_copy_and_its_write_is_not_lost(engine).await;
    a_withdrawal_that_was_overtaken_leaves_the_new_follow_alone(engine).await;
    a_new_follow_first_ends_the_old_unfollow(engine).await;
    a_removal_during_a_copy_leaves_no_row(engine).await;
    a_caller_that_goes_away_forgets_no_finished_work(engine).await;
}

/// The look at a target's own rows.
fn reads_own(call: &Call<'_>) -> bool {
    matches!(call, Call::Scan(scan) if matches!(&scan.range, ScanRange::Partition { start, .. } if start == OWN))
}

/// The batch of a withdrawal.
fn deletes_rows(call: &Call<'_>) -> bool {
    let is_row = |op: &Op| matches!(op, Op::Delete { key } if key.sort.starts_with(TIMELINE));
    matches!(call, Call::Write(batch) if batch.ops.iter().any(is_row))
}

/// The batch of a copy, and that of a placement.
fn puts_rows(call: &Call<'_>) -> bool {
    let is_row = |op: &Op| matches!(op, Op::Put { key, .. } if key.sort.starts_with(TIMELINE));
    matches!(call, Call::Write(batch) if batch.ops.iter().any(is_row))
}

/// The batch that takes a pointer out of the outbox.
fn deletes_pointers(call: &Call<'_>) -> bool {
    let is_pointer = |op: &Op| matches!(op, Op::Delete { key } if key.sort.starts_with(Lane::Prompt.tag()));
    matches!(call, Call::Write(batch) if batch.ops.iter().any(is_pointer))
}

/// Catches a follow that reads what to copy before its follower is listed: the post then sees no follower.
async fn a_post_between_the_copy_and_its_write_is_not_lost<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let (user, fan) = (feed("user:1"), feed("timeline:1"));
    let (poster, author) = (scene.other(engine.clone()).await, user.clone());
    let posts = async move {
        poster.add_activity(&author, numbered(0)).await.expect("an add");
        poster.flush_finished().await;
    };
    let slow = Interrupted::new(engine.clone(), reads_own, posts);
    scene.other(slow.clone()).await.follow(&fan, &user, Some(1_000)).await.expect("a follow");
    assert!(slow.played() && slow.matched() == 1, "the post came right after the look at the own rows");
    assert_eq!(scene.ids(&fan).await, [scene.id(0)]);
}

/// Catches a withdrawal that is not fenced by its job: it would take out what the new follow has copied.
async fn a_withdrawal_that_was_overtaken_leaves_the_new_follow_alone<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let (user, fan) = (feed("user:1"), feed("timeline:1"));
    scene.feeds.add_activity(&user, numbered(0)).await.expect("an add");
    scene.feeds.follow(&fan, &user, None).await.expect("a follow");
    scene.feeds.flush_finished().await;
    let (worker, f, u) = (scene.other(engine.clone()).await, fan.clone(), user.clone());
    let follows = async move {
        worker.finish_edge_job(&f, &u).await.expect("the worker withdraws");
        worker.follow(&f, &u, Some(1_000)).await.expect("a follow");
        worker.flush_finished().await;
    };
    let slow = Interrupted::new(engine.clone(), deletes_rows, follows);
    scene.other(slow.clone()).await.unfollow(&fan, &user, false).await.expect("an unfollow");
    assert!(slow.played(), "the follow came right before the withdrawal");
    assert_eq!(scene.ids(&fan).await, [scene.id(0)], "the later follow counts");
    scene.drain().await;
    assert_eq!(scene.ids(&fan).await, [scene.id(0)]);
}

/// Catches a new follow that leaves the job of an unfollow behind: what that had to take out would stay.
async fn a_new_follow_first_ends_the_old_unfollow<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let (user, fan) = (feed("user:1"), feed("timeline:1"));
    scene.feeds.add_activity(&user, numbered(0)).await.expect("an add");
    scene.feeds.follow(&fan, &user, None).await.expect("a follow");
    scene.feeds.flush_finished().await;
    // The first write is the pointer, the second cuts the edge.
    let dying = TestEngine::faulty(engine.clone(), Fault::StopAfter, 1);
    scene.other(dying.clone()).await.unfollow(&fan, &user, false).await.expect_err("the process dies");
    assert!(dying.fired());
    assert_eq!(scene.ids(&fan).await, [scene.id(0)], "nothing is withdrawn yet");
    scene.feeds.follow(&fan, &user, Some(0)).await.expect("a follow");
    assert_eq!(scene.ids(&fan).await, [] as [ActivityId; 0], "the follow copies nothing");
    scene.drain().await;
    assert_eq!(scene.ids(&fan).await, [] as [ActivityId; 0]);
}

/// Catches a copy that puts its row over the tombstone of a removal and leaves it there.
async fn a_removal_during_a_copy_leaves_no_row<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let (user, fan, other) = (feed("user:1"), feed("timeline:1"), feed("timeline:2"));
    let gone = scene.feeds.add_activity(&user, numbered(0)).await.expect("an add").id;
    let kept = scene.feeds.add_activity(&user, numbered(1)).await.expect("an add").id;
    scene.feeds.flush_finished().await;
    let (remover, author) = (scene.other(engine.clone()).await, user.clone());
    let removes = async move {
        assert!(remover.remove_activity(&author, gone).await.expect("a removal"));
        remover.flush_finished().await;
    };
    let slow = Interrupted::new(engine.clone(), puts_rows, removes);
    let slow_feeds = scene.other(slow.clone()).await;
    slow_feeds.follow(&fan, &user, None).await.expect("a follow");
    slow_feeds.follow(&other, &user, None).await.expect("a follow");
    assert!(slow.played(), "the removal came right before the copy");
    let report = scene.feeds.verify([fan.clone(), other]).await.expect("a verification");
    assert!(report.is_clean() && report.stale_rows == 0 && report.shown == 2, "{report:?}");
    assert_eq!(scene.ids(&fan).await, [kept]);
}

/// Catches a flush that forgets what it took when its caller is cancelled: those jobs would be driven again.
async fn a_caller_that_goes_away_forgets_no_finished_work<E: Engine>(engine: &E) {
    let scene = Scene::new(engine).await;
    let long = tokio::time::sleep(Duration::from_secs(2));
    let slow = Interrupted::new(engine.clone(), deletes_pointers, long);
    let feeds = scene.other(slow.clone()).await;
    feeds.add_activity(&feed("user:1"), numbered(0)).await.expect("an add");
    let cut = tokio::time::timeout(Duration::from_millis(100), feeds.flush_finished()).await;
    assert!(cut.is_err(), "the caller goes away in the middle");
    feeds.flush_finished().await;
    scene.clock.advance_ms(10_000);
    let run = scene.other(engine.clone()).await.run_outbox_once(100).await.expect("a run over the outbox");
    assert_eq!(run, OutboxRun::default(), "the outbox is empty");
}
