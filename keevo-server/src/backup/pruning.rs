//! What is done to the backups of this cluster: which are being made, and whether old ones are being removed. A row of the meta
//! group.
//!
//! Invariant: old backups are removed only while none is made and none of this cluster is restored, so that nobody names or
//! reads a chunk which goes. A pruning that was begun later stops an earlier one before its next step. Who does not renew what
//! they have noted has lost it after [`HOLD`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use keevo_archive::restore::Fence;
use keevo_core::keyspaces::MetaStore;
use keevo_core::{Batch, Check, Clock, ClusterId, Error, ErrorKind, Key, Keyspace, Result, Revision};
use keevo_raft::ClusterEngine;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::marker::{self, Marker};

/// How often a change of the row is tried again when another came first.
const ATTEMPTS: usize = 32;
/// How long what is noted counts.
const HOLD: Duration = Duration::from_mins(10);
/// How often it is renewed while work goes on.
const RENEW_EVERY: Duration = Duration::from_mins(2);

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Row {
    /// Counts prunings.
    number: u64,
    under_way: bool,
    /// Until when that counts, in milliseconds since 1970.
    #[serde(default)]
    until_ms: Option<u64>,
    /// The backups that are being made, each with until when that counts.
    #[serde(default)]
    backups: BTreeMap<String, u64>,
}

impl Row {
    /// Refuses what must not happen while old backups are removed: `Conflict`.
    fn refuse(&self, now_ms: u64) -> Result<()> {
        if !self.under_way || self.until_ms.is_some_and(|until_ms| until_ms <= now_ms) {
            return Ok(());
        }
        let message = "old backups are being removed: come again when that is done. If it was cut off, come again in 10 minutes, \
                       or run `backup prune` again, which ends it";
        Err(Error::new(ErrorKind::Conflict, message))
    }

    /// With a new pruning. `Conflict` while a backup is made.
    fn begun(mut self, now_ms: u64) -> Result<Self> {
        self.backups.retain(|_, until_ms| *until_ms > now_ms);
        if let Some(id) = self.backups.keys().next() {
            let message = format!(
                "backup {id} is being made: come again when it is finished. If it was cut off, come again in 10 minutes"
            );
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        Ok(Self { number: self.number.saturating_add(1), under_way: true, until_ms: Some(later(now_ms)), ..self })
    }

    /// `Conflict` where it is not this pruning that counts.
    fn check(&self, number: u64, now_ms: u64) -> Result<()> {
        if self.under_way && self.number == number && self.until_ms.is_none_or(|until_ms| until_ms > now_ms) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Conflict,
            "another pruning of the backups has begun, or this one took too long: it stops",
        ))
    }

    /// With a backup that is being made. `Conflict` while old ones are removed.
    fn noted(mut self, backup: &str, now_ms: u64) -> Result<Self> {
        self.refuse(now_ms)?;
        self.backups.retain(|_, until_ms| *until_ms > now_ms);
        self.backups.insert(backup.to_owned(), later(now_ms));
        Ok(self)
    }
}

fn later(now_ms: u64) -> u64 {
    now_ms.saturating_add(u64::try_from(HOLD.as_millis()).unwrap_or(u64::MAX))
}

pub(super) fn key() -> Key {
    Keyspace::META.key("cluster", "pruning")
}

/// `Conflict` where a restore is under way of what this cluster has backed up.
fn refuse_restore(restore: Option<&Marker>, cluster: ClusterId) -> Result<()> {
    match restore.filter(|marker| !marker.finished && marker.cluster == cluster.to_string()) {
        None => Ok(()),
        Some(Marker { backup, .. }) => {
            let message = format!("backup {backup} is being restored: finish that first");
            Err(Error::new(ErrorKind::Conflict, message))
        }
    }
}

/// Reads and changes the row. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Book {
    pub(super) engine: ClusterEngine,
    pub(super) clock: Arc<dyn Clock>,
}

impl Book {
    async fn read(&self) -> Result<(Row, Check)> {
        let Some(record) = self.engine.meta().get(key()).await? else { return Ok((Row::default(), Check::Absent)) };
        let row = serde_json::from_slice(&record.value)
            .map_err(|error| Error::corrupt("the row of the pruning does not decode").with_source(error))?;
        Ok((row, Check::RevisionIs(record.revision)))
    }

