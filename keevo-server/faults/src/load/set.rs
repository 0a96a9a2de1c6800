//! Numbered inserts that are acknowledged, and a watcher who hears of them.
//!
//! What was acknowledged must be there, what was refused must not; the watcher hears of every insert, at the revision at
//! which it was acknowledged, in order, and of nothing that is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use keevo_core::{
    Batch, CommitEvent, Cursor, Engine, Error, ErrorKind, Keyspace, Result, Revision, Scan, WatchFrom, WatchRange,
};
use tokio::task::JoinHandle;

use super::{Client as Remote, Shared, Verdict, patiently};
use crate::node::POLL;

/// Writers, each with a partition and a watcher of its own.
pub(crate) const WRITERS: usize = 2;
const PAGE: usize = 1_000;
/// How long a watcher may take to hear of everything once nothing is written any more.
const HEARD_WITHIN: Duration = Duration::from_secs(45);

/// What a writer knows.
#[derive(Debug)]
pub(crate) struct Ledger {
    partition: String,
    acknowledged: BTreeMap<u64, Revision>,
    refused: BTreeSet<u64>,
}

pub(crate) fn partition(name: &str, number: usize) -> String {
    format!("{name}-set-{number}")
}

/// Inserts one number after the other.
pub(crate) async fn write(shared: Arc<Shared>, engine: Remote, keyspace: Keyspace, partition: String) -> Ledger {
    let mut ledger = Ledger { partition, acknowledged: BTreeMap::new(), refused: BTreeSet::new() };
    let mut number = 0_u64;
    while shared.goes_on() {
        number += 1;
        let key = keyspace.key(ledger.partition.clone(), number.to_be_bytes().to_vec());
        let written = engine.write(Batch::new().put(key, format!("number {number}"))).await;
        let verdict = shared.judge("an insert", written);
        let failed = verdict.is_err();
        match verdict {
            Ok(written) => drop(ledger.acknowledged.insert(number, written.revision)),
            Err(Verdict::Refused) => drop(ledger.refused.insert(number)),
            Err(Verdict::Unknown) => {}
        }
        shared.pause(failed).await;
    }
    ledger
}

fn number_of(sort: &[u8]) -> Option<u64> {
    <[u8; 8]>::try_from(sort).ok().map(u64::from_be_bytes)
}

/// All numbers of a partition, with their revisions, and where a watch goes on from there.
async fn stored(engine: &Remote, keyspace: Keyspace, partition: &str) -> Result<(BTreeMap<u64, Revision>, Cursor)> {
    let mut numbers = BTreeMap::new();
    let mut scan = Scan::partition(keyspace, partition.to_owned(), PAGE);
    // What is written between two pages is heard of again, from the first page's view on.
    let mut from = None;
    loop {
        let page = patiently(|| engine.scan(scan.clone())).await?;
        let from = *from.get_or_insert(page.as_of);
        for (key, record) in &page.records {
            let number = number_of(&key.sort).filter(|number| record.value == format!("number {number}"));
            let number = number.ok_or_else(|| Error::corrupt(format!("{partition} holds what nobody inserted")))?;
            numbers.insert(number, record.revision);
        }
        if page.next.is_none() {
            return Ok((numbers, from));
        }
        scan = scan.after(page.next);
    }
}

/// Compares what is stored with what was acknowledged and refused.
pub(crate) async fn check(
    shared: &Shared,
    engine: &Remote,
    keyspace: Keyspace,
    ledger: &Ledger,
) -> Result<BTreeMap<u64, Revision>> {
    let (stored, _) = stored(engine, keyspace, &ledger.partition).await?;
    let lost: Vec<_> = ledger.acknowledged.keys().filter(|number| !stored.contains_key(number)).collect();
    if let Some(first) = lost.first() {
        shared.complain(format!("{}: {} acknowledged inserts are lost, {first} first", ledger.partition, lost.len()));
    }
    for (number, revision) in &ledger.acknowledged {
        if stored.get(number).is_some_and(|stored| stored != revision) {
            shared.complain(format!("{}: insert {number} was acknowledged at another revision", ledger.partition));
        }
    }
    for number in ledger.refused.iter().filter(|number| stored.contains_key(number)) {
        shared.complain(format!("{}: insert {number} was refused and is there", ledger.partition));
    }
    Ok(stored)
}

/// What a watcher has heard.
#[derive(Debug, Default)]
struct Heard {
    numbers: BTreeMap<u64, Revision>,
    last: Option<Cursor>,
}

