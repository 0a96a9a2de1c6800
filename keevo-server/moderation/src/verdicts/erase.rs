//! Erasing a text: nothing of what it said, of what was said of it, or of who wrote it stays.
//!
//! ```text
//! v app kind ‹text id›   e              the text is erased; written first, and what is written here demands that it is not
//! n app ‹channel›        e              the channel is erased; likewise
//!                        ‹partition›    a text of it; written before anything of the text is, and demands that the mark is not
//! ```
//!
//! Invariant: once the mark is there no verdict, decision, queue entry or label of the text outlives whoever was about to
//! write it: rows beside the mark demand its absence, and who writes elsewhere looks for it afterwards. A text that may stand
//! nowhere is noted first: so it is found by whoever marks its channel, or is refused for the mark.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use keevo_core::{Batch, Check, Engine, ErrorKind, Key, Result, Scan};

use super::{CONCURRENCY, Verdicts, catalogue, decode, encode, keys};
use crate::policy::Action;
use crate::text::{TextId, TextKind, TextVersion, text_of};
use crate::verdict::Verdict;
use crate::verdicts::review::{Decided, Label};

/// The most rows of a text, or of notes, that are looked at together.
const PAGE: usize = 256;
/// How the notes of texts begin: they are named as the partitions of the texts.
const NOTED: &[u8] = b"v";

impl<E: Engine> Verdicts<E> {
    /// Erases the verdicts and decisions on all versions of a text, its entries of the queue and its labels; what comes of
    /// it later is not stored. Repeatable.
    pub async fn erase(&self, text: &TextId) -> Result<()> {
        let mark = self.mark_of(text.partition());
        self.repeat(Batch::new().put(mark, self.clock.now_ms().to_be_bytes().to_vec())).await?;
        loop {
            let rows = self.rows_of(text).await?;
            if rows.is_empty() {
                let listed = catalogue::key(self.keyspace, &text.partition());
                return if self.get(listed.clone()).await?.is_some() { self.settle(listed).await } else { Ok(()) };
            }
            // What lies elsewhere goes first: while a row is left here it is found again. The notes go last: by them it is found
            // by who erases its channel or its author, and was cut off.
            let mut notes = Vec::new();
            for (key, _, beside) in &rows {
                for other in beside {
                    if matches!(other.partition.first(), Some(b'n' | b'u')) {
                        notes.push(other.clone());
                    } else {
                        self.settle(other.clone()).await?;
                    }
                }
                tracing::debug!(key = ?key.sort, "a row of an erased text goes");
            }
            let batch = rows.into_iter().fold(Batch::new(), |batch, (key, ..)| batch.delete(key));
            self.repeat(batch).await?;
            for note in notes {
                self.settle(note).await?;
            }
        }
    }

    /// Notes a text that may stand nowhere under its author and its channel, so that it is found when either is erased; whether it
    /// was: nothing of an erased channel is. Repeatable.
    pub(super) async fn note(&self, version: &TextVersion) -> Result<bool> {
        if let Some(noted) = keys::noted_in(self.keyspace, version) {
            let mark = self.mark_of(noted.partition.to_vec());
            let batch = Batch::new().require(mark, Check::Absent).put(noted, Bytes::new());
            match self.repeat(batch).await {
                Err(error) if error.kind() == ErrorKind::Conflict => return Ok(false),
                noted => noted?,
            }
        }
        self.repeat(Batch::new().put(keys::noted(self.keyspace, version), Bytes::new())).await?;
        Ok(true)
    }

    /// Erases the texts of a channel that may stand nowhere: refused and held ones, and those beside its messages; none is stored
    /// later. Messages are erased one by one, and follow. Repeatable, and goes on where it was cut off.
    pub async fn erase_channel(&self, app: u32, channel: &str) -> Result<()> {
        let partition = keys::channel(app, channel);
        let mark = self.mark_of(partition.clone());
        self.repeat(Batch::new().put(mark, self.clock.now_ms().to_be_bytes().to_vec())).await?;
        let mut scan = Scan::prefix(self.keyspace, partition, NOTED, PAGE);
        loop {
            let page = self.engine.scan(scan.clone()).await?;
            for (key, _) in page.records {
                if let Some(text) = text_of(&key.sort) {
                    self.erase(&text).await?;
                }
                self.settle(key).await?;
            }
            if page.next.is_none() {
                return Ok(());
            }
            scan = scan.after(page.next);
        }
    }

