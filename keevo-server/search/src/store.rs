//! The index on disk: opened or made anew, changed, committed together with the places that it stands for.
//!
//! Everything here blocks: callers run it aside.
//!
//! Invariant: what is opened has been verified, file by file, against the checksums that were written with it. What does
//! not verify, has another format, or stopped half-way is thrown away and made anew; a derived index is never mended. What
//! cannot be read or written for the time being, as on a full disk, is left as it is.

use std::path::Path;
use std::{fs, io};

use keevo_chat::{AppId, ChannelId, Message};
use keevo_core::{Error, ErrorKind, Result};
use tantivy::directory::error::{LockError, OpenDirectoryError, OpenReadError, OpenWriteError};
use tantivy::index::{IndexSettings, SegmentId};
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy};
use tantivy::query::{BooleanQuery, Query, RangeQuery, TermQuery};
use tantivy::schema::IndexRecordOption;
use tantivy::{Index, IndexReader, IndexWriter, ReloadPolicy, TantivyError, Term};

use crate::saved::Saved;
use crate::schema::{AppTokenizer, Fields, TOKENIZER, Tag, key, schema};

/// The least memory that a writer takes.
pub const HEAP_BYTES_MIN: usize = 16 << 20;
/// The part of a segment's messages that may be replaced or removed before it is written anew.
const DELETED_RATIO_MAX: f32 = 0.3;

/// A change of the index.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// A message is so now.
    Put(AppId, ChannelId, Box<Message>),
    /// A message is gone.
    Remove(AppId, ChannelId, keevo_chat::Place),
    /// What a channel said up to a number is gone, with the threads of it.
    Truncate(AppId, ChannelId, u64),
}

/// The index, open for changes.
pub(crate) struct Store {
    writer: IndexWriter,
    reader: IndexReader,
    index: Index,
    fields: Fields,
}

/// An index that was opened.
pub(crate) struct Opened {
    pub(crate) store: Store,
    /// How far it has come; nothing where it is new.
    pub(crate) saved: Saved,
    /// Why it had to be made anew, if it did.
    pub(crate) anew: Option<String>,
}

/// An index to be asked.
#[derive(Clone)]
pub(crate) struct Readable {
    pub(crate) reader: IndexReader,
    pub(crate) fields: Fields,
}