/// Somebody who watches a partition.
#[derive(Debug)]
pub(crate) struct Watcher {
    heard: Arc<Mutex<Heard>>,
    partition: String,
    task: JoinHandle<()>,
}

impl Watcher {
    pub(crate) async fn start(
        shared: &Arc<Shared>,
        engine: Remote,
        keyspace: Keyspace,
        partition: &str,
    ) -> Result<Self> {
        let (_, from) = stored(&engine, keyspace, partition).await?;
        let heard = Arc::new(Mutex::new(Heard { last: Some(from), ..Heard::default() }));
        let ears = Ears {
            shared: Arc::clone(shared),
            engine,
            keyspace,
            partition: partition.to_owned(),
            heard: Arc::clone(&heard),
        };
        Ok(Self { heard, partition: partition.to_owned(), task: tokio::spawn(ears.listen(from)) })
    }

    /// Waits until it has heard of everything that is stored, and compares.
    pub(crate) async fn check(&self, shared: &Shared, ledger: &Ledger, stored: &BTreeMap<u64, Revision>) {
        let count = || self.heard.lock().unwrap_or_else(PoisonError::into_inner).numbers.len();
        let complete = async {
            while count() < stored.len() {
                tokio::time::sleep(POLL).await;
            }
        };
        drop(tokio::time::timeout(HEARD_WITHIN, complete).await);
        let heard = std::mem::take(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner).numbers);
        let missed: Vec<_> = stored.keys().filter(|number| !heard.contains_key(number)).collect();
        if let Some(first) = missed.first() {
            shared.complain(format!("{}: the watcher missed {} inserts, {first} first", self.partition, missed.len()));
        }
        for (number, revision) in &heard {
            match (stored.get(number), ledger.acknowledged.get(number)) {
                (None, _) => shared.complain(format!("{}: the watcher heard of {number}, not there", self.partition)),
                (Some(stored), _) if stored != revision => {
                    shared.complain(format!("{}: the watcher heard of {number} at {revision}", self.partition));
                }
                _ => {}
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The listening side of a watcher.
struct Ears {
    shared: Arc<Shared>,
    engine: Remote,
    keyspace: Keyspace,
    partition: String,
    heard: Arc<Mutex<Heard>>,
}

impl Ears {
    /// Listens until it is aborted; a watch that ends is taken up where it was.
    async fn listen(self, mut from: Cursor) {
        loop {
            let range = WatchRange::Partition {
                keyspace: self.keyspace,
                partition: self.partition.clone().into(),
                prefix: bytes::Bytes::new(),
            };
            let ended = match self.engine.watch(range, WatchFrom::After(vec![from])).await {
                Ok(mut watch) => loop {
                    match watch.next().await {
                        Some(Ok(event)) => self.hear(&event, &mut from),
                        Some(Err(error)) => break error,
                        None => break Error::new(ErrorKind::Unavailable, "the watch ended"),
                    }
                },
                Err(error) => error,
            };
            match ended.kind() {
                // The node has its state from a snapshot: what came before is scanned, as the contract says.
                ErrorKind::CursorCompacted => match stored(&self.engine, self.keyspace, &self.partition).await {
                    Ok((numbers, as_of)) => {
                        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
                        heard.numbers.extend(numbers);
                        heard.last = Some(as_of);
                        from = as_of;
                    }
                    Err(error) => self.shared.complain(format!("{}: the rescan failed: {error}", self.partition)),
                },
                kind if kind.is_retryable() || kind == ErrorKind::DeadlineExceeded || kind == ErrorKind::Closed => {
                    tokio::time::sleep(POLL).await;
                }
                _ => {
                    self.shared.complain(format!("{}: the watch ended with {ended}", self.partition));
                    return;
                }
            }
        }
    }

    fn hear(&self, event: &CommitEvent, from: &mut Cursor) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let position = |cursor: &Cursor| (cursor.revision, cursor.offset);
        // At least once: what comes again after a resume is not news.
        if heard.last.as_ref().is_some_and(|last| position(&event.cursor) <= position(last)) {
            return;
        }
        match number_of(&event.key.sort) {
            Some(number) => {
                if heard.numbers.insert(number, event.cursor.revision).is_some_and(|old| old != event.cursor.revision) {
                    self.shared.complain(format!("{}: the watcher heard twice of {number}", self.partition));
                }
            }
            None => self.shared.complain(format!("{}: the watcher heard of a strange key", self.partition)),
        }
        heard.last = Some(event.cursor);
        *from = event.cursor;
    }
}
