//! Case: a random history gives the same answers on the engine and on the model.
//!
//! Compared are values, numbers, conflicts, expiry or none, fan-out counts and scans; not revisions, which only order
//! the writes of a shard. The message of a failure names the seed and the step; `KEEVO_CONFORMANCE_SEED` replays it.

use bytes::Bytes;

use super::Factory;
use super::bench::Bench;
use crate::batch::{Batch, Check, Written};
use crate::clock::{Random, SeededRandom};
use crate::engine::Engine;
use crate::error::Result;
use crate::fan_out::{FanOut, FanOutAction, Target};
use crate::ids::Revision;
use crate::key::{Key, Keyspace, KeyspaceKind};
use crate::memory_engine::MemoryEngine;
use crate::read::Consistency;
use crate::scan::{Direction, Scan, ScanRange};

const STEPS: u32 = 400;
const HOUR_MS: u64 = 3_600_000;
/// Sort keys that lie close together around the bytes that encodings trip over.
const SORTS: [&[u8]; 10] = [b"", b"\x00", b"\x00\xff", b"a", b"a\x00", b"a\xff", b"b", b"n", b"\xff", b"\xff\xff"];
const PARTITIONS: [&[u8]; 6] = [b"aa", b"ab", b"\x00\x00", b"\x00\xff", b"\xff\xff", b"zz"];

/// Two engines under the same history.
struct Pair<E> {
    engine: E,
    model: MemoryEngine,
    /// The keyspaces on the engine and on the model: hashed, ordered.
    keyspaces: [(Keyspace, Keyspace); 2],
    random: SeededRandom,
}

/// Where a step happens: which keyspace, which partition.
#[derive(Debug, Clone, Copy)]
struct Spot {
    keyspaces: (Keyspace, Keyspace),
    partition: &'static [u8],
}

impl Spot {
    fn keys(self, sort: &'static [u8]) -> (Key, Key) {
        (self.keyspaces.0.key(self.partition, sort), self.keyspaces.1.key(self.partition, sort))
    }
}

