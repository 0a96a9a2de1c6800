//! Cases: one payload to many partitions, with guards and tombstones.

use bytes::Bytes;

use super::Factory;
use super::bench::Bench;
use crate::batch::{Batch, Check};
use crate::engine::Engine;
use crate::fan_out::{FanOut, FanOutAction, FannedOut, Target};
use crate::ids::Revision;
use crate::key::Keyspace;
use crate::limits::MULTI_GET_KEYS_MAX;
use crate::read::Consistency;
use crate::scan::Scan;

const HOUR_MS: u64 = 3_600_000;

fn targets(names: impl IntoIterator<Item = impl Into<Bytes>>) -> Vec<Target> {
    names.into_iter().map(|name| Target { partition: name.into(), guard: None }).collect()
}

async fn run<F: Factory>(
    bench: &Bench<'_, F>,
    keyspace: Keyspace,
    action: FanOutAction,
    targets: Vec<Target>,
) -> (u64, u64) {
    let guard_sort = targets.iter().any(|target| target.guard.is_some()).then(|| Bytes::from("follow"));
    let fan_out = FanOut { keyspace, sort: "item".into(), action, guard_sort, targets };
    let FannedOut { applied, skipped } = bench.engine.fan_out(fan_out).await.expect("a fan-out is applied");
    (applied, skipped)
}

fn put(value: &'static str) -> FanOutAction {
    FanOutAction::Put { value: value.into(), ttl_ms: None }
}

fn remove(tombstone_ttl_ms: u64) -> FanOutAction {
    FanOutAction::Remove { tombstone_ttl_ms }
}

pub(super) async fn fan_out_puts_and_removes<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let names: Vec<String> = (0..30).map(|number| format!("user:{number}")).collect();
    bench.put(&keyspace.key("user:3", "other"), "untouched").await;
    assert_eq!(run(&bench, keyspace, put("hello"), targets(names.clone())).await, (30, 0));
    for name in &names {
        let record = bench.record(&keyspace.key(name.clone(), "item")).await.expect("every target was written");
        assert_eq!((record.value.as_ref(), record.expires_at_ms), (b"hello".as_slice(), None), "{name}");
    }
    assert_eq!(bench.value(&keyspace.key("user:31", "item")).await, None);
    assert_eq!(run(&bench, keyspace, put("again"), targets(names.clone())).await, (30, 0), "it is repeatable");
    assert_eq!(bench.value(&keyspace.key("user:7", "item")).await, Some(Bytes::from("again")));
    let half = names.iter().take(15).cloned();
    assert_eq!(run(&bench, keyspace, remove(HOUR_MS), targets(half)).await, (15, 0));
    for (at, name) in names.iter().enumerate() {
        let found = bench.collect(Scan::prefix(keyspace, name.clone(), "item", 10)).await;
        assert_eq!(found.len(), usize::from(at >= 15), "{name}: a tombstone is not seen");
    }
    assert_eq!(bench.value(&keyspace.key("user:3", "other")).await, Some(Bytes::from("untouched")));
}

pub(super) async fn fan_out_respects_guards<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let follow = |name: &'static str| keyspace.key(name, "follow");
    let held = bench.put(&follow("held"), "1").await;
    let old = bench.put(&follow("changed"), "1").await;
    bench.put(&follow("changed"), "2").await;
    let gone = bench.put(&follow("gone"), "1").await;
    bench.write(Batch::new().delete(follow("gone"))).await;
    let guarded = |name: &'static str, guard: Option<Revision>| Target { partition: name.into(), guard };
    let all = vec![
        guarded("held", Some(held)),
        guarded("changed", Some(old)),
        guarded("gone", Some(gone)),
        guarded("never", Some(Revision(1))),
        guarded("free", None),
    ];
    assert_eq!(run(&bench, keyspace, put("x"), all.clone()).await, (2, 3));
    for (name, written) in [("held", true), ("changed", false), ("gone", false), ("never", false), ("free", true)] {
        assert_eq!(bench.record(&keyspace.key(name, "item")).await.is_some(), written, "{name}");
    }
    bench.put(&keyspace.key("changed", "item"), "kept").await;
    assert_eq!(run(&bench, keyspace, remove(HOUR_MS), all).await, (2, 3), "guards hold for removals too");
    assert_eq!(bench.value(&keyspace.key("changed", "item")).await, Some(Bytes::from("kept")));
    assert_eq!(bench.value(&keyspace.key("held", "item")).await, None);
}

