//! Scans: bounds, directions, breaks, one state.

use std::ops::ControlFlow;

use super::{Bench, StoreFactory, delete, pairs, put};
use crate::error::{Error, ErrorKind};
use crate::scan::Direction::{Backward, Forward};
use crate::store::Column::Data;
use crate::store::{Durability, Store, StoreBatch};

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
