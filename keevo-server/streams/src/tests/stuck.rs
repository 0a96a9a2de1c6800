//! Targets that do not get on, and changes that are gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use keevo_core::{Changes, ClusterId, Cursor, Error, ErrorKind, Keyspace, Result};
use serde_json::Value;

use super::{Node, is, made, until, until_told};
use crate::format::Outgoing;
use crate::log::ChangeLog;
use crate::spec::{Sink, To};
use crate::status::State;
use crate::target::{Recovered, Target, Targets};
use crate::testing::Rig;

/// Takes batches, or nothing at all, for ever.
#[derive(Clone, Default)]
struct Fake {
    stuck: Arc<AtomicBool>,
    taken: Arc<AtomicUsize>,
}

impl Target for Fake {
    fn stage<'a>(&'a mut self, batch: &'a [Outgoing]) -> BoxFuture<'a, Result<Value>> {
        async move {
            if self.stuck.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            self.taken.fetch_add(batch.len(), Ordering::SeqCst);
            Ok(Value::Null)
        }
        .boxed()
    }

    fn commit(&mut self) -> BoxFuture<'_, Result<()>> {
        futures::future::ready(Ok(())).boxed()
    }
}

impl Targets for Fake {
    fn open<'a>(
        &'a self,
        _sink: &'a Sink,
        _cluster: ClusterId,
        _staged: Option<&'a Value>,
    ) -> BoxFuture<'a, Result<(Box<dyn Target>, Recovered)>> {
        let target: Box<dyn Target> = Box::new(self.clone());
        futures::future::ready(Ok((target, Recovered { has_staged: true, seen: Vec::new() }))).boxed()
    }
}

/// Counts what is pulled, and loses changes when told to.
struct Watched {
    inner: Arc<dyn ChangeLog>,
    pulled: AtomicUsize,
    lost: AtomicBool,
}

impl ChangeLog for Watched {
    fn frontier(&self, keyspace: Keyspace) -> BoxFuture<'_, Result<Vec<Cursor>>> {
        self.inner.frontier(keyspace)
    }

    fn page(&self, keyspace: Keyspace, after: Cursor) -> BoxFuture<'_, Result<Changes>> {
        async move {
            if self.lost.load(Ordering::SeqCst) {
                return Err(Error::new(ErrorKind::CursorCompacted, "changes are gone"));
            }
            let page = self.inner.page(keyspace, after).await?;
            self.pulled.fetch_add(page.events.len(), Ordering::SeqCst);
            Ok(page)
        }
        .boxed()
    }
}

async fn watched() -> (Rig, Arc<Watched>) {
    let rig = Rig::new().await;
    let (inner, pulled, lost) = (Arc::clone(rig.sinks.log()), AtomicUsize::new(0), AtomicBool::new(false));
    let log = Arc::new(Watched { inner, pulled, lost });
    (rig.with_log(Arc::<Watched>::clone(&log)), log)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_stands_still_holds_the_claim_and_one_batch() {
    let (rig, log) = watched().await;
    made(&rig, To::Stdout).await;
    let fake = Fake::default();
    fake.stuck.store(true, Ordering::SeqCst);
    let node = Node::start(&rig, Arc::new(fake.clone()), 1);
    rig.write(0..3_000).await;
    until(&rig, "it runs", is(State::Running)).await;
    // Longer than a claim holds.
    for _ in 0..15 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(rig.sinks.status("orders").await.expect("a status").state, State::Running, "it is renewed");
    }
    assert!(log.pulled.load(Ordering::SeqCst) <= 64, "{} changes lie in memory", log.pulled.load(Ordering::SeqCst));
    node.kill();
    fake.stuck.store(false, Ordering::SeqCst);
    let node = Node::start(&rig, Arc::new(fake.clone()), 2);
    until_told(&rig, 3_000).await;
    assert_eq!(fake.taken.load(Ordering::SeqCst), 3_000);
    node.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_never_passed_over_in_silence() {
    let (rig, log) = watched().await;
    made(&rig, To::Stdout).await;
    let fake = Fake::default();
    let node = Node::start(&rig, Arc::new(fake.clone()), 1);
    rig.write(0..5).await;
    until_told(&rig, 5).await;
    log.lost.store(true, Ordering::SeqCst);
    rig.write(5..10).await;
    let status = until(&rig, "the gap is seen", is(State::Gap)).await;
    assert!(status.failure.expect("a reason").message.contains("gone"));
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(rig.sinks.status("orders").await.expect("a status").state, State::Gap, "it waits for a person");
    // A watch that was open when the log lost the second five may still have shown some of them.
    let told = fake.taken.load(Ordering::SeqCst);
    assert!((5..=10).contains(&told), "{told} are told");
    rig.sinks.skip_gap("orders").await.expect("skipped");
    log.lost.store(false, Ordering::SeqCst);
    rig.write(10..15).await;
    let all = told + 5;
    until_told(&rig, u64::try_from(all).expect("small")).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(fake.taken.load(Ordering::SeqCst), all, "what was lost is not told");
    node.kill();
}
