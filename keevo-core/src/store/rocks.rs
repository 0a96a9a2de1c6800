//! The store on disk: one RocksDB.
//!
//! With the write-ahead log (`wal: true`) a synced write survives a power cut by itself. Without it the
//! caller has a log of its own and writes [`Durability::Unlogged`]; then a flush is the only thing that makes
//! writes durable, and it flushes all column families at one point in the order of writes.
//!
//! Invariants: every flush goes through [`Store::flush`], since flushing one column family alone would break
//! that order. After a failed write, flush or background job nothing more is written until the folder is
//! opened anew: what the disk holds is not known any more, and a later success would hide the gap.
//!
//! The exception is a full disk without the write-ahead log: what memory holds is whole, the caller's log holds it
//! too, and the flush that succeeds once there is space writes all of it. Until then the store says that it fails.

mod errors;
mod expiry;
mod levels;
mod options;
mod reseal;
mod scrub;
mod seals;
mod snapshot;
mod stats;
mod view;
mod wal;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{BottommostLevelCompaction, ColumnFamily, CompactOptions, DB, FlushOptions, ReadOptions, ReadTier};
use rocksdb::{WriteBatch, WriteOptions};

pub use self::levels::RocksLevel;
pub use self::options::RocksOptions;
pub use self::scrub::{Damage, Scrub, Scrubbed};
pub use self::stats::RocksStats;
pub use self::wal::check_wals;

use self::errors::translate;
use self::options::Built;
use self::seals::{Seals, Writing};
use super::{
    Column, Durability, ExpiryClock, Export, SnapshotFile, Store, StoreBatch, StoreLoad, StoreOp, StoreView, Visit,
};
use crate::columns::{self, FAMILIES, Use};
use crate::error::{Error, ErrorKind, Result};
use crate::scan::Direction;
use crate::seal::KeyUse;

/// From how many operations on it pays to keep the places where a batch was inserted, beside other batches.
const HINTED_OPS_MIN: usize = 16;

/// A store in a folder. Cheap to clone; clones share everything, and the last one closes the database.
#[derive(Clone)]
pub struct RocksStore {
    shared: Arc<Shared>,
}

struct Shared {
    db: DB,
    built: Built,
    /// What seals its values; `None` = they are stored as they are.
    seals: Option<Seals>,
    settings: RocksOptions,
    path: PathBuf,
    stopped: OnceLock<Error>,
    /// How points are read: made once, since each costs an allocation.
    reads: ReadOptions,
    /// A write or a flush has failed for want of space, and no flush has succeeded since.
    out_of_space: AtomicBool,
    /// Failures of background work that a later flush has made good. Without the write-ahead log only.
    made_good: AtomicU64,
}

impl fmt::Debug for RocksStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksStore").field("path", &self.shared.path).finish_non_exhaustive()
    }
}

impl RocksStore {
    /// Opens the store in `path`, which is created if it is new.
    ///
    /// Errors: `Unavailable` when it is open already, here or in another process; `NewerFormat` when it has
    /// column families that this version does not know; `Config`, also when a key is missing that its values are sealed with;
    /// `Corrupt`; `ResourceExhausted`; `Io`.
    pub fn open(path: impl AsRef<Path>, settings: RocksOptions) -> Result<Self> {
        let path = path.as_ref().to_owned();
        settings.validate()?;
        let built = Built::new(&settings)?;
        seals::check_keys(built.sealer.as_deref(), &path)?;
        check_wals(&path)?;
        let existing = existing_families(&built, &path)?;
        let opening = |source| translate(&format!("open the store in {}", path.display()), source);
        let descriptors = built.descriptors(&settings, &existing)?;
        let mut db = DB::open_cf_descriptors(&built.db, &path, descriptors).map_err(opening)?;
        for family in FAMILIES.iter().filter(|family| family.role == Use::Dropped) {
            if existing.iter().any(|name| name == family.name) {
                db.drop_cf(family.name).map_err(opening)?;
            }
        }
        let sealer = built.sealer.as_ref().map(Arc::clone);
        let seals = sealer.map(|sealer| Seals::open(sealer, &path, existing.is_empty())).transpose()?;
        let shared = Shared {
            db,
            built,
            seals,
            settings,
            path,
            stopped: OnceLock::new(),
            out_of_space: AtomicBool::new(false),
            made_good: AtomicU64::new(0),
            reads: ReadOptions::default(),
        };
        let store = Self { shared: Arc::new(shared) };
        for column in Column::ALL {
            store.family(column)?;
        }
        Ok(store)
    }

