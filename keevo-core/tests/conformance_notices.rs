//! The conformance suite fails where it should: engines that each break one rule of the contract.
//!
//! A suite that passes on everything is worth nothing; this is the proof that the cases can fail.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt;
use keevo_core::testing::conformance::{Factory, cases};
use keevo_core::{
    Batch, ClientId, Consistency, Engine, ErrorKind, FanOut, FanOutAction, FannedOut, Key, Keyspace, KeyspaceKind,
    MemoryEngine, Op, PageToken, Record, Result, Revision, Scan, ScanPage, Watch, WatchFrom, WatchRange, Written,
};

/// One rule that an engine breaks, and a case that has to notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    DeletesAreLost,
    ChecksAreIgnored,
    RequestsAreForgotten,
    BatchesAreTorn,
    PartitionsAreMixed,
    ExpiryIsIgnored,
    RevisionsAreOff,
    PagesLoseARecord,
    ScansEndEarly,
    BackwardIsForward,
    PagesAreTheirOwnViews,
    ViewsAreMadeAnew,
    AnswersAreSorted,
    GuardsAreIgnored,
    TombstonesAreDeletes,
    EventsAreLost,
    EventsRepeatAfterAResume,
    KeyspacesAreOne,
}

const FAULTS: &[(Fault, &str)] = &[
    (Fault::DeletesAreLost, "put_get_overwrite_delete"),
    (Fault::ChecksAreIgnored, "check_absent"),
    (Fault::ChecksAreIgnored, "compare_and_set_loses_no_increment"),
    (Fault::ChecksAreIgnored, "a_random_history_agrees_with_the_model"),
    (Fault::RequestsAreForgotten, "a_request_is_applied_once"),
    (Fault::RequestsAreForgotten, "a_conflict_is_repeated_too"),
    (Fault::RequestsAreForgotten, "one_request_sent_at_once"),
    (Fault::BatchesAreTorn, "merge_refuses_overflow"),
    (Fault::BatchesAreTorn, "revisions_match_and_grow"),
    (Fault::PartitionsAreMixed, "cross_partition_batches"),
    (Fault::ExpiryIsIgnored, "put_replaces_an_expiry_and_merge_keeps_it"),
    (Fault::ExpiryIsIgnored, "a_random_history_agrees_with_the_model"),
    (Fault::RevisionsAreOff, "revisions_match_and_grow"),
    (Fault::RevisionsAreOff, "check_revision"),
    (Fault::PagesLoseARecord, "scan_both_ways_page_by_page"),
    (Fault::PagesLoseARecord, "ordered_scan_across_partitions"),
    (Fault::PagesLoseARecord, "scan_while_others_insert"),
    (Fault::ScansEndEarly, "a_page_ends_at_its_bytes"),
    (Fault::BackwardIsForward, "scan_bounds"),
    (Fault::PagesAreTheirOwnViews, "consistent_scans_show_one_state"),
    (Fault::PagesAreTheirOwnViews, "consistent_scans_are_apart"),
    (Fault::PagesAreTheirOwnViews, "a_consistent_page_comes_again"),
    (Fault::PagesAreTheirOwnViews, "a_view_that_is_gone_ends_its_scan"),
    (Fault::ViewsAreMadeAnew, "a_view_that_is_gone_ends_its_scan"),
    (Fault::AnswersAreSorted, "multi_get_keeps_the_order"),
    (Fault::GuardsAreIgnored, "fan_out_respects_guards"),
    (Fault::TombstonesAreDeletes, "fan_out_respects_tombstones"),
    (Fault::EventsAreLost, "watch_resumes_from_a_cursor"),
    (Fault::EventsAreLost, "watch_after_a_scan_misses_nothing"),
    (Fault::EventsRepeatAfterAResume, "watch_a_fan_out"),
    (Fault::KeyspacesAreOne, "keyspaces_are_apart"),
];

/// A model that breaks one rule.
#[derive(Debug, Clone)]
struct Broken {
    inner: MemoryEngine,
    fault: Fault,
}

impl Broken {
    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    async fn write_op_by_op(&self, batch: Batch) -> Result<Written> {
        let mut written = Written { revision: Revision(0), assigned: Vec::new() };
        let mut preconditions = batch.preconditions;
        for op in batch.ops {
            let one = Batch { preconditions: std::mem::take(&mut preconditions), ops: vec![op], request: None };
            let done = self.inner.write(one).await?;
            written.revision = done.revision;
            written.assigned.extend(done.assigned);
        }
        Ok(written)
    }
}

impl Engine for Broken {
    async fn keyspace(&self, name: &str, kind: KeyspaceKind) -> Result<Keyspace> {
        let mut keyspace = self.inner.keyspace(name, kind).await?;
        if self.has(Fault::KeyspacesAreOne) {
            keyspace.id.0 = 1;
        }
        Ok(keyspace)
    }

    async fn find_keyspace(&self, name: &str) -> Result<Keyspace> {
        self.inner.find_keyspace(name).await
    }