pub(super) async fn a_random_history_agrees_with_the_model<F: Factory>(bench: Bench<'_, F>) {
    let given = std::env::var("KEEVO_CONFORMANCE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = given.unwrap_or_else(|| SeededRandom::from_os().next_u64());
    let model = MemoryEngine::new();
    let two = KeyspaceKind::Ordered { partition_bytes: 2 };
    let hashed = model.keyspace("h", KeyspaceKind::Hashed).await.expect("the model makes a keyspace");
    let ordered = model.keyspace("o", two).await.expect("the model makes a keyspace");
    let keyspaces = [(bench.keyspace().await, hashed), (bench.ordered(2).await, ordered)];
    let pair = Pair { engine: bench.engine.clone(), model, keyspaces, random: SeededRandom::new(seed) };
    for step in 0..STEPS {
        let at = format!("seed {seed}, step {step}");
        match pair.below(10) {
            0..=6 => pair.write(&at).await,
            7 => pair.fan_out(&at).await,
            _ => pair.scan(&at).await,
        }
    }
    pair.compare_all(&format!("seed {seed}, at the end")).await;
}

impl<E: Engine> Pair<E> {
    fn below(&self, bound: usize) -> usize {
        let bound = u64::try_from(bound).expect("usize fits");
        usize::try_from(self.random.next_u64() % bound).expect("it is below a usize")
    }

    fn pick<T: Copy>(&self, from: &[T]) -> T {
        *from.get(self.below(from.len())).expect("the index is below the length")
    }

    fn spot(&self) -> Spot {
        Spot { keyspaces: self.pick(&self.keyspaces), partition: self.pick(&PARTITIONS) }
    }

    /// A batch of some operations, and perhaps a precondition, on both.
    async fn write(&self, at: &str) {
        let spot = self.spot();
        let (mut ours, mut models) = (Batch::new(), Batch::new());
        for _ in 0..=self.below(3) {
            (ours, models) = self.add_operation(spot, ours, models);
        }
        if self.below(3) == 0 {
            (ours, models) = self.add_check(spot, ours, models).await;
        }
        let shown = format!("{models:?}");
        let (engine, model) = (self.engine.write(ours).await, self.model.write(models).await);
        assert_eq!(essence(&engine), essence(&model), "{at}: {shown}");
    }

    fn add_operation(&self, spot: Spot, ours: Batch, models: Batch) -> (Batch, Batch) {
        let (our_key, model_key) = spot.keys(self.pick(&SORTS));
        let value = Bytes::from(vec![u8::try_from(self.below(256)).expect("below 256"); self.below(12)]);
        let delta = self.pick(&[1, -1, 1_000, i64::MAX, i64::MIN]);
        let index = (self.below(2) == 0).then(|| Bytes::from("id"));
        let end = self.pick(&SORTS);
        let prefix = self.pick(&SORTS);
        let operation = self.below(8);
        let add = |batch: Batch, key: Key| match operation {
            0..=2 => batch.put(key, value.clone()),
            3 => batch.put_ttl(key, value.clone(), HOUR_MS),
            4 => batch.delete(key),
            5 => batch.delete_range(key, end),
            6 => batch.merge(key, delta),
            _ => batch.append(Key { sort: "n".into(), ..key }, prefix, value.clone(), index.clone()),
        };
        (add(ours, our_key), add(models, model_key))
    }

    /// A precondition that means the same on both: each has revisions of its own.
    async fn add_check(&self, spot: Spot, ours: Batch, models: Batch) -> (Batch, Batch) {
        let (our_key, model_key) = spot.keys(self.pick(&SORTS));
        let found = self.engine.get(our_key.clone(), Consistency::Linearizable).await.expect("a get is answered");
        let expected = self.model.get(model_key.clone(), Consistency::Linearizable).await.expect("a get is answered");
        let off_by = self.pick(&[0, 0, 1]);
        let revision = |of: Option<Revision>| Check::RevisionIs(Revision(of.unwrap_or_default().0 + off_by));
        let (our_check, model_check) = match self.below(4) {
            0 => (Check::Absent, Check::Absent),
            1 => (Check::Exists, Check::Exists),
            2 => (revision(found.map(|one| one.revision)), revision(expected.map(|one| one.revision))),
            _ => {
                let value = Check::ValueIs(expected.map(|one| one.value).unwrap_or_default());
                (value.clone(), value)
            }
        };
        (ours.require(our_key, our_check), models.require(model_key, model_check))
    }

    /// A fan-out to sort keys of its own, since no rule says what a delete makes of a tombstone.
    async fn fan_out(&self, at: &str) {
        let (ours, models) = self.pick(&self.keyspaces);
        let value = Bytes::from(format!("fan {at}"));
        let action = match self.below(3) {
            0 => FanOutAction::Remove { tombstone_ttl_ms: HOUR_MS },
            1 => FanOutAction::Put { value, ttl_ms: Some(HOUR_MS) },
            _ => FanOutAction::Put { value, ttl_ms: None },
        };
        let sort = self.pick(&[b"~fan-1".as_slice(), b"~fan-2", b"~fan-3"]);
        let (mut our_targets, mut model_targets) = (Vec::new(), Vec::new());
        for _ in 0..=self.below(8) {
            let partition = self.pick(&PARTITIONS);
            let (mut our_guard, mut model_guard) = (None, None);
            if self.below(2) == 0 {
                let spot = Spot { keyspaces: (ours, models), partition };
                let (our_key, model_key) = spot.keys(b"a");
                let found = self.engine.get(our_key, Consistency::Linearizable).await.expect("a get is answered");
                let expected = self.model.get(model_key, Consistency::Linearizable).await.expect("a get is answered");
                our_guard = Some(found.map(|one| one.revision).unwrap_or_default());
                model_guard = Some(expected.map(|one| one.revision).unwrap_or_default());
            }
            our_targets.push(Target { partition: partition.into(), guard: our_guard });
            model_targets.push(Target { partition: partition.into(), guard: model_guard });
        }
        let fan_out = |keyspace, targets| FanOut {
            keyspace,
            sort: sort.into(),
            action: action.clone(),
            guard_sort: Some("a".into()),
            targets,
        };
        let engine = self.engine.fan_out(fan_out(ours, our_targets)).await.expect("a fan-out is applied");
        let model = self.model.fan_out(fan_out(models, model_targets)).await.expect("a fan-out is applied");
        assert_eq!(engine, model, "{at}: fan-out of {action:?} to {}", sort.escape_ascii());
    }

    async fn scan(&self, at: &str) {
        let (spot, limit) = (self.spot(), 1 + self.below(7));
        let direction = self.pick(&[Direction::Forward, Direction::Backward]);
        let (start, end) = (self.pick(&SORTS), self.pick(&SORTS));
        let across = self.below(2) == 0;
        let scan = |keyspace: Keyspace| {
            let range = match keyspace.kind {
                KeyspaceKind::Ordered { .. } if across => {
                    ScanRange::Ordered { keyspace, start: start.into(), end: end.into() }
                }
                _ => ScanRange::Partition {
                    keyspace,
                    partition: spot.partition.into(),
                    start: start.into(),
                    end: end.into(),
                },
            };
            Scan { range, direction, limit, after: None, consistency: Consistency::Linearizable, consistent: false }
        };
        let shown = format!("{:?}", scan(spot.keyspaces.1));
        let engine = collect(&self.engine, scan(spot.keyspaces.0)).await;
        assert_eq!(engine, collect(&self.model, scan(spot.keyspaces.1)).await, "{at}: {shown}");
    }

    async fn compare_all(&self, at: &str) {
        for (ours, models) in self.keyspaces {
            for partition in PARTITIONS {
                let engine = collect(&self.engine, Scan::partition(ours, partition, 1_000)).await;
                let model = collect(&self.model, Scan::partition(models, partition, 1_000)).await;
                assert_eq!(engine, model, "{at}: partition {}", partition.escape_ascii());
            }
        }
    }
}

/// What both engines must agree on in the answer to a write.
fn essence(answer: &Result<Written>) -> std::result::Result<&[i64], crate::error::ErrorKind> {
    answer.as_ref().map(|written| written.assigned.as_slice()).map_err(crate::error::Error::kind)
}

/// All pages of a scan: partition, sort key, value, whether it expires.
async fn collect(engine: &impl Engine, scan: Scan) -> Vec<(Bytes, Bytes, Bytes, bool)> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = engine.scan(scan.clone().after(after)).await.expect("a page is answered");
        let records = page.records.into_iter();
        all.extend(
            records.map(|(key, record)| (key.partition, key.sort, record.value, record.expires_at_ms.is_some())),
        );
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}