impl Store {
    /// Opens the index in `folder`, which this process alone uses; makes it anew where it is missing or of no use, or
    /// where `wipe` says so.
    pub(crate) fn open(folder: &Path, heap_bytes: usize, wipe: bool) -> Result<Opened> {
        let found = if wipe { Err(useless("it failed while it was used")) } else { find_whole(folder) };
        let (index, saved, anew) = match found {
            Ok(Some((index, saved))) => (index, saved, None),
            Ok(None) => (create(folder)?, Saved::default(), None),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                (create(folder)?, Saved::default(), Some(error.message().to_owned()))
            }
            Err(error) => return Err(error),
        };
        let (_, fields) = schema();
        index.tokenizers().register(TOKENIZER, AppTokenizer);
        let options = IndexWriterOptions::builder()
            .num_worker_threads(1)
            .num_merge_threads(1)
            .memory_budget_per_thread(heap_bytes.max(HEAP_BYTES_MIN))
            .build();
        let writer: IndexWriter = index.writer_with_options(options).map_err(|error| failed("open", error))?;
        let mut merges = LogMergePolicy::default();
        merges.set_del_docs_ratio_before_merge(DELETED_RATIO_MAX);
        writer.set_merge_policy(Box::new(merges));
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into();
        let reader: IndexReader = reader.map_err(|error| failed("open", error))?;
        Ok(Opened { store: Self { writer, reader, index, fields }, saved, anew })
    }

    /// What searches ask.
    pub(crate) fn readable(&self) -> Readable {
        Readable { reader: self.reader.clone(), fields: self.fields }
    }

    /// Takes changes in; they are found once they are committed. Repeatable.
    pub(crate) fn apply(&self, ops: Vec<Op>) -> Result<()> {
        for op in ops {
            match op {
                Op::Put(app, channel, message) => {
                    self.writer.delete_term(self.fields.key_term(&key(app, &channel, message.place)));
                    let document = self.fields.document(app, &channel, &message);
                    self.writer.add_document(document).map_err(|error| failed("write", error))?;
                }
                Op::Remove(app, channel, place) => {
                    self.writer.delete_term(self.fields.key_term(&key(app, &channel, place)));
                }
                Op::Truncate(app, channel, up_to) => {
                    let of_channel = self.fields.tag_term(app, Tag::Channel(&channel));
                    let up_to = Term::from_field_u64(self.fields.number, up_to);
                    let first = Term::from_field_u64(self.fields.number, 0);
                    let hidden = RangeQuery::new(std::ops::Bound::Included(first), std::ops::Bound::Included(up_to));
                    let both: Vec<Box<dyn Query>> =
                        vec![Box::new(TermQuery::new(of_channel, IndexRecordOption::Basic)), Box::new(hidden)];
                    let query = Box::new(BooleanQuery::intersection(both));
                    self.writer.delete_query(query).map_err(|error| failed("write", error))?;
                }
            }
        }
        Ok(())
    }

    /// Makes what was applied durable and found, together with the places that it stands for.
    pub(crate) fn commit(&mut self, saved: &Saved) -> Result<()> {
        let mut prepared = self.writer.prepare_commit().map_err(|error| failed("commit", error))?;
        prepared.set_payload(&saved.to_payload());
        prepared.commit().map_err(|error| failed("commit", error))?;
        self.reader.reload().map_err(|error| failed("read", error))
    }

    /// Removes everything, durably; `saved` is what stands then.
    pub(crate) fn clear(&mut self, saved: &Saved) -> Result<()> {
        self.writer.delete_all_documents().map_err(|error| failed("write", error))?;
        self.commit(saved)
    }

    /// How many messages are in it.
    pub(crate) fn documents(&self) -> u64 {
        self.reader.searcher().num_docs()
    }

    /// Checks the files of the index against their checksums; `Corrupt` where one differs.
    pub(crate) fn verify(&self) -> Result<()> {
        let damaged = self.index.validate_checksum().map_err(|error| failed("verify its files", error))?;
        match damaged.iter().min() {
            None => Ok(()),
            Some(file) => Err(Error::corrupt(format!("the checksum of {} is wrong", file.display()))),
        }
    }

    /// Whether files still hold messages that were replaced or removed.
    pub(crate) fn holds_removed(&self) -> bool {
        self.reader.searcher().segment_readers().iter().any(tantivy::SegmentReader::has_deletes)
    }

    /// Writes the files anew that hold messages which were replaced or removed, so that nothing of these is kept.
    ///
    /// Answers whether that was done: a file may have to be left for later.
    pub(crate) fn purge(&mut self) -> Result<bool> {
        let segments = self.index.searchable_segment_metas().map_err(|error| failed("read", error))?;
        let stale: Vec<SegmentId> =
            segments.iter().filter(|segment| segment.has_deletes()).map(tantivy::index::SegmentMeta::id).collect();
        for segment in stale {
            // One that is being merged anyway is refused, and gone soon.
            if let Err(error) = self.writer.merge(&[segment]).wait() {
                tracing::warn!(%error, "a file of the search index that holds what was removed is left for later");
            }
        }
        self.writer.garbage_collect_files().wait().map_err(|error| failed("write", error))?;
        self.reader.reload().map_err(|error| failed("read", error))?;
        Ok(!self.holds_removed())
    }
}

/// Why an index is of no use.
fn useless(why: impl Into<String>) -> Error {
    Error::corrupt(why.into())
}