    async fn get(&self, key: Key, consistency: Consistency) -> Result<Option<Record>> {
        self.inner.get(key, consistency).await
    }

    async fn multi_get(&self, mut keys: Vec<Key>, consistency: Consistency) -> Result<Vec<Option<Record>>> {
        if self.has(Fault::AnswersAreSorted) {
            keys.sort_by_key(Key::encode);
        }
        self.inner.multi_get(keys, consistency).await
    }

    async fn scan(&self, mut scan: Scan) -> Result<ScanPage> {
        if self.has(Fault::BackwardIsForward) {
            scan.direction = keevo_core::Direction::Forward;
        }
        let mut page = match self.fault {
            Fault::PagesAreTheirOwnViews => {
                scan.consistent = false;
                // Its tokens name no view.
                scan.after = scan.resumes_at().map(PageToken);
                self.inner.scan(scan).await?
            }
            Fault::ViewsAreMadeAnew => match self.inner.scan(scan.clone()).await {
                Err(error) if error.kind() == ErrorKind::ScanExpired => {
                    scan.consistent = false;
                    scan.after = scan.resumes_at().map(PageToken);
                    self.inner.scan(scan).await?
                }
                answered => answered?,
            },
            _ => self.inner.scan(scan).await?,
        };
        if self.has(Fault::PagesLoseARecord) && page.next.is_some() {
            let mut records = page.records.into_vec();
            records.pop();
            page.records = records.into();
        }
        if self.has(Fault::ScansEndEarly) {
            page.next = None;
        }
        Ok(page)
    }

    async fn write(&self, mut batch: Batch) -> Result<Written> {
        match self.fault {
            Fault::DeletesAreLost => batch.ops.retain(|op| !matches!(op, Op::Delete { .. })),
            Fault::ChecksAreIgnored if !batch.ops.is_empty() => batch.preconditions.clear(),
            Fault::RequestsAreForgotten => batch.request = None,
            Fault::BatchesAreTorn => return self.write_op_by_op(batch).await,
            Fault::PartitionsAreMixed if batch.preconditions.is_empty() => return self.write_op_by_op(batch).await,
            Fault::ExpiryIsIgnored => {
                for op in &mut batch.ops {
                    if let Op::Put { ttl_ms, .. } = op {
                        *ttl_ms = None;
                    }
                }
            }
            _ => {}
        }
        if batch.ops.is_empty() && self.has(Fault::DeletesAreLost) {
            return Ok(Written { revision: Revision(0), assigned: Vec::new() });
        }
        let mut written = self.inner.write(batch).await?;
        if self.has(Fault::RevisionsAreOff) {
            written.revision.0 += 1;
        }
        Ok(written)
    }

    async fn fan_out(&self, mut fan_out: FanOut) -> Result<FannedOut> {
        if self.has(Fault::GuardsAreIgnored) {
            fan_out.targets.iter_mut().for_each(|target| target.guard = None);
        }
        if let (true, FanOutAction::Remove { .. }) = (self.has(Fault::TombstonesAreDeletes), &fan_out.action) {
            for target in &fan_out.targets {
                let key = fan_out.keyspace.key(target.partition.clone(), fan_out.sort.clone());
                self.inner.write(Batch::new().delete(key)).await?;
            }
            return Ok(FannedOut { applied: u64::try_from(fan_out.targets.len()).expect("it is small"), skipped: 0 });
        }
        self.inner.fan_out(fan_out).await
    }

    async fn watch(&self, range: WatchRange, mut from: WatchFrom) -> Result<Watch> {
        if let (true, WatchFrom::After(cursors)) = (self.has(Fault::EventsRepeatAfterAResume), &mut from) {
            cursors.iter_mut().filter(|cursor| cursor.offset != u32::MAX).for_each(|cursor| cursor.offset = 0);
        }
        let watch = self.inner.watch(range, from).await?;
        if self.has(Fault::EventsAreLost) {
            let numbered = watch.enumerate().filter(|(at, _)| std::future::ready(at % 7 != 3));
            return Ok(numbered.map(|(_, event)| event).boxed());
        }
        Ok(watch)
    }
}

struct BrokenFactory {
    fault: Fault,
    clients: AtomicU64,
}

impl Factory for BrokenFactory {
    type Engine = Broken;

    async fn fresh(&self) -> Broken {
        Broken { inner: MemoryEngine::new(), fault: self.fault }
    }

    async fn session(&self, engine: &Broken) -> ClientId {
        let client = ClientId(self.clients.fetch_add(1, Ordering::Relaxed).into());
        engine.inner.open_session(client).await.expect("a session opens");
        client
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_broken_rule_is_noticed() {
    let mut missed = Vec::new();
    for &(fault, name) in FAULTS {
        let by_name: BTreeMap<_, _> = cases::<BrokenFactory>().into_iter().map(|case| (case.name, case)).collect();
        let case = by_name.get(name).expect("the case exists");
        if case.run(&BrokenFactory { fault, clients: AtomicU64::new(0) }).await.is_ok() {
            missed.push((fault, name));
        }
    }
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}
