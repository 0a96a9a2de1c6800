//! What a crash leaves.

use super::{Bench, StoreFactory, bytes, delete_range, pairs, put};
use crate::store::Column::{Changes, Data};
use crate::store::Durability;

pub(super) fn flushed_writes_survive_a_crash<F: StoreFactory>(factory: &F) {
    let store = Bench(factory.fresh());
    store.put("a", "1");
    store.write(vec![put(Changes, "c", "2")], Durability::Buffered);
    store.flush();
    let store = Bench(factory.crash(store.0));
    assert_eq!(store.all(Data), pairs(&[("a", "1")]));
    assert_eq!(store.all(Changes), pairs(&[("c", "2")]));
}

pub(super) fn synced_writes_survive_a_crash<F: StoreFactory>(factory: &F) {
    let mut store = Bench(factory.fresh());
    for round in 0..3 {
        let value = round.to_string();
        store.write(vec![put(Data, "a", &value), put(Changes, "a", &value)], Durability::Sync);
        store = Bench(factory.crash(store.0));
        assert_eq!(store.get(Data, "a"), Some(bytes(&value)));
        assert_eq!(store.get(Changes, "a"), Some(bytes(&value)));
    }
}

pub(super) fn a_crash_loses_all_columns_alike<F: StoreFactory>(factory: &F) {
    let store = Bench(factory.fresh());
    store.write(vec![put(Data, "n", "1"), put(Changes, "n", "1")], Durability::Unlogged);
    store.flush();
    for value in ["2", "3"] {
        store.write(vec![put(Data, "n", value), put(Changes, "n", value)], Durability::Unlogged);
    }
    store.write(vec![put(Data, "only", "x")], Durability::Unlogged);
    let store = Bench(factory.crash(store.0));
    let data = store.get(Data, "n").expect("flushed");
    assert_eq!(Some(&data), store.get(Changes, "n").as_ref(), "both columns are at one point in the order of writes");
    if factory.loses_unflushed() {
        assert_eq!(data, bytes("1"));
        assert_eq!(store.get(Data, "only"), None);
    } else if store.get(Data, "only").is_some() {
        assert_eq!(data, bytes("3"), "a later write survived, so the earlier ones did");
    }
}

pub(super) fn the_flushed_image_lags_until_the_flush<F: StoreFactory>(factory: &F) {
    let store = Bench(factory.fresh());
    store.put("applied", "1");
    store.flush();
    assert_eq!(store.flushed("applied"), Some(bytes("1")));
    store.put("applied", "2");
    store.put("new", "x");
    if factory.loses_unflushed() {
        assert_eq!(store.flushed("applied"), Some(bytes("1")));
        assert_eq!(store.flushed("new"), None);
    }
    assert_eq!(store.get(Data, "applied"), Some(bytes("2")));
    store.flush();
    assert_eq!(store.flushed("applied"), Some(bytes("2")));
    assert_eq!(store.flushed("new"), Some(bytes("x")));
    let store = Bench(factory.crash(store.0));
    assert_eq!(store.flushed("applied"), Some(bytes("2")));
}

pub(super) fn a_flushed_range_delete_stays<F: StoreFactory>(factory: &F) {
    let store = Bench(factory.fresh());
    for key in ["a", "b", "c"] {
        store.put(key, "x");
    }
    store.flush();
    store.write(vec![delete_range(Data, "b", "d")], Durability::Unlogged);
    if factory.loses_unflushed() {
        assert_eq!(store.flushed("c"), Some(bytes("x")));
    }
    store.flush();
    assert_eq!(store.flushed("c"), None);
    let store = Bench(factory.crash(store.0));
    assert_eq!(store.all(Data), pairs(&[("a", "x")]));
}