/// An error while an index is looked at: of no use, unless it is the machine that does not let it be looked at now.
fn unread(what: &str, error: &TantivyError) -> Error {
    let kind = if is_of_the_machine(error) { ErrorKind::Io } else { ErrorKind::Corrupt };
    Error::new(kind, format!("{what}: {error}"))
}

/// Opens what is in the folder, if it is whole: `None` where nothing is, `Corrupt` where it is of no use.
fn find_whole(folder: &Path) -> Result<Option<(Index, Saved)>> {
    if !folder.join("meta.json").exists() {
        let empty = fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
        return if empty { Ok(None) } else { Err(useless("it has no meta.json")) };
    }
    let index = Index::open_in_dir(folder).map_err(|error| unread("it cannot be opened", &error))?;
    index.tokenizers().register(TOKENIZER, AppTokenizer);
    if index.schema() != schema().0 {
        return Err(useless("its fields are those of another version"));
    }
    let meta = index.load_metas().map_err(|error| unread("its meta.json cannot be read", &error))?;
    let mut files: Vec<_> = meta.list_segment_files().into_iter().collect();
    files.sort_unstable();
    for file in files {
        // Not every kind of file is there for every segment; one that lacks is met right below.
        if folder.join(&file).exists() {
            let whole = index.directory().validate_checksum(&file);
            let named = |error: OpenReadError| {
                unread(&format!("{} cannot be read", file.display()), &TantivyError::from(error))
            };
            if !whole.map_err(named)? {
                return Err(useless(format!("the checksum of {} is wrong", file.display())));
            }
        }
    }
    let reader: tantivy::Result<IndexReader> = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into();
    reader.map_err(|error| unread("it cannot be read", &error))?;
    let saved = match meta.payload {
        Some(payload) => Saved::from_payload(&payload).map_err(useless)?,
        None if meta.segments.is_empty() => Saved::default(),
        None => return Err(useless("it does not say how far it has come")),
    };
    if saved.partial {
        return Err(useless("it was not complete yet when the node stopped"));
    }
    Ok(Some((index, saved)))
}

/// Makes an empty index in the folder, in place of whatever is there.
fn create(folder: &Path) -> Result<Index> {
    let io = |error| Error::new(ErrorKind::Io, format!("{} cannot be prepared", folder.display())).with_source(error);
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(io)?;
    }
    fs::create_dir_all(folder).map_err(io)?;
    let settings = IndexSettings { docstore_compress_dedicated_thread: false, ..IndexSettings::default() };
    let made = Index::builder().schema(schema().0).settings(settings).create_in_dir(folder);
    made.map_err(|error| failed("make", error))
}

/// Whether an error came from the system, and not of what was read; a file that lacks is damage.
fn is_of_the_system(error: &io::Error) -> bool {
    error.raw_os_error().is_some() && error.kind() != io::ErrorKind::NotFound
}

/// Whether the machine failed, rather than what the files say: the system did not read or write, or could not for now.
fn is_of_the_machine(error: &TantivyError) -> bool {
    match error {
        TantivyError::IoError(error)
        | TantivyError::OpenWriteError(OpenWriteError::IoError { io_error: error, .. })
        | TantivyError::OpenReadError(OpenReadError::IoError { io_error: error, .. })
        | TantivyError::OpenDirectoryError(
            OpenDirectoryError::IoError { io_error: error, .. } | OpenDirectoryError::FailedToCreateTempDir(error),
        )
        | TantivyError::LockFailure(LockError::IoError(error), _) => is_of_the_system(error),
        // A thread that wrote has ended, most often since it could not write; what it committed before is as it was.
        TantivyError::ErrorInThread(_)
        | TantivyError::Poisoned
        | TantivyError::SystemError(_)
        | TantivyError::LockFailure(LockError::LockBusy, _) => true,
        _ => false,
    }
}

