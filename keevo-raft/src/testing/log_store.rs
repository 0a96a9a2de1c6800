//! The conformance suite of [`LogStore`]: one list of named cases for every log store.
//!
//! Each case runs twice: on a store that stays open, and on one that is reopened after each step, so that
//! what memory says and what the disk says are held to the same.
//!
//! Invariant: a case relies on the contract alone, and gets a store that nobody else uses.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a suite fails by panicking")]

mod basics;
mod durability;
mod groups;
mod purge;

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use keevo_core::Result;

use crate::log_store::{GroupId, LogStore};
use crate::types::{Entry, EntryPayload, LogId, LogState, Payload, Vote, log_id};

/// What the suite needs to know of a log store. One factory is one medium.
pub trait LogStoreFactory: Send + Sync {
    /// Opens the store on the medium, which is empty at first. The store opened before was dropped.
    fn open(&self) -> Arc<dyn LogStore>;

    /// What a crash at this moment leaves, opened again. `store`, and the factory's earlier stores, are not
    /// used afterwards.
    fn crash(&self, store: Arc<dyn LogStore>) -> Arc<dyn LogStore>;
}

/// One case: its name, and what it does.
#[derive(Clone, Copy)]
pub struct LogStoreCase {
    /// Its name.
    pub name: &'static str,
    run: fn(Bench) -> BoxFuture<'static, ()>,
}

impl std::fmt::Debug for LogStoreCase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Every case.
pub fn log_store_cases() -> Vec<LogStoreCase> {
    macro_rules! cases {
        ($($module:ident::$name:ident),* $(,)?) => {
            vec![$(LogStoreCase { name: stringify!($name), run: |bench| $module::$name(bench).boxed() }),*]
        };
    }
    cases![
        basics::an_empty_store_has_nothing,
        basics::entries_are_read_as_they_were_appended,
        basics::reads_keep_their_bounds_and_their_size,
        basics::holes_and_overwrites_are_refused,
        basics::every_kind_of_entry_comes_back,
        basics::votes_are_replaced,
        basics::the_committed_mark_is_replaced_and_removed,
        basics::the_stamp_belongs_to_the_store,
        purge::a_truncated_tail_is_gone,
        purge::a_truncated_log_goes_on_with_other_entries,
        purge::truncating_after_the_end_changes_nothing,
        purge::a_purged_head_is_gone,
        purge::a_purge_beyond_the_end_moves_the_log,
        purge::a_purge_never_goes_back,
        purge::a_purged_log_is_truncated_no_further,
        durability::entries_are_readable_before_they_are_durable,
        durability::callbacks_come_once_and_in_order,
        durability::what_was_confirmed_survives_a_crash,
        durability::a_vote_survives_a_crash,
        durability::a_crash_leaves_a_prefix,
        durability::a_sync_keeps_buffered_writes,
        groups::groups_are_apart,
        groups::a_destroyed_group_is_as_if_it_never_was,
        groups::many_groups_write_at_once,
    ]
}

/// Runs every case on factories that `fresh` makes, and panics with the name of the first that fails.
pub async fn run_all_log_store_cases<F: LogStoreFactory + 'static>(fresh: impl Fn() -> F) {
    for case in log_store_cases() {
        for reopens in [false, true] {
            let bench = Bench::new(Arc::new(fresh()), reopens);
            if let Err(panic) = AssertUnwindSafe((case.run)(bench)).catch_unwind().await {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
                panic!("case {} (reopened after each step: {reopens}): {text}", case.name);
            }
        }
    }
}

const GROUP: GroupId = 7;

/// A store with shorthands that say what went wrong.
struct Bench {
    factory: Arc<dyn LogStoreFactory>,
    reopens: bool,
    store: Option<Arc<dyn LogStore>>,
}

impl Bench {
    fn new(factory: Arc<dyn LogStoreFactory>, reopens: bool) -> Self {
        let store = Some(factory.open());
        Self { factory, reopens, store }
    }

    fn store(&self) -> &Arc<dyn LogStore> {
        self.store.as_ref().expect("the store is open")
    }

    /// Ends a step: reopens the store, if that is what this run does.
    fn step(&mut self) {
        if self.reopens {
            self.reopen();
        }
    }

    fn reopen(&mut self) {
        self.store = None;
        self.store = Some(self.factory.open());
    }

    fn crash(&mut self) {
        let store = self.store.take().expect("the store is open");
        self.store = Some(self.factory.crash(store));
    }

    async fn append(&mut self, group: GroupId, entries: Vec<Entry>) {
        append(self.store(), group, entries).await.expect("an append is written");
        self.step();
    }

    async fn truncate(&mut self, keep: Option<LogId>) {
        self.store().truncate_after(GROUP, keep).await.expect("a truncation is written");
        self.step();
    }

    async fn purge(&mut self, upto: LogId) {
        self.store().purge(GROUP, upto).await.expect("a purge is written");
        self.step();
    }

    async fn vote(&mut self, group: GroupId, vote: Vote) {
        self.store().save_vote(group, vote).await.expect("a vote is written");
        self.step();
    }

    /// Checks the ends of the log and all that lies between them.
    async fn expect_log(&self, group: GroupId, purged: Option<LogId>, entries: &[Entry]) {
        let last = entries.last().map(|entry| entry.log_id).or(purged);
        let state = self.store().log_state(group).expect("the state is read");
        assert_eq!(state, LogState { last_purged_log_id: purged, last_log_id: last });
        assert_eq!(self.read(group, 0, u64::MAX, usize::MAX).await, entries);
    }

    async fn read(&self, group: GroupId, start: u64, end: u64, bytes_max: usize) -> Vec<Entry> {
        self.store().read(group, start..end, bytes_max).await.expect("entries are read")
    }
}

/// Appends, and waits until that is durable.
async fn append(store: &Arc<dyn LogStore>, group: GroupId, entries: Vec<Entry>) -> Result<()> {
    let (done_tx, done_rx) = oneshot::channel();
    store.append(group, entries, Box::new(move |result| drop(done_tx.send(result)))).await?;
    done_rx.await.expect("the callback comes")
}

/// An entry of `term` at `index` whose payload has `bytes` bytes that depend on both.
fn sized(term: u64, index: u64, bytes: usize) -> Entry {
    let byte = u8::try_from((term * 31 + index) % 251).unwrap_or(0);
    let payload = EntryPayload::Normal(Payload(Bytes::from(vec![byte; bytes])));
    Entry { log_id: log_id(term, 1, index), payload }
}

/// Small entries of `term` with the indexes from `first` to `last`.
fn entries(term: u64, first: u64, last: u64) -> Vec<Entry> {
    (first..=last).map(|index| sized(term, index, 10)).collect()
}

/// What callbacks said, in their order.
type Told = Arc<Mutex<Vec<(u64, bool)>>>;

/// A callback that notes `number` and whether all went well.
fn note(told: &Told, number: u64) -> crate::log_store::Done {
    let told = Arc::clone(told);
    Box::new(move |result| told.lock().expect("no panic").push((number, result.is_ok())))
}
