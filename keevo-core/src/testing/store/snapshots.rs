//! Exports and installs: ranges replaced at once, or not at all.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::{Bench, Pairs, StoreFactory, bytes, delete, pairs, put};
use crate::error::ErrorKind;
use crate::scan::Direction;
use crate::store::Column::{Changes, Data};
use crate::store::{Durability, SnapshotFile, Store, StoreBatch};

fn tile(lower: &str, upper: &str) -> (Bytes, Bytes) {
    (bytes(lower), bytes(upper))
}

fn export<F: StoreFactory>(factory: &F, store: &Bench<F::Store>, tiles: &[(Bytes, Bytes)]) -> Vec<SnapshotFile> {
    store.0.export(tiles, &[], &factory.folder()).expect("an export succeeds").files
}

/// A store with `b1 = old … b4 = old`, some of it flushed, and neighbours on both sides of `[b, c)`.
fn target<F: StoreFactory>(factory: &F) -> Bench<F::Store> {
    let store = Bench(factory.fresh());
    for key in ["a", "azz", "b1", "b3", "c", "d"] {
        store.put(key, "old");
    }
    store.flush();
    for key in ["b2", "b4"] {
        store.put(key, "old");
    }
    store
}

fn source<F: StoreFactory>(factory: &F) -> Bench<F::Store> {
    let store = Bench(factory.fresh());
    for key in ["a", "b1", "b5", "c"] {
        store.put(key, "new");
    }
    store
}

const INSTALLED: [(&str, &str); 6] =
    [("a", "old"), ("azz", "old"), ("b1", "new"), ("b5", "new"), ("c", "old"), ("d", "old")];

pub(super) fn an_install_replaces_the_range_and_nothing_else<F: StoreFactory>(factory: &F) {
    let (source, target) = (source(factory), target(factory));
    target.write(vec![put(Changes, "b1", "kept")], Durability::Unlogged);
    target.flush();
    let files = export(factory, &source, &[tile("b", "c")]);
    target.0.install(&files).expect("an install succeeds");
    assert_eq!(target.all(Data), pairs(&INSTALLED));
    assert_eq!(target.get(Changes, "b1"), Some(bytes("kept")), "the other column is left alone");
    assert!(files.iter().all(|file| !file.path.exists()), "the files are consumed");
    assert_eq!(source.get(Data, "b1"), Some(bytes("new")), "an export changes nothing");
}

pub(super) fn old_rows_in_memory_vanish_too<F: StoreFactory>(factory: &F) {
    let (source, target) = (source(factory), target(factory));
    let files = export(factory, &source, &[tile("b", "c")]);
    // Never flushed: overwritten, deleted and new rows of the range.
    target.put("b1", "older");
    target.put("b6", "old");
    target.write(vec![delete(Data, "b5")], Durability::Unlogged);
    target.0.install(&files).expect("an install succeeds");
    assert_eq!(target.all(Data), pairs(&INSTALLED));
    target.put("b1", "newer");
    target.write(vec![delete(Data, "b5")], Durability::Unlogged);
    assert_eq!(target.scan(Data, "b", "c", Direction::Backward), pairs(&[("b1", "newer")]), "later writes win");
}

pub(super) fn an_empty_tile_empties_its_range<F: StoreFactory>(factory: &F) {
    let (source, target) = (source(factory), target(factory));
    let files = export(factory, &source, &[tile("az", "b"), tile("d", "e")]);
    assert_eq!(files.len(), 2, "each tile is a file, even an empty one");
    target.0.install(&files).expect("an install succeeds");
    let left: Vec<Bytes> = target.all(Data).into_iter().map(|(key, _)| key).collect();
    assert_eq!(left, ["a", "b1", "b2", "b3", "b4", "c"]);
}

pub(super) fn an_install_survives_a_crash_at_once<F: StoreFactory>(factory: &F) {
    let (source, target) = (source(factory), target(factory));
    let files = export(factory, &source, &[tile("b", "b4"), tile("b4", "c")]);
    target.0.install(&files).expect("an install succeeds");
    assert_eq!(target.flushed("b1"), Some(bytes("new")));
    assert_eq!(target.flushed("b2"), None);
    let target = Bench(factory.crash(target.0));
    assert_eq!(target.all(Data), pairs(&INSTALLED));
}

/// 2,000 rows that compress badly, so that files of a few kilobytes are many.
fn fill<S: Store>(store: &Bench<S>, marker: u8) -> Pairs {
    let mut noise = u64::from(marker) + 1;
    let mut rows = Vec::new();
    for number in 0..2_000 {
        let mut value = vec![marker];
        for _ in 0..16 {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            value.extend_from_slice(&noise.to_be_bytes());
        }
        rows.push((bytes(&format!("k{number:05}")), Bytes::from(value)));
    }
    let ops = rows.iter().map(|(key, value)| crate::store::StoreOp::Put(Data, key.clone(), value.clone())).collect();
    store.write(ops, Durability::Unlogged);
    rows
}