    /// The folder of the store.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Counters and sizes.
    pub fn stats(&self) -> Result<RocksStats> {
        stats::collect(&self.shared.db, &self.shared.built.db, self.shared.settings.statistics)
    }

    /// Rewrites all table files, so that overwritten, removed and trimmed data leaves the disk.
    pub fn compact(&self) -> Result<()> {
        self.compact_part(0, 1)
    }

    /// Rewrites the table files of part `part`, from 0, of `parts` equal parts of the hashed key space; the first
    /// and the last part also take what lies before and after it. Lets a long compaction tell its progress. All parts, one
    /// after the other, seal all values with the newest key.
    pub fn compact_part(&self, part: u8, parts: u8) -> Result<()> {
        self.check_writable()?;
        let cut = |part: u8| {
            let hash = u32::from(part) * 65_536 / u32::from(parts.max(1));
            let [_, _, high, low] = hash.to_be_bytes();
            [crate::key::CLASS_HASHED, high, low]
        };
        let start = (part > 0).then(|| cut(part));
        let end = (part + 1 < parts).then(|| cut(part + 1));
        let bound = |cut: Option<&[u8; 3]>| cut.map(|cut| cut.to_vec()).unwrap_or_default();
        self.begin_resealing(part)?;
        self.compact_rows(Column::Data, &bound(start.as_ref()), &bound(end.as_ref()))?;
        if end.is_none() {
            self.compact_rows(Column::Changes, &[], &[])?;
        }
        if self.seals().is_some() {
            // What was sealed anew has to be on the disk before the keys of its older form are struck out.
            self.flush()?;
        }
        self.end_resealing(part, parts)?;
        self.check_writable()
    }

    /// Rewrites the table files of a column that hold keys from `start` up to `end`, which is left out; empty = no bound. Seals
    /// the values there with the newest key.
    pub fn compact_rows(&self, column: Column, start: &[u8], end: &[u8]) -> Result<()> {
        self.check_writable()?;
        self.reseal(column, start, end)?;
        let bound = |key: &[u8]| Some(key.to_vec()).filter(|key| !key.is_empty());
        let mut how = CompactOptions::default();
        how.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        self.shared.db.compact_range_cf_opt(self.family(column)?, bound(start), bound(end), &how);
        self.check_writable()
    }

    /// The levels that hold table files, by column family and level.
    pub fn levels(&self) -> Result<Vec<RocksLevel>> {
        levels::collect(&self.shared.db)
    }

    /// Writes a copy of the whole store, as of now, into the new folder `dir`. Files are hard-linked where
    /// the file system allows it.
    pub fn checkpoint(&self, dir: &Path) -> Result<()> {
        self.check_writable()?;
        let named = self.seals().map(Seals::named);
        let made = Checkpoint::new(&self.shared.db).and_then(|checkpoint| checkpoint.create_checkpoint(dir));
        made.map_err(|source| translate(&format!("make a checkpoint in {}", dir.display()), source))?;
        self.seals().zip(named).map_or(Ok(()), |(seals, named)| seals.copy_to(dir, named))
    }

    fn seals(&self) -> Option<&Seals> {
        self.shared.seals.as_ref()
    }

    /// Refuses once a write or a flush has failed for good, and with the write-ahead log once a background job has.
    pub fn check_writable(&self) -> Result<()> {
        if let Some(error) = self.shared.stopped.get() {
            return Err(Error::new(
                ErrorKind::Io,
                format!("the store stopped taking writes after an error: {}", error.message()),
            ));
        }
        // Without the write-ahead log RocksDB decides: it refuses the write if the failure is one that stays.
        if !self.shared.settings.wal {
            return Ok(());
        }
        let failures = stats::background_errors(&self.shared.db)?;
        if failures == 0 {
            return Ok(());
        }
        let what = format!("{failures} flushes or compactions failed in {}", self.shared.path.display());
        Err(self.stop(Error::new(ErrorKind::Io, what)))
    }