    /// Writes the row where `checks` hold; `false` where they do not.
    async fn write(&self, row: &Row, checks: Vec<(Key, Check)>) -> Result<bool> {
        let value = serde_json::to_vec(row)
            .map_err(|error| Error::invalid("the row of the pruning cannot be written").with_source(error))?;
        let batch = Batch::new().put(key(), Bytes::from(value));
        let batch = checks.into_iter().fold(batch, |batch, (key, check)| batch.require(key, check));
        match self.engine.meta().write(batch).await {
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
            written => written.map(|_written| true),
        }
    }

    async fn change(&self, change: impl Fn(Row, u64) -> Result<Row> + Send) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let (row, check) = self.read().await?;
            let row = change(row, self.clock.now_ms())?;
            if self.write(&row, vec![(key(), check)]).await? {
                return Ok(());
            }
        }
        Err(too_many())
    }

    /// Refuses what must not happen while old backups are removed: `Conflict`. Gives what holds of the row.
    pub(super) async fn refuse(&self) -> Result<Check> {
        let (row, check) = self.read().await?;
        row.refuse(self.clock.now_ms()).map(|()| check)
    }

    /// Begins a pruning; gives its number. `Conflict` while a backup is made, or one of this cluster is restored.
    pub(super) async fn begin(&self, cluster: ClusterId) -> Result<u64> {
        for _ in 0..ATTEMPTS {
            let restore = marker::read(&self.engine).await?;
            refuse_restore(restore.as_ref().map(|(marker, _)| marker), cluster)?;
            let restores = restore.map_or(Check::Absent, |(_, revision): (_, Revision)| Check::RevisionIs(revision));
            let (row, check) = self.read().await?;
            let row = row.begun(self.clock.now_ms())?;
            if self.write(&row, vec![(key(), check), (marker::key(), restores)]).await? {
                return Ok(row.number);
            }
        }
        Err(too_many())
    }

    /// Says whether a pruning may go on, and renews it: `Conflict` when a later one has begun, or it was not renewed in time.
    pub(super) async fn go_on(&self, number: u64) -> Result<()> {
        let now_ms = self.clock.now_ms();
        let (row, _) = self.read().await?;
        row.check(number, now_ms)?;
        let half = u64::try_from(HOLD.as_millis() / 2).unwrap_or(u64::MAX);
        if row.until_ms.is_some_and(|until_ms| until_ms > now_ms.saturating_add(half)) {
            return Ok(());
        }
        self.change(|row, now_ms| {
            row.check(number, now_ms)?;
            Ok(Row { until_ms: Some(later(now_ms)), ..row })
        })
        .await
    }

    /// Ends a pruning.
    pub(super) async fn end(&self, number: u64) -> Result<()> {
        self.change(|row, now_ms| {
            row.check(number, now_ms)?;
            Ok(Row { under_way: false, ..row })
        })
        .await
    }

    /// Notes that a backup is being made, so that nothing is removed meanwhile. `Conflict` while old ones are removed.
    pub(super) async fn note(&self, backup: &str) -> Result<()> {
        self.change(|row, now_ms| row.noted(backup, now_ms)).await
    }

    /// Notes that it is made.
    pub(super) async fn forget(&self, backup: &str) -> Result<()> {
        self.change(|mut row, _| {
            row.backups.remove(backup);
            Ok(row)
        })
        .await
    }
}

fn too_many() -> Error {
    Error::new(ErrorKind::Unavailable, "the row of the pruning is changed by too many")
}

/// Work during which no backup is made, restored or removed, and no other work of this kind begins; a dry run is noted nowhere. Its
/// fence says whether it may go on. When nobody waits for it any more it stops at its next step, and notes that it has ended.
pub(super) async fn alone<T, F>(
    book: Book,
    cluster: ClusterId,
    dry_run: bool,
    work: impl FnOnce(Fence) -> F + Send + 'static,
) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let gone = CancellationToken::new();
    let asked = gone.clone().drop_guard();
    let done = tokio::spawn(async move {
        let number = if dry_run { None } else { Some(book.begin(cluster).await?) };
        let fence = fence_of(book.clone(), number, gone);
        let done = renewed(work(Arc::clone(&fence)), &fence).await;
        let ended = match number {
            Some(number) => book.end(number).await,
            None => Ok(()),
        };
        let done = done?;
        ended.map(|()| done)
    });
    let done = done.await;
    drop(asked);
    done.map_err(|error| Error::new(ErrorKind::Io, "the work on the backups was cut off").with_source(error))?
}

