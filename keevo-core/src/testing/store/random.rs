//! Random operations against a plain map, with flushes, crashes and installs in between.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::{Bench, Pairs, StoreFactory};
use crate::clock::{Random, SeededRandom};
use crate::scan::Direction;
use crate::store::{Column, Durability, Store, StoreOp};

type Model = BTreeMap<(Column, Bytes), Bytes>;

const SEEDS: u64 = 4;
const STEPS: usize = 150;
const KEYS: u64 = 24;

struct Run<'f, F: StoreFactory> {
    factory: &'f F,
    random: SeededRandom,
    store: Bench<F::Store>,
    live: Model,
    flushed: Model,
}

pub(super) fn random_operations_match_a_model<F: StoreFactory>(factory: &F) {
    for seed in 0..SEEDS {
        let mut run = Run {
            factory,
            random: SeededRandom::new(seed),
            store: Bench(factory.fresh()),
            live: Model::new(),
            flushed: Model::new(),
        };
        for step in 0..STEPS {
            run = run.step();
            run.compare(&format!("seed {seed}, step {step}"));
        }
    }
}

impl<F: StoreFactory> Run<'_, F> {
    fn below(&self, limit: u64) -> u64 {
        self.random.next_u64() % limit
    }

    fn key(&self) -> Bytes {
        Bytes::from(format!("k{:02}", self.below(KEYS)))
    }

    fn column(&self) -> Column {
        if self.below(2) == 0 { Column::Data } else { Column::Changes }
    }

    fn step(mut self) -> Self {
        match self.below(20) {
            0 | 1 => {
                self.store.flush();
                self.flushed = self.live.clone();
            }
            2 if self.factory.loses_unflushed() => {
                self.store = Bench(self.factory.crash(self.store.0));
                self.live = self.flushed.clone();
            }
            2 => {
                self.store.flush();
                self.store = Bench(self.factory.crash(self.store.0));
                self.flushed = self.live.clone();
            }
            3 => self.install(),
            4 => self.write(Durability::Sync),
            _ => self.write(Durability::Unlogged),
        }
        self
    }

    fn write(&mut self, durability: Durability) {
        let mut ops = Vec::new();
        for _ in 0..=self.below(6) {
            let (column, key) = (self.column(), self.key());
            let op = match self.below(8) {
                0 => StoreOp::DeleteRange(column, key.clone().min(self.key()), key.max(self.key())),
                1 | 2 => StoreOp::Delete(column, key),
                _ => StoreOp::Put(column, key, Bytes::from(format!("{:x}", self.random.next_u64()))),
            };
            apply(&mut self.live, &op);
            ops.push(op);
        }
        self.store.write(ops, durability);
        if durability == Durability::Sync {
            self.flushed = self.live.clone();
        }
    }

    /// Copies a range of a store with other contents over this one's.
    fn install(&mut self) {
        let (lower, upper) = (self.key(), Bytes::from_static(b"k99"));
        let other = Bench(self.factory.fresh());
        let mut rows = Pairs::new();
        for _ in 0..self.below(12) {
            rows.push((self.key(), Bytes::from_static(b"installed")));
        }
        let puts = rows.iter().map(|(key, value)| StoreOp::Put(Column::Data, key.clone(), value.clone())).collect();
        other.write(puts, Durability::Unlogged);
        let tiles = [(lower.clone(), upper.clone())];
        let export = other.0.export(&tiles, &[], &self.factory.folder()).expect("an export succeeds");
        self.store.0.install(&export.files).expect("an install succeeds");
        apply(&mut self.live, &StoreOp::DeleteRange(Column::Data, lower.clone(), upper));
        for (key, value) in rows.into_iter().filter(|(key, _)| *key >= lower) {
            self.live.insert((Column::Data, key), value);
        }
        self.flushed = self.live.clone();
    }

    fn compare(&self, when: &str) {
        for column in Column::ALL {
            let expected: Pairs = rows(&self.live, column);
            assert_eq!(self.store.all(column), expected, "{when}: {column:?}, forward");
            let mut backward = self.store.scan(column, "", "", Direction::Backward);
            backward.reverse();
            assert_eq!(backward, expected, "{when}: {column:?}, backward");
        }
        let key = self.key();
        let found = self.store.0.get(Column::Data, &key).expect("a get is answered");
        assert_eq!(found.as_ref(), self.live.get(&(Column::Data, key.clone())), "{when}: get {key:?}");
        if self.factory.loses_unflushed() {
            let found = self.store.0.get_flushed(&key).expect("a get of the flushed image is answered");
            assert_eq!(found.as_ref(), self.flushed.get(&(Column::Data, key.clone())), "{when}: flushed {key:?}");
        }
    }
}

fn rows(model: &Model, column: Column) -> Pairs {
    let of_column = model.iter().filter(|((of, _), _)| *of == column);
    of_column.map(|((_, key), value)| (key.clone(), value.clone())).collect()
}

fn apply(model: &mut Model, op: &StoreOp) {
    match op {
        StoreOp::Put(column, key, value) => {
            model.insert((*column, key.clone()), value.clone());
        }
        StoreOp::Delete(column, key) => {
            model.remove(&(*column, key.clone()));
        }
        StoreOp::DeleteRange(column, lower, upper) if lower < upper => {
            let bounds = (Bound::Included((*column, lower.clone())), Bound::Excluded((*column, upper.clone())));
            let doomed: Vec<_> = model.range(bounds).map(|(at, _)| at.clone()).collect();
            for at in doomed {
                model.remove(&at);
            }
        }
        StoreOp::DeleteRange(..) => {}
    }
}