    /// What a failed write or flush means: the end, or, on a full disk without the write-ahead log, a pause.
    fn failed(&self, error: Error) -> Error {
        if self.shared.settings.wal || error.kind() != ErrorKind::ResourceExhausted {
            return self.stop(error);
        }
        if !self.shared.out_of_space.swap(true, Ordering::SeqCst) {
            tracing::error!(path = %self.shared.path.display(), %error, "the store waits for space on its disk");
        }
        error
    }

    /// Whether a failure was met, after which nothing is written until the store is opened anew.
    pub fn has_stopped(&self) -> bool {
        self.shared.stopped.get().is_some()
    }

    /// Ends compactions without flushing and keeps all files, so that a test can copy them as a crash leaves them.
    #[cfg(test)]
    pub(crate) fn hold_still(&self) {
        for column in Column::ALL {
            let family = self.family(column).expect("opened with all columns");
            self.shared.db.set_options_cf(family, &[("disable_auto_compactions", "true")]).expect("an option is set");
        }
        self.shared.db.wait_for_compact(&rocksdb::WaitForCompactOptions::default()).expect("compactions end");
        self.shared.db.disable_file_deletions().expect("files are kept");
    }

    /// Remembers the first failure, after which nothing is written.
    fn stop(&self, error: Error) -> Error {
        if self.shared.stopped.set(error.clone()).is_ok() {
            tracing::error!(path = %self.shared.path.display(), %error, "the store takes no more writes");
        }
        error
    }

    fn family(&self, column: Column) -> Result<&ColumnFamily> {
        let name = columns::name_of(column);
        let missing = || Error::corrupt(format!("{} has no column family {name}", self.shared.path.display()));
        self.shared.db.cf_handle(name).ok_or_else(missing)
    }

    fn encode(&self, batch: &StoreBatch, writing: Option<&Writing<'_>>) -> Result<WriteBatch> {
        let (data, changes) = (self.family(Column::Data)?, self.family(Column::Changes)?);
        let family = |column: &Column| match column {
            Column::Data => data,
            Column::Changes => changes,
        };
        let mut encoded = WriteBatch::default();
        for op in &batch.ops {
            match op {
                StoreOp::Put(column, key, value) => match writing {
                    Some(writing) => encoded.put_cf(family(column), key, writing.seal(*column, key, value)?),
                    None => encoded.put_cf(family(column), key, value),
                },
                StoreOp::Delete(column, key) => encoded.delete_cf(family(column), key),
                StoreOp::DeleteRange(column, lower, upper) if lower < upper => {
                    encoded.delete_range_cf(family(column), lower, upper);
                }
                StoreOp::DeleteRange(..) => {}
            }
        }
        Ok(encoded)
    }

    /// Writes a batch of `ops` operations; without the write-ahead log into memory alone.
    fn commit(&self, encoded: WriteBatch, ops: usize, durability: Durability) -> Result<()> {
        let mut how = WriteOptions::default();
        if self.shared.settings.wal {
            how.set_sync(durability == Durability::Sync);
        } else {
            how.disable_wal(true);
            how.set_memtable_insert_hint_per_batch(ops >= HINTED_OPS_MIN);
        }
        let written = self.shared.db.write_opt(encoded, &how);
        written.map_err(|source| self.failed(translate("write a batch", source)))
    }
}

/// The column families in the folder; refuses one that was written by a newer version.
fn existing_families(built: &Built, path: &Path) -> Result<Vec<String>> {
    if !path.join("CURRENT").exists() {
        return Ok(Vec::new());
    }
    let listed = DB::list_cf(&built.db, path);
    let names = listed.map_err(|source| translate(&format!("read the store in {}", path.display()), source))?;
    match names.iter().find(|name| !FAMILIES.iter().any(|family| family.name == name.as_str())) {
        Some(unknown) => Err(Error::new(
            ErrorKind::NewerFormat,
            format!("{} has a column family {unknown}, which this version does not know", path.display()),
        )),
        None => Ok(names),
    }
}

impl Store for RocksStore {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>> {
        let found = self.shared.db.get_pinned_cf_opt(self.family(column)?, key, &self.shared.reads);
        let found = found.map_err(|source| translate("read a key", source))?;
        found.map(|value| seals::opened(self.seals(), column, key, &value)).transpose()
    }

