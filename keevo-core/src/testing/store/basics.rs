//! Points, batches and range deletes.

use bytes::Bytes;

use super::{Bench, StoreFactory, bytes, delete, delete_range, pairs, put};
use crate::store::Column::{Changes, Data};
use crate::store::{Durability, Store, StoreOp};

pub(super) fn an_empty_store_has_nothing<F: StoreFactory>(factory: &F) {
    let store = Bench(factory.fresh());
    assert_eq!(store.get(Data, "a"), None);
    assert_eq!(store.flushed("a"), None);
    assert!(store.all(Data).is_empty() && store.all(Changes).is_empty());
    store.write(Vec::new(), Durability::Unlogged);
    store.flush();
}

pub(super) fn a_batch_applies_in_order<F: StoreFactory>(factory: &F) {
    let store = Bench(factory.fresh());
    let ops = vec![
        put(Data, "a", "1"),
        put(Data, "a", "2"),
        delete(Data, "b"),
        put(Data, "b", "3"),
        put(Data, "c", "4"),
        delete(Data, "c"),
        put(Data, "d", "5"),
        delete_range(Data, "d", "e"),
        delete_range(Data, "e", "f"),
        put(Data, "e", "6"),
    ];
    store.write(ops, Durability::Unlogged);
    assert_eq!(store.all(Data), pairs(&[("a", "2"), ("b", "3"), ("e", "6")]));
}

pub(super) fn columns_are_apart<F: StoreFactory>(factory: &F) {
    let store = Bench(factory.fresh());
    store.write(vec![put(Data, "a", "data"), put(Changes, "a", "changes")], Durability::Unlogged);
    store.write(vec![delete_range(Changes, "", "z")], Durability::Unlogged);
    assert_eq!(store.get(Data, "a"), Some(bytes("data")));
    assert_eq!(store.get(Changes, "a"), None);
}

pub(super) fn many_keys_are_read_in_the_order_asked<F: StoreFactory>(factory: &F) {
    let store = Bench(factory.fresh());
    store.put("a", "1");
    store.flush();
    store.put("c", "3");
    let keys = [bytes("c"), bytes("missing"), bytes("a"), bytes("c")];
    let found = store.0.multi_get(Data, &keys).expect("several keys are read");
    assert_eq!(found, [Some(bytes("3")), None, Some(bytes("1")), Some(bytes("3"))]);
    assert!(store.0.multi_get(Data, &[]).expect("no keys are read").is_empty());
}

pub(super) fn a_range_delete_keeps_its_bounds<F: StoreFactory>(factory: &F) {
    let store = Bench(factory.fresh());
    for key in ["a", "b", "ba", "c", "d"] {
        store.put(key, "x");
    }
    store.flush();
    store.put("bb", "x");
    let before = store.all(Data);
    for (lower, upper) in [("b", "b"), ("c", "b"), ("b", "")] {
        store.write(vec![delete_range(Data, lower, upper)], Durability::Unlogged);
        assert_eq!(store.all(Data), before, "a range from {lower:?} to {upper:?} is empty");
    }
    store.write(vec![delete_range(Data, "b", "c")], Durability::Unlogged);
    assert_eq!(store.all(Data), pairs(&[("a", "x"), ("c", "x"), ("d", "x")]));
    store.flush();
    assert_eq!(store.all(Data), pairs(&[("a", "x"), ("c", "x"), ("d", "x")]));
}

pub(super) fn keys_and_values_of_any_bytes<F: StoreFactory>(factory: &F) {
    let store = Bench(factory.fresh());
    let keys: [Bytes; 5] = [
        Bytes::from_static(&[0]),
        Bytes::from_static(&[0, 0]),
        Bytes::from_static(&[0, 0xff]),
        Bytes::from_static(&[0xff, 0xff]),
        Bytes::from(vec![7; 3_000]),
    ];
    let large = Bytes::from(vec![0xab; 1 << 20]);
    for key in &keys {
        store.write(vec![StoreOp::Put(Data, key.clone(), large.clone())], Durability::Unlogged);
    }
    store.write(vec![StoreOp::Put(Data, Bytes::from_static(&[1]), Bytes::new())], Durability::Unlogged);
    store.flush();
    for key in &keys {
        assert!(store.0.get(Data, key).expect("a get is answered").as_ref() == Some(&large), "key {key:?}");
    }
    assert_eq!(store.0.get(Data, &[1]).expect("a get is answered"), Some(Bytes::new()), "an empty value is a value");
    let order: Vec<Bytes> = store.all(Data).into_iter().map(|(key, _)| key).collect();
    assert!(order.is_sorted() && order.len() == 6, "keys come in the order of their bytes");
}