pub(super) async fn fan_out_respects_tombstones<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    let item = |name: &'static str| keyspace.key(name, "item");
    assert_eq!(run(&bench, keyspace, put("1"), targets(["a"])).await, (1, 0));
    assert_eq!(run(&bench, keyspace, remove(HOUR_MS), targets(["a", "b"])).await, (2, 0), "also where nothing lay");
    assert_eq!(run(&bench, keyspace, put("late"), targets(["a", "b", "c"])).await, (1, 2));
    for (name, value) in [("a", None), ("b", None), ("c", Some(Bytes::from("late")))] {
        assert_eq!(bench.value(&item(name)).await, value, "{name}");
    }
    assert_eq!(run(&bench, keyspace, remove(HOUR_MS), targets(["a"])).await, (1, 0), "a removal is repeatable");
    bench.write(Batch::new().delete(item("a"))).await;
    assert_eq!(run(&bench, keyspace, put("late"), targets(["a"])).await, (0, 1), "a delete leaves a tombstone alone");
    bench.write(Batch::new().put(item("a"), "own").require(item("a"), Check::Absent)).await;
    assert_eq!(bench.value(&item("a")).await, Some(Bytes::from("own")), "an ordinary put overwrites a tombstone");
    assert_eq!(run(&bench, keyspace, put("new"), targets(["a"])).await, (1, 0), "which is gone for fan-outs too");
    assert_eq!(bench.write(Batch::new().merge(item("b"), 4)).await.assigned, [4], "a tombstone counts as absent");
}

pub(super) async fn tombstones_and_fanned_out_puts_expire<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    assert_eq!(run(&bench, keyspace, remove(300), targets(["a"])).await, (1, 0));
    let late = async || run(&bench, keyspace, put("late"), targets(["a"])).await == (1, 0);
    bench.poke_until(&keyspace.key("a", "item"), "the tombstone expires", late).await;
    assert_eq!(bench.value(&keyspace.key("a", "item")).await, Some(Bytes::from("late")));
    let short = FanOutAction::Put { value: "short".into(), ttl_ms: Some(300) };
    assert_eq!(run(&bench, keyspace, short, targets(["b", "c"])).await, (2, 0));
    for name in ["b", "c"] {
        let key = keyspace.key(name, "item");
        bench.poke_until(&key, "a fanned-out put expires", async || bench.record(&key).await.is_none()).await;
    }
}

pub(super) async fn fan_out_to_one_partition_twice<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.keyspace().await;
    assert_eq!(run(&bench, keyspace, put("x"), targets(["a", "b", "a"])).await, (3, 0));
    assert_eq!(bench.value(&keyspace.key("a", "item")).await, Some(Bytes::from("x")));
    assert_eq!(run(&bench, keyspace, remove(HOUR_MS), targets(["a", "a"])).await, (2, 0));
    assert_eq!(bench.value(&keyspace.key("a", "item")).await, None);
    assert_eq!(run(&bench, keyspace, put("x"), targets(["a", "a", "b"])).await, (1, 2));
}

pub(super) async fn fan_out_into_an_ordered_keyspace<F: Factory>(bench: Bench<'_, F>) {
    let keyspace = bench.ordered(2).await;
    let names: Vec<Bytes> = (0..40_u16).map(|at| Bytes::copy_from_slice(&(at * 1_600).to_be_bytes())).collect();
    assert_eq!(run(&bench, keyspace, put("x"), targets(names.iter().rev().cloned())).await, (40, 0));
    let keys = names.iter().map(|name| keyspace.key(name.clone(), "item")).collect();
    let found = bench.engine.multi_get(keys, Consistency::Linearizable).await.expect("it is answered");
    assert!(found.iter().all(Option::is_some), "{found:?}");
}

pub(super) async fn fan_out_to_thousands<F: Factory>(bench: Bench<'_, F>) {
    const COUNT: usize = 5_000;
    let keyspace = bench.keyspace().await;
    let names: Vec<String> = (0..COUNT).map(|number| format!("follower-{number}")).collect();
    let blocked = targets(names.iter().step_by(10).cloned());
    assert_eq!(run(&bench, keyspace, remove(HOUR_MS), blocked).await, (500, 0));
    assert_eq!(run(&bench, keyspace, put("news"), targets(names.clone())).await, (4_500, 500));
    for (at, chunk) in names.chunks(MULTI_GET_KEYS_MAX / 2).enumerate() {
        let keys: Vec<_> = chunk.iter().map(|name| keyspace.key(name.clone(), "item")).collect();
        let found = bench.engine.multi_get(keys, Consistency::Linearizable).await.expect("it is answered");
        for (within, record) in found.iter().enumerate() {
            let number = at * (MULTI_GET_KEYS_MAX / 2) + within;
            assert_eq!(record.is_some(), !number.is_multiple_of(10), "follower-{number}");
        }
    }
}