pub(super) fn a_large_tile_becomes_adjoining_files<F: StoreFactory>(factory: &F) {
    let (source, target) = (Bench(factory.fresh()), Bench(factory.fresh()));
    let rows = fill(&source, 1);
    fill(&target, 2);
    target.put("k00000x", "between");
    target.put("k99999", "at the end");
    let files = export(factory, &source, &[tile("k", "l")]);
    assert!(files.len() > 2, "{} files are too few to test the seams", files.len());
    let mut end = bytes("k");
    for file in &files {
        assert_eq!(file.lower, end, "files adjoin");
        end = file.upper.clone();
    }
    assert_eq!(end, "l");
    target.0.install(&files).expect("an install succeeds");
    assert!(target.all(Data) == rows, "the range holds what the source had, no more and no less");
    let target = Bench(factory.crash(target.0));
    assert!(target.all(Data) == rows, "and still does after a crash");
}

pub(super) fn an_export_is_one_view<F: StoreFactory>(factory: &F) {
    let (source, target) = (Bench(factory.fresh()), Bench(factory.fresh()));
    let stop = AtomicBool::new(false);
    let set = |round: u64| {
        let ops = ["a", "m", "z"].map(|key| put(Data, key, &round.to_string())).to_vec();
        source.0.write(StoreBatch { ops }, Durability::Unlogged)
    };
    set(0).expect("a batch is written");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut round = 1;
            while !stop.load(Ordering::Relaxed) {
                set(round).expect("a batch is written");
                round += 1;
            }
        });
        for _ in 0..20 {
            let tiles = [tile("a", "b"), tile("m", "n"), tile("z", "zz")];
            let export = source.0.export(&tiles, &[bytes("m"), bytes("none")], &factory.folder()).expect("an export");
            target.0.install(&export.files).expect("an install succeeds");
            let [row, none] = export.rows.as_slice() else { panic!("two rows were asked for: {:?}", export.rows) };
            let row = row.clone().expect("the row is there");
            assert_eq!(*none, None);
            let found: Vec<Bytes> = target.all(Data).into_iter().map(|(_, value)| value).collect();
            assert_eq!(found, [row.clone(), row.clone(), row], "all tiles and the row are of one view");
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("the writer ends");
    });
}

pub(super) fn a_damaged_file_changes_nothing<F: StoreFactory>(factory: &F) {
    let (source, target) = (source(factory), target(factory));
    let before = target.all(Data);
    let files = export(factory, &source, &[tile("b", "b4"), tile("b4", "c")]);
    let last = files.last().expect("two files");
    let good = std::fs::read(&last.path).expect("the file is read");
    let middle = good.len() / 2;
    for damage in ["a flipped bit", "cut short", "longer"] {
        let mut bad = good.clone();
        match damage {
            "a flipped bit" => bad.get_mut(middle).map(|byte| *byte ^= 1).expect("the file has bytes"),
            "cut short" => bad.truncate(middle),
            _ => bad.push(0),
        }
        std::fs::write(&last.path, bad).expect("the file is written");
        assert_eq!(target.0.install(&files).expect_err(damage).kind(), ErrorKind::Corrupt);
        assert_eq!(target.all(Data), before, "{damage}: nothing changed");
    }
    let target = Bench(factory.crash(target.0));
    target.put("goes", "on");
    assert_eq!(target.get(Data, "goes"), Some(bytes("on")));
}

pub(super) fn overlapping_files_and_bad_tiles_are_refused<F: StoreFactory>(factory: &F) {
    let (source, target) = (source(factory), target(factory));
    let before = target.all(Data);
    let mut files = export(factory, &source, &[tile("b", "b4")]);
    files.extend(export(factory, &source, &[tile("b1", "c")]));
    assert_eq!(target.0.install(&files).expect_err("overlap").kind(), ErrorKind::Invalid);
    for tiles in [vec![tile("c", "b")], vec![tile("b", "b")], vec![tile("b", "")], vec![tile("a", "c"), tile("b", "d")]]
    {
        let refused = source.0.export(&tiles, &[], &factory.folder()).expect_err("bad tiles");
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{tiles:?}");
    }
    assert_eq!(target.all(Data), before);
}

pub(super) fn a_store_installs_over_itself_twice<F: StoreFactory>(factory: &F) {
    let store = Bench(factory.fresh());
    let rows = fill(&store, 3);
    let files = export(factory, &store, &[tile("k", "l")]);
    fill(&store, 4);
    store.0.install(&files).expect("an install succeeds");
    assert!(store.all(Data) == rows);
    let files = export(factory, &store, &[tile("k", "l")]);
    store.put("k00000", "changed");
    store.0.install(&files).expect("a second install succeeds");
    assert!(store.all(Data) == rows);
}