    /// Erases the texts of an author that may stand nowhere, of these kinds: refused and held ones, and those of queues; or leaves
    /// them under another name. What stands somewhere is erased there, and follows. Repeatable.
    pub async fn erase_author(&self, app: u32, author: &str, kinds: &[TextKind], stand_in: Option<&str>) -> Result<()> {
        let mut scan = Scan::partition(self.keyspace, keys::author(app, author), PAGE);
        loop {
            let page = self.engine.scan(scan.clone()).await?;
            for (key, _) in page.records {
                if let Some(text) = text_of(&key.sort) {
                    if !kinds.contains(&text.kind) || self.is_covered(&text).await? {
                        continue;
                    }
                    match stand_in {
                        Some(stand_in) => self.rename_author(&text, author, stand_in).await?,
                        None => self.erase(&text).await?,
                    }
                }
                self.settle(key).await?;
            }
            if page.next.is_none() {
                return Ok(());
            }
            scan = scan.after(page.next);
        }
    }

    /// Whether a text of feeds stands covered until a person decides: it is erased where it stands.
    async fn is_covered(&self, text: &TextId) -> Result<bool> {
        if !matches!(text.kind, TextKind::Activity | TextKind::Reaction) {
            return Ok(false);
        }
        for (key, value, _) in self.rows_of(text).await? {
            let Some(verdict) = verdict_of(&key, &value) else { continue };
            if verdict.action == Action::Hold && self.decision(&verdict.version).await?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A text is said anew under the id of one that was erased: what comes of it is stored again. Repeatable.
    pub(crate) async fn say_again(&self, text: &TextId) -> Result<()> {
        let mark = self.mark_of(text.partition());
        if self.get(mark.clone()).await?.is_some() { self.settle(mark).await } else { Ok(()) }
    }

    /// Who wrote the versions of a text that were judged.
    pub async fn authors_of(&self, text: &TextId) -> Result<BTreeSet<String>> {
        let mut authors = BTreeSet::new();
        for (key, value, _) in self.rows_of(text).await? {
            authors.extend(verdict_of(&key, &value).map(|verdict| verdict.version.author));
        }
        Ok(authors)
    }

    /// Puts `to` in the place of `from`, who was erased, as the author of a text: what it wrote stays under another name. What others
    /// wrote of the text stays theirs. Repeatable.
    pub async fn rename_author(&self, text: &TextId, from: &str, to: &str) -> Result<()> {
        for (key, value, beside) in self.rows_of(text).await? {
            for other in beside {
                self.rename_beside(other, from, to).await?;
            }
            let Some(mut verdict) = verdict_of(&key, &value).filter(|verdict| verdict.version.author == from) else {
                continue;
            };
            to.clone_into(&mut verdict.version.author);
            let same = Check::ValueIs(value);
            let batch = Batch::new().require(key.clone(), same).put(key, encode(&verdict)?);
            match self.engine.write(batch).await {
                // It is gone, or was renamed by another node.
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// Renames the author in an entry of the queue, a text that waits, a label, or a note of who wrote what, where it is `from`.
    async fn rename_beside(&self, key: Key, from: &str, to: &str) -> Result<()> {
        let Some(record) = self.get(key.clone()).await? else { return Ok(()) };
        let named = |author: &mut String| {
            let named = author == from;
            if named {
                to.clone_into(author);
            }
            named
        };
        let value = match key.partition.first() {
            Some(b'q') => {
                let mut verdict: Verdict = decode(&record.value, "an entry of the queue")?;
                named(&mut verdict.version.author).then(|| encode(&verdict)).transpose()?
            }
            Some(b'l') => {
                let mut label: Label = decode(&record.value, "a labelled text")?;
                named(&mut label.verdict.version.author).then(|| encode(&label)).transpose()?
            }
            // Under its channel no author is named.
            Some(b'n') => return Ok(()),
            Some(b'u') => {
                let of_from = |text: &TextId| key.partition == keys::author(text.app, from);
                let Some(text) = text_of(&key.sort).filter(of_from) else { return Ok(()) };
                let noted = self.keyspace.key(keys::author(text.app, to), key.sort.clone());
                self.repeat(Batch::new().put(noted, Bytes::new())).await?;
                return self.settle(key).await;
            }
            _ => {
                let mut version: TextVersion = decode(&record.value, "a text that waits")?;
                named(&mut version.author).then(|| encode(&version)).transpose()?
            }
        };
        let Some(value) = value else { return Ok(()) };
        let same = Check::RevisionIs(record.revision);
        match self.engine.write(Batch::new().require(key.clone(), same).put(key, value)).await {
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            written => written.map(drop),
        }
    }

    /// Some verdicts and decisions of a text, each with its value and the keys of what belongs to it elsewhere.
    async fn rows_of(&self, text: &TextId) -> Result<Vec<(Key, Bytes, Vec<Key>)>> {
        let mut scan = Scan::partition(self.keyspace, text.partition(), PAGE);
        let mut rows = Vec::new();
        loop {
            let page = self.engine.scan(scan.clone()).await?;
            for (key, record) in page.records {
                let Some((is_verdict, hash)) = keys::row_of(&key.sort) else { continue };
                // One of a later version of Keevo, or a damaged one, holds up no other: it goes too, with what is known to be its.
                let beside = self.beside(text, is_verdict, &hash, &record.value).unwrap_or_else(|error| {
                    tracing::error!(%error, "what belongs to a row of verdicts cannot be found");
                    Vec::new()
                });
                rows.push((key, record.value, beside));
            }
            if page.next.is_none() {
                return Ok(rows);
            }
            scan = scan.after(page.next);
        }
    }

    /// What belongs to a row of a text elsewhere.
    fn beside(&self, text: &TextId, is_verdict: bool, hash: &str, value: &[u8]) -> Result<Vec<Key>> {
        if is_verdict {
            let verdict: Verdict = decode(value, "a verdict")?;
            let place = keys::timed(verdict.judged_ms, &verdict.version.digest());
            let queued = self.keyspace.key(keys::queue(text.app), place);
            let waiting = keys::waiting(self.keyspace, &verdict.version);
            let noted = keys::noted(self.keyspace, &verdict.version);
            let in_channel = keys::noted_in(self.keyspace, &verdict.version);
            return Ok([queued, waiting, noted].into_iter().chain(in_channel).collect());
        }
        let decided: Decided = decode(value, "a decision")?;
        let place = keys::timed(decided.decided_ms, &text.digest(hash));
        Ok(vec![self.keyspace.key(keys::labels(text.app), place)])
    }

    /// Where it says that the text, or the channel, of a partition is erased.
    pub(super) fn mark_of(&self, partition: Vec<u8>) -> Key {
        self.keyspace.key(partition, keys::ERASED)
    }

    /// Of each version, in their order, whether its text is erased.
    pub(crate) async fn are_erased(&self, versions: &[TextVersion]) -> Result<Vec<bool>> {
        let reads = versions.iter().map(|version| Box::pin(self.is_erased(version)));
        futures::stream::iter(reads.collect::<Vec<_>>()).buffered(CONCURRENCY).try_collect().await
    }

    /// Whether the text of a version is erased, or its channel.
    pub(crate) async fn is_erased(&self, version: &TextVersion) -> Result<bool> {
        if self.get(self.mark_of(version.partition())).await?.is_some() {
            return Ok(true);
        }
        let Some(noted) = keys::noted_in(self.keyspace, version) else { return Ok(false) };
        Ok(self.get(self.mark_of(noted.partition.to_vec())).await?.is_some())
    }
}

/// The verdict of a row, where it is one that can be read.
fn verdict_of(key: &Key, value: &[u8]) -> Option<Verdict> {
    let (is_verdict, _) = keys::row_of(&key.sort)?;
    if is_verdict { decode(value, "a verdict").ok() } else { None }
}
