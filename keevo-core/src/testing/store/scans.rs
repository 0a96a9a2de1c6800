//! Scans: bounds, directions, breaks, one state.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::{Bench, Pairs, StoreFactory, delete, delete_range, pairs, put};
use crate::error::{Error, ErrorKind};
use crate::scan::Direction;
use crate::scan::Direction::{Backward, Forward};
use crate::store::Column::Data;
use crate::store::{Durability, Store, StoreBatch, StoreView};

fn filled<F: StoreFactory>(factory: &F) -> Bench<F::Store> {
    let store = Bench(factory.fresh());
    for (key, value) in [("a", "1"), ("b", "2"), ("d", "4")] {
        store.put(key, value);
    }
    store.flush();
    // Above the flushed rows: one new, one overwritten, one gone.
    store.put("c", "3");
    store.put("b", "two");
    store.put("e", "5");
    store.write(vec![delete(Data, "d")], Durability::Unlogged);
    store
}

pub(super) fn both_directions_within_bounds<F: StoreFactory>(factory: &F) {
    let store = filled(factory);
    assert_eq!(store.scan(Data, "b", "e", Forward), pairs(&[("b", "two"), ("c", "3")]));
    assert_eq!(store.scan(Data, "b", "e", Backward), pairs(&[("c", "3"), ("b", "two")]));
    assert_eq!(store.scan(Data, "aa", "bb", Forward), pairs(&[("b", "two")]));
    assert_eq!(store.scan(Data, "aa", "bb", Backward), pairs(&[("b", "two")]));
    assert!(store.scan(Data, "d", "e", Backward).is_empty());
}

pub(super) fn an_open_end_and_crossed_bounds<F: StoreFactory>(factory: &F) {
    let store = filled(factory);
    assert_eq!(store.scan(Data, "c", "", Forward), pairs(&[("c", "3"), ("e", "5")]));
    assert_eq!(store.scan(Data, "c", "", Backward), pairs(&[("e", "5"), ("c", "3")]));
    assert_eq!(store.scan(Data, "", "b", Backward), pairs(&[("a", "1")]));
    for direction in [Forward, Backward] {
        assert!(store.scan(Data, "c", "c", direction).is_empty());
        assert!(store.scan(Data, "d", "b", direction).is_empty());
    }
}

pub(super) fn a_visitor_breaks_or_fails<F: StoreFactory>(factory: &F) {
    let store = filled(factory);
    let mut seen = 0;
    let broken = store.0.scan(Data, b"", b"", Forward, &mut |_, _| {
        seen += 1;
        Ok(if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    });
    assert!(broken.is_ok() && seen == 2, "it stopped after {seen} rows");
    let failed = store.0.scan(Data, b"", b"", Backward, &mut |_, _| Err(Error::corrupt("by the visitor")));
    assert_eq!(failed.expect_err("the visitor's error comes out").kind(), ErrorKind::Corrupt);
}

pub(super) fn a_scan_sees_one_state<F: StoreFactory>(factory: &F) {
    let store = filled(factory);
    for direction in [Forward, Backward] {
        let before = store.scan(Data, "", "", direction);
        let mut seen = Vec::new();
        let scanned = store.0.scan(Data, b"", b"", direction, &mut |key, value| {
            seen.push((key.to_vec().into(), value.to_vec().into()));
            let ops = vec![put(Data, "zz", "new"), put(Data, "aa", "new"), put(Data, "b", "new"), delete(Data, "c")];
            store.0.write(StoreBatch { ops }, Durability::Unlogged)?;
            Ok(ControlFlow::Continue(()))
        });
        scanned.expect("a scan is answered");
        assert_eq!(seen, before, "{direction:?}: what was written meanwhile is not seen");
        let ops = vec![delete(Data, "zz"), delete(Data, "aa"), put(Data, "b", "two"), put(Data, "c", "3")];
        store.write(ops, Durability::Unlogged);
    }
}

fn viewed(view: &dyn StoreView, lower: &str, upper: &str, direction: Direction) -> Pairs {
    let mut found = Vec::new();
    view.scan(lower.as_bytes(), upper.as_bytes(), direction, &mut |key, value| {
        found.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        Ok(ControlFlow::Continue(()))
    })
    .expect("a scan is answered");
    found
}

pub(super) fn a_view_keeps_its_state<F: StoreFactory>(factory: &F) {
    let store = filled(factory);
    let before = store.all(Data);
    let view = store.0.view().expect("a view is made");
    for round in ["first", "second"] {
        let ops = vec![put(Data, "aa", round), put(Data, "b", round), delete(Data, "c"), delete_range(Data, "e", "f")];
        store.write(ops, Durability::Unlogged);
        store.flush();
        let mut backward = before.clone();
        backward.reverse();
        assert_eq!(viewed(view.as_ref(), "", "", Forward), before, "after the {round} writes");
        assert_eq!(viewed(view.as_ref(), "", "", Backward), backward, "after the {round} writes");
        assert_eq!(viewed(view.as_ref(), "c", "d", Forward), pairs(&[("c", "3")]));
        assert!(viewed(view.as_ref(), "d", "c", Forward).is_empty());
    }
    assert_ne!(store.all(Data), before);
    let later = store.0.view().expect("a view is made");
    assert_eq!(viewed(later.as_ref(), "", "", Forward), store.all(Data), "a later view shows what is there now");
}