/// An error of the index.
pub(crate) fn failed(what: &str, error: TantivyError) -> Error {
    let kind = match &error {
        TantivyError::LockFailure(..) => ErrorKind::Unavailable,
        TantivyError::IoError(_) | TantivyError::OpenWriteError(_) => ErrorKind::Io,
        other if is_of_the_machine(other) => ErrorKind::Io,
        _ => ErrorKind::Corrupt,
    };
    Error::new(kind, format!("the search index cannot {what}")).with_source(error)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;
    use std::sync::Arc;

    use keevo_chat::{Audience, Mentions, Place};
    use keevo_core::{ClusterId, Cursor, Revision, ShardId};
    use tempfile::TempDir;

    use super::*;

    /// A message of ada's at a place of a channel.
    pub(crate) fn message(number: u64, text: &str) -> Box<Message> {
        Box::new(Message {
            id: number.to_string(),
            place: Place::Channel(number),
            user_id: "ada".to_owned(),
            text: text.to_owned(),
            parent_id: None,
            custom: None,
            attachments: Vec::new(),
            mentions: Mentions::default(),
            quoted_id: None,
            shows: None,
            pinned: None,
            system: false,
            silent: false,
            created_at_ms: number,
            updated_at_ms: None,
            deleted_at_ms: None,
            erased: false,
            audience: Audience::Everybody,
            version: 1,
            stats: None,
        })
    }

    fn channel() -> ChannelId {
        "team:a".parse().expect("a name")
    }

    fn saved(revision: u64) -> Saved {
        let cursor = Cursor { cluster: ClusterId(1), shard: ShardId(2), revision: Revision(revision), offset: 0 };
        Saved { places: BTreeMap::from([(2, cursor)]), partial: false }
    }

    fn put(number: u64, text: &str) -> Op {
        Op::Put(AppId(1), channel(), message(number, text))
    }

    /// An index of a hundred messages, closed.
    fn filled() -> TempDir {
        let folder = TempDir::new().expect("a folder");
        let mut opened = Store::open(folder.path(), HEAP_BYTES_MIN, false).expect("opened");
        assert_eq!((opened.anew.as_deref(), opened.saved.places.len()), (None, 0));
        let ops = (1..=100).map(|number| put(number, "some words of a message")).collect();
        opened.store.apply(ops).expect("applied");
        opened.store.commit(&saved(7)).expect("committed");
        folder
    }

    fn reopened(folder: &TempDir) -> (u64, Saved, Option<String>) {
        let opened = Store::open(folder.path(), HEAP_BYTES_MIN, false).expect("opened");
        (opened.store.documents(), opened.saved, opened.anew)
    }

    /// The largest file of the index whose name ends so.
    fn file(folder: &TempDir, ending: &str) -> PathBuf {
        let files = fs::read_dir(folder.path()).expect("read").map(|entry| entry.expect("an entry").path());
        let ours = files.filter(|path| path.to_string_lossy().ends_with(ending));
        ours.max_by_key(|path| fs::metadata(path).map_or(0, |meta| meta.len())).expect("a file")
    }

    #[test]
    fn what_was_committed_is_there_again() {
        let folder = filled();
        assert_eq!(reopened(&folder), (100, saved(7), None));
        let mut opened = Store::open(folder.path(), HEAP_BYTES_MIN, false).expect("opened");
        let again = vec![put(1, "another text"), Op::Remove(AppId(1), channel(), Place::Channel(2))];
        opened.store.apply(again).expect("applied");
        opened.store.apply(vec![Op::Truncate(AppId(1), channel(), 50)]).expect("applied");
        opened.store.apply(vec![Op::Truncate(AppId(2), channel(), 100)]).expect("another app's");
        opened.store.apply(vec![put(200, "uncommitted")]).expect("applied");
        opened.store.commit(&saved(8)).expect("committed");
        assert_eq!(opened.store.documents(), 51);
        opened.store.apply(vec![put(201, "never committed")]).expect("applied");
        assert!(opened.store.holds_removed());
        assert!(opened.store.purge().expect("purged"));
        assert!(!opened.store.holds_removed());
        drop(opened);
        assert_eq!(reopened(&folder), (51, saved(8), None));
    }

    #[test]
    fn a_flipped_byte_in_any_file_leads_to_a_new_index() {
        for ending in [".idx", ".pos", ".term", ".store", ".fast", ".fieldnorm", "meta.json", ".managed.json"] {
            let folder = filled();
            let path = file(&folder, ending);
            let mut bytes = fs::read(&path).expect("read");
            // In JSON a digit of a place, which parses all the same.
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let at = text.find("revision").map_or(bytes.len() / 8, |at| at + "revision\\\":".len());
            bytes[at] ^= 1;
            fs::write(&path, bytes).expect("written");
            let (documents, saved, anew) = reopened(&folder);
            if ending == ".managed.json" && anew.is_none() {
                assert_eq!(documents, 100, "the name of a file that is of no use");
                continue;
            }
            assert_eq!((documents, saved), (0, Saved::default()), "{ending}");
            assert!(anew.is_some(), "{ending}");
        }
    }

    /// A full disk once looked like damage, and the index that was whole was thrown away.
    #[test]
    fn what_the_machine_does_not_let_be_read_or_written_is_kept() {
        let full = || Arc::new(io::Error::from_raw_os_error(28));
        let of_disk = [
            TantivyError::IoError(full()),
            TantivyError::OpenReadError(OpenReadError::IoError { io_error: full(), filepath: "a".into() }),
            TantivyError::ErrorInThread("an index writer was killed".to_owned()),
            TantivyError::Poisoned,
        ];
        for error in of_disk {
            assert_eq!(unread("it cannot be read", &error).kind(), ErrorKind::Io, "{error}");
            assert_eq!(failed("write", error).kind(), ErrorKind::Io);
        }
        let cut = Arc::new(io::Error::new(io::ErrorKind::UnexpectedEof, "cut off"));
        let cut = TantivyError::OpenReadError(OpenReadError::IoError { io_error: cut, filepath: "a".into() });
        assert_eq!(unread("it cannot be read", &cut).kind(), ErrorKind::Corrupt);
        let folder = filled();
        let path = file(&folder, ".term");
        let (whole, aside) = (fs::read(&path).expect("read"), path.with_extension("aside"));
        fs::rename(&path, &aside).expect("renamed");
        // A link to itself cannot be opened, whoever asks: to the system that is no lack of the file.
        std::os::unix::fs::symlink(&path, &path).expect("linked");
        let error = Store::open(folder.path(), HEAP_BYTES_MIN, false).err().expect("refused");
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        fs::remove_file(&path).expect("removed");
        fs::rename(&aside, &path).expect("renamed");
        assert_eq!(fs::read(&path).expect("read"), whole);
        assert_eq!(reopened(&folder), (100, saved(7), None));
    }

    #[test]
    fn what_is_cut_off_missing_or_half_done_leads_to_a_new_index() {
        let folder = filled();
        let path = file(&folder, ".idx");
        fs::write(&path, fs::read(&path).expect("read").split_last_chunk::<9>().expect("longer").0).expect("written");
        assert_eq!(reopened(&folder).0, 0);
        let folder = filled();
        fs::remove_file(file(&folder, ".term")).expect("removed");
        assert_eq!(reopened(&folder).0, 0);
        let folder = filled();
        fs::remove_file(file(&folder, "meta.json")).expect("removed");
        assert_eq!(reopened(&folder).2.as_deref(), Some("it has no meta.json"));
        let folder = filled();
        fs::remove_dir_all(folder.path()).expect("removed");
        assert_eq!(reopened(&folder), (0, Saved::default(), None));
        let folder = filled();
        let mut opened = Store::open(folder.path(), HEAP_BYTES_MIN, false).expect("opened");
        opened.store.commit(&Saved { partial: true, ..saved(9) }).expect("committed");
        drop(opened);
        assert!(reopened(&folder).2.is_some_and(|why| why.contains("not complete")));
    }
}
