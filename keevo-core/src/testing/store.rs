//! The conformance suite of [`Store`]: one list of named cases for every store.
//!
//! Invariant: a case relies on the contract alone, and gets a store that nobody else uses.

mod basics;
mod durability;
mod random;
mod scans;
mod snapshots;

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;

use bytes::Bytes;

use crate::scan::Direction;
use crate::store::{Column, Durability, Store, StoreBatch, StoreOp};

/// What the suite needs to know of a store.
pub trait StoreFactory {
    /// The store.
    type Store: Store;

    /// A new, empty store. Exported files must end after a few kilobytes, so that a tile becomes several.
    fn fresh(&self) -> Self::Store;

    /// What a crash at this moment leaves, opened again. The store itself is not used afterwards.
    fn crash(&self, store: Self::Store) -> Self::Store;

    /// A new, empty folder for the files of a snapshot, where the store can take files from.
    fn folder(&self) -> PathBuf;

    /// Whether [`Durability::Unlogged`] writes are lost in a crash before the next flush.
    fn loses_unflushed(&self) -> bool;
}

/// One case: its name, and what it does.
#[derive(Debug, Clone, Copy)]
pub struct StoreCase<F> {
    /// Its name.
    pub name: &'static str,
    run: fn(&F),
}

/// Every case.
pub fn store_cases<F: StoreFactory>() -> Vec<StoreCase<F>> {
    macro_rules! cases {
        ($($module:ident::$name:ident),* $(,)?) => {
            vec![$(StoreCase { name: stringify!($name), run: $module::$name::<F> }),*]
        };
    }
    cases![
        basics::an_empty_store_has_nothing,
        basics::a_batch_applies_in_order,
        basics::columns_are_apart,
        basics::many_keys_are_read_in_the_order_asked,
        basics::a_range_delete_keeps_its_bounds,
        basics::keys_and_values_of_any_bytes,
        scans::both_directions_within_bounds,
        scans::an_open_end_and_crossed_bounds,
        scans::a_visitor_breaks_or_fails,
        scans::a_scan_sees_one_state,
        scans::a_view_keeps_its_state,
        durability::flushed_writes_survive_a_crash,
        durability::synced_writes_survive_a_crash,
        durability::a_crash_loses_all_columns_alike,
        durability::the_flushed_image_lags_until_the_flush,
        durability::a_flushed_range_delete_stays,
        snapshots::an_install_replaces_the_range_and_nothing_else,
        snapshots::old_rows_in_memory_vanish_too,
        snapshots::an_empty_tile_empties_its_range,
        snapshots::an_install_survives_a_crash_at_once,
        snapshots::a_large_tile_becomes_adjoining_files,
        snapshots::an_export_is_one_view,
        snapshots::a_damaged_file_changes_nothing,
        snapshots::overlapping_files_and_bad_tiles_are_refused,
        snapshots::a_store_installs_over_itself_twice,
        random::random_operations_match_a_model,
    ]
}

/// Runs every case, and panics with the name of the first that fails.
pub fn run_all_store_cases<F: StoreFactory>(factory: &F) {
    for case in store_cases::<F>() {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (case.run)(factory))) {
            tracing::error!(case = case.name, "a case of the store suite failed");
            let text = panic.downcast_ref::<String>().map(String::as_str);
            match text.or_else(|| panic.downcast_ref::<&str>().copied()) {
                Some(text) => panic!("case {}: {text}", case.name),
                None => resume_unwind(panic),
            }
        }
    }
}

/// A store with shorthands that say what went wrong.
struct Bench<S>(S);

type Pairs = Vec<(Bytes, Bytes)>;

impl<S: Store> Bench<S> {
    fn write(&self, ops: Vec<StoreOp>, durability: Durability) {
        self.0.write(StoreBatch { ops }, durability).expect("a batch is written");
    }

    fn put(&self, key: &str, value: &str) {
        self.write(vec![put(Column::Data, key, value)], Durability::Unlogged);
    }

    fn flush(&self) {
        self.0.flush().expect("a flush succeeds");
    }

    fn get(&self, column: Column, key: &str) -> Option<Bytes> {
        self.0.get(column, key.as_bytes()).expect("a get is answered")
    }

    fn flushed(&self, key: &str) -> Option<Bytes> {
        self.0.get_flushed(key.as_bytes()).expect("a get of the flushed image is answered")
    }

    fn scan(&self, column: Column, lower: &str, upper: &str, direction: Direction) -> Pairs {
        let mut found = Vec::new();
        self.0
            .scan(column, lower.as_bytes(), upper.as_bytes(), direction, &mut |key, value| {
                found.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
                Ok(ControlFlow::Continue(()))
            })
            .expect("a scan is answered");
        found
    }

    fn all(&self, column: Column) -> Pairs {
        self.scan(column, "", "", Direction::Forward)
    }
}

fn put(column: Column, key: &str, value: &str) -> StoreOp {
    StoreOp::Put(column, bytes(key), bytes(value))
}

fn delete(column: Column, key: &str) -> StoreOp {
    StoreOp::Delete(column, bytes(key))
}

fn delete_range(column: Column, lower: &str, upper: &str) -> StoreOp {
    StoreOp::DeleteRange(column, bytes(lower), bytes(upper))
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn pairs(expected: &[(&str, &str)]) -> Pairs {
    expected.iter().map(|(key, value)| (bytes(key), bytes(value))).collect()
}