fn fence_of(book: Book, number: Option<u64>, gone: CancellationToken) -> Fence {
    Arc::new(move || {
        let (book, gone) = (book.clone(), gone.is_cancelled());
        async move {
            match number {
                _ if gone => Err(Error::new(ErrorKind::Conflict, "whoever asked for it has gone: it stops")),
                Some(number) => book.go_on(number).await,
                None => Ok(()),
            }
        }
        .boxed()
    })
}

/// Work during which `renew` is called again and again; its `Conflict` ends the work.
pub(super) async fn renewed<T>(work: impl Future<Output = Result<T>> + Send, renew: &Fence) -> Result<T> {
    let renewing = async {
        loop {
            tokio::time::sleep(RENEW_EVERY).await;
            match renew().await {
                Err(error) if error.kind() == ErrorKind::Conflict => return error,
                Err(error) => tracing::warn!(%error, "what is done to the backups cannot be noted; it is tried again"),
                Ok(()) => {}
            }
        }
    };
    tokio::select! {
        done = work => done,
        error = renewing => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000;

    #[test]
    fn a_later_one_stops_an_earlier_one() {
        let row = Row { number: 3, under_way: true, ..Row::default() };
        assert!(row.check(3, NOW).is_ok(), "a row of before, without a time");
        let ended = Row { under_way: false, ..row.clone() };
        for (row, number) in [(&row, 2), (&ended, 3), (&Row::default(), 1)] {
            assert_eq!(row.check(number, NOW).expect_err("not this one").kind(), ErrorKind::Conflict);
        }
        let next = row.begun(NOW).expect("a later one");
        assert!(next.check(4, NOW).is_ok() && next.check(3, NOW).is_err());
    }

    #[test]
    fn one_that_was_cut_off_blocks_backups_for_a_while_alone() {
        let row = Row::default().begun(NOW).expect("begun");
        assert_eq!(row.refuse(NOW).expect_err("under way").kind(), ErrorKind::Conflict);
        assert!(row.clone().noted("monday", NOW).is_err());
        let after = later(NOW);
        assert!(row.refuse(after - 1).is_err() && row.refuse(after).is_ok());
        assert!(row.check(1, after).is_err(), "and it does not go on then");
        let old: Row = serde_json::from_str(r#"{"number":3,"under_way":false}"#).expect("a row of before");
        assert!(old.refuse(NOW).is_ok() && old.backups.is_empty());
    }

    #[test]
    fn none_begins_while_a_backup_is_made_or_restored() {
        let row = Row::default().noted("monday", NOW).expect("noted");
        let refused = row.clone().begun(NOW).expect_err("it is being made");
        assert!(refused.kind() == ErrorKind::Conflict && refused.message().contains("monday"), "{refused}");
        assert!(row.begun(later(NOW)).expect("it was cut off").backups.is_empty());

        let (ours, others) = (ClusterId(7), ClusterId(8));
        let row = |finished: bool| {
            let text = format!(
                r#"{{"cluster":"{ours}","backup":"monday","moment":"Backup","done":[],"revision":0,"finished":{finished}}}"#
            );
            serde_json::from_str::<Marker>(&text).expect("a row")
        };
        assert_eq!(refuse_restore(Some(&row(false)), ours).expect_err("under way").kind(), ErrorKind::Conflict);
        assert!(refuse_restore(Some(&row(false)), others).is_ok() && refuse_restore(None, ours).is_ok());
        assert!(refuse_restore(Some(&row(true)), ours).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn work_is_renewed_and_ends_when_it_has_lost_its_place() {
        use std::sync::atomic::{AtomicU32, Ordering};

        let asked = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&asked);
        let renew: Fence = Arc::new(move || {
            let number = counted.fetch_add(1, Ordering::Relaxed);
            let lost = || Error::new(ErrorKind::Conflict, "lost");
            async move { if number < 2 { Ok(()) } else { Err(lost()) } }.boxed()
        });
        assert_eq!(renewed(async { Ok(1) }, &renew).await.expect("done"), 1);
        let lost = renewed(std::future::pending::<Result<()>>(), &renew).await.expect_err("lost");
        assert_eq!((lost.kind(), asked.load(Ordering::Relaxed)), (ErrorKind::Conflict, 3));
    }
}