    fn multi_get(&self, column: Column, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        // RocksDB's way for several keys costs more than a plain look-up where there is one.
        if let [key] = keys {
            return Ok(vec![self.get(column, key)?]);
        }
        let found = self.shared.db.batched_multi_get_cf(self.family(column)?, keys, false);
        let value = |(key, found): (&Bytes, Result<Option<rocksdb::DBPinnableSlice<'_>>, rocksdb::Error>)| {
            let found = found.map_err(|source| translate("read several keys", source))?;
            found.map(|value| seals::opened(self.seals(), column, key, &value)).transpose()
        };
        keys.iter().zip(found).map(value).collect()
    }

    fn scan(&self, column: Column, lower: &[u8], upper: &[u8], direction: Direction, visit: Visit<'_>) -> Result<()> {
        let Some(how) = view::bounded(lower, upper) else { return Ok(()) };
        let rows = self.shared.db.raw_iterator_cf_opt(self.family(column)?, how);
        seals::visiting(self.seals(), column, visit, |visit| view::walk(rows, direction, visit))
    }

    fn view(&self) -> Result<Arc<dyn StoreView>> {
        Ok(Arc::new(view::RocksView::new(self)))
    }

    /// With the write-ahead log, `Unlogged` is written as `Buffered`; without it, `Buffered` and `Sync` flush.
    fn write(&self, batch: StoreBatch, durability: Durability) -> Result<()> {
        self.check_writable()?;
        let writing = self.seals().map(Seals::writing).transpose()?;
        let encoded = self.encode(&batch, writing.as_ref())?;
        self.commit(encoded, batch.ops.len(), durability)?;
        drop(writing);
        if !self.shared.settings.wal && durability != Durability::Unlogged {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        self.check_writable()?;
        let failed = |source| self.failed(translate("flush", source));
        let failures = stats::background_errors(&self.shared.db)?;
        let mut families = Vec::with_capacity(Column::ALL.len());
        for column in Column::ALL {
            families.push(self.family(column)?);
        }
        let mut how = FlushOptions::default();
        how.set_wait(true);
        if self.shared.settings.wal {
            self.shared.db.flush_wal(true).map_err(failed)?;
        }
        self.shared.db.flush_cfs_opt(&families, &how).map_err(failed)?;
        // All that was written before is on the disk now, so what failed before is made good.
        self.shared.made_good.fetch_max(failures, Ordering::SeqCst);
        if self.shared.out_of_space.swap(false, Ordering::SeqCst) {
            tracing::info!(path = %self.shared.path.display(), "the store has space on its disk again");
        }
        self.check_writable()
    }

    /// With the write-ahead log, what was written counts as flushed.
    fn get_flushed(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let mut how = ReadOptions::default();
        how.set_read_tier(ReadTier::Persisted);
        let found = self.shared.db.get_pinned_cf_opt(self.family(Column::Data)?, key, &how);
        let found = found.map_err(|source| translate("read a flushed key", source))?;
        found.map(|value| seals::opened(self.seals(), Column::Data, key, &value)).transpose()
    }

    fn export(&self, tiles: &[(Bytes, Bytes)], rows: &[Bytes], dir: &Path) -> Result<Export> {
        snapshot::export(&self.shared, self.family(Column::Data)?, tiles, rows, dir)
    }

    fn install(&self, files: &[SnapshotFile]) -> Result<()> {
        self.check_writable()?;
        // No row may be sealed anew over what comes.
        let writing = self.seals().map(Seals::writing).transpose()?;
        snapshot::install(self, files)?;
        drop(writing);
        self.flush()
    }

    fn admit_keys(&self, keys: &[KeyUse]) -> Result<()> {
        match self.seals() {
            Some(seals) => seals.admit(keys),
            None => seals::refuse_sealed(keys, &self.shared.path),
        }
    }

    fn load(&self) -> Result<StoreLoad> {
        let made_good = self.shared.made_good.load(Ordering::SeqCst);
        stats::load(&self.shared.db, self.is_out_of_space(), made_good)
    }

    fn set_expiry(&self, clocks: Vec<ExpiryClock>) {
        self.shared.built.expiry.set(clocks);
    }

    fn is_out_of_space(&self) -> bool {
        self.shared.out_of_space.load(Ordering::SeqCst)
    }

    fn spare_disk(&self, spare: bool) -> Result<()> {
        let option = [("disable_auto_compactions", if spare { "true" } else { "false" })];
        for column in Column::ALL {
            let set = self.shared.db.set_options_cf(self.family(column)?, &option);
            set.map_err(|source| translate("hold or resume compactions", source))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
