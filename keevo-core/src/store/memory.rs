//! The store of the simulator: ordered maps in memory that behave like a disk with the log off.
//!
//! ```text
//! live  = what readers see
//! undo  = for every key written since the last flush: what the flushed image holds under it
//! flushed image = live with undo applied; `crash` makes it live again
//! ```
//!
//! Invariant: `undo` has a key exactly when the key was written since the last flush, so flushing is
//! forgetting it, and a crash loses the newest writes of all columns back to one point in their order.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::files::{self, EXPORT_FILE_BYTES, io_error, rows};
use super::{Column, Durability, Export, SnapshotFile, Store, StoreBatch, StoreOp, StoreView, Visit};
use crate::error::{Error, Result};
use crate::mutants::{self, Mutant};
use crate::scan::Direction;

type Map = BTreeMap<Bytes, Bytes>;

/// A store in memory. Cheap to clone; clones share everything.
///
/// Writes survive [`MemoryStore::crash`] once they were flushed; [`Durability::Sync`] flushes.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
    export_file_bytes: u64,
}

#[derive(Debug, Default)]
struct State {
    // Shared with running scans, which thereby keep seeing one state; a write copies a map only then.
    data: Arc<Map>,
    changes: Arc<Map>,
    undo: BTreeMap<(Column, Bytes), Option<Bytes>>,
    /// What every write is refused with.
    fault: Option<Error>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self { state: Arc::default(), export_file_bytes: EXPORT_FILE_BYTES }
    }

    /// The same store, whose exported files are ended once they hold `bytes` bytes.
    #[must_use]
    pub fn with_export_file_bytes(mut self, bytes: u64) -> Self {
        self.export_file_bytes = bytes.max(1);
        self
    }

    /// Cuts the power: every write since the last flush is gone, in all columns and all clones.
    pub fn crash(&self) {
        let mut state = self.lock();
        for ((column, key), flushed) in std::mem::take(&mut state.undo) {
            let map = state.map_mut(column);
            match flushed {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
    }

    /// From now on writes, flushes and installs are refused with `fault`, as by a full or failing disk, until this is
    /// called with `None`. What is refused changes nothing.
    pub fn set_fault(&self, fault: Option<Error>) {
        self.lock().fault = fault;
    }

    /// A store of its own with what a power cut at this moment would leave.
    #[must_use]
    pub fn flushed_copy(&self) -> Self {
        let state = self.lock();
        let copy = State {
            data: Arc::clone(&state.data),
            changes: Arc::clone(&state.changes),
            undo: state.undo.clone(),
            fault: None,
        };
        drop(state);
        let copy = Self { state: Arc::new(Mutex::new(copy)), export_file_bytes: self.export_file_bytes };
        copy.crash();
        copy
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No caller's code runs under the lock, so a poisoned one guards a whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state for a change, unless changes are refused.
    fn writable(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.lock();
        state.fault.clone().map_or(Ok(state), Err)
    }

    fn map(&self, column: Column) -> Arc<Map> {
        let state = self.lock();
        Arc::clone(match column {
            Column::Data => &state.data,
            Column::Changes => &state.changes,
        })
    }
}

impl State {
    fn map_mut(&mut self, column: Column) -> &mut Map {
        Arc::make_mut(match column {
            Column::Data => &mut self.data,
            Column::Changes => &mut self.changes,
        })
    }

    fn set(&mut self, column: Column, key: Bytes, value: Option<Bytes>) {
        let map = self.map_mut(column);
        let before = match value {
            Some(value) => map.insert(key.clone(), value),
            None => map.remove(&key),
        };
        if let Entry::Vacant(slot) = self.undo.entry((column, key)) {
            slot.insert(before);
        }
    }

    fn remove_range(&mut self, column: Column, lower: &[u8], upper: &[u8]) {
        let doomed: Vec<Bytes> = range(self.map_mut(column), lower, upper).map(|(key, _)| key.clone()).collect();
        for key in doomed {
            self.set(column, key, None);
        }
    }

    fn apply(&mut self, op: StoreOp) {
        match op {
            StoreOp::Put(column, key, value) => self.set(column, key, Some(value)),
            StoreOp::Delete(column, key) => self.set(column, key, None),
            StoreOp::DeleteRange(column, lower, upper) if lower < upper => self.remove_range(column, &lower, &upper),
            StoreOp::DeleteRange(..) => {}
        }
    }
}

/// `[lower, upper)` of a map; an empty `upper` means no end, and bounds that cross mean nothing.
fn range<'a>(map: &'a Map, lower: &[u8], upper: &[u8]) -> impl DoubleEndedIterator<Item = (&'a Bytes, &'a Bytes)> {
    let end = match upper {
        [] => Bound::Unbounded,
        _ => Bound::Excluded(upper.max(lower)),
    };
    map.range::<[u8], _>((Bound::Included(lower), end))
}

fn walk(map: &Map, lower: &[u8], upper: &[u8], direction: Direction, visit: Visit<'_>) -> Result<()> {
    let entries = range(map, lower, upper);
    let entries: Box<dyn Iterator<Item = (&Bytes, &Bytes)>> = match direction {
        Direction::Forward => Box::new(entries),
        Direction::Backward => Box::new(entries.rev()),
    };
    for (key, value) in entries {
        if visit(key, value)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// The map as it was; a write copies it if this is still held.
#[derive(Debug)]
struct MemoryView(Arc<Map>);

impl StoreView for MemoryView {
    fn scan(&self, lower: &[u8], upper: &[u8], direction: Direction, visit: Visit<'_>) -> Result<()> {
        walk(&self.0, lower, upper, direction, visit)
    }
}

impl Store for MemoryStore {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.map(column).get(key).cloned())
    }

    fn multi_get(&self, column: Column, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>> {
        let map = self.map(column);
        Ok(keys.iter().map(|key| map.get(key).cloned()).collect())
    }

    fn scan(&self, column: Column, lower: &[u8], upper: &[u8], direction: Direction, visit: Visit<'_>) -> Result<()> {
        walk(&self.map(column), lower, upper, direction, visit)
    }

    fn view(&self) -> Result<Arc<dyn StoreView>> {
        Ok(Arc::new(MemoryView(self.map(Column::Data))))
    }

    fn write(&self, batch: StoreBatch, durability: Durability) -> Result<()> {
        let mut state = self.writable()?;
        for op in batch.ops {
            state.apply(op);
        }
        if durability == Durability::Sync {
            state.undo.clear();
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        self.writable()?.undo.clear();
        Ok(())
    }

    fn get_flushed(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let state = self.lock();
        Ok(match state.undo.get(&(Column::Data, Bytes::copy_from_slice(key))) {
            Some(flushed) => flushed.clone(),
            None => state.data.get(key).cloned(),
        })
    }

    fn export(&self, tiles: &[(Bytes, Bytes)], rows: &[Bytes], dir: &Path) -> Result<Export> {
        files::check_tiles(tiles.iter().map(|(lower, upper)| (lower, upper)))?;
        let view = self.map(Column::Data);
        let mut exported = Vec::new();
        for (lower, upper) in tiles {
            let mut lower = lower.clone();
            loop {
                let path = dir.join(format!("{:06}.rows", exported.len()));
                let end = write_file(&path, &view, &lower, upper, self.export_file_bytes)?;
                let (bytes, crc32) = files::measure(&path)?;
                exported.push(SnapshotFile { path, lower, upper: end.clone(), bytes, crc32 });
                if end == *upper {
                    break;
                }
                lower = end;
            }
        }
        let rows = rows.iter().map(|row| view.get(row).cloned()).collect();
        Ok(Export { files: exported, rows, keys: Vec::new() })
    }

    fn install(&self, files: &[SnapshotFile]) -> Result<()> {
        let files = files::verify(files)?;
        let mut loaded = Vec::with_capacity(files.len());
        for file in &files {
            loaded.push(read_file(file)?);
        }
        let mut state = self.writable()?;
        for (file, rows) in files.iter().zip(loaded) {
            if !mutants::is_on(Mutant::InstallKeepsOld) {
                state.remove_range(Column::Data, &file.lower, &file.upper);
            }
            state.map_mut(Column::Data).extend(rows);
        }
        state.undo.clear();
        drop(state);
        for file in &files {
            std::fs::remove_file(&file.path)
                .map_err(|source| io_error("remove the installed file", &file.path, source))?;
        }
        Ok(())
    }
}

/// Writes rows from `lower` on until the file is full or `upper` is reached; returns where it ended.
fn write_file(path: &Path, view: &Map, lower: &Bytes, upper: &Bytes, bytes_max: u64) -> Result<Bytes> {
    let failed = |source| io_error("write the snapshot file", path, source);
    let mut out = BufWriter::new(File::create(path).map_err(failed)?);
    out.write_all(rows::MAGIC).map_err(failed)?;
    let mut bytes = 0_u64;
    let mut end = upper.clone();
    for (key, value) in range(view, lower, upper) {
        if bytes >= bytes_max {
            end = key.clone();
            break;
        }
        let frame = rows::frame(key, value)?;
        out.write_all(&frame).map_err(failed)?;
        bytes += u64::try_from(frame.len()).unwrap_or(u64::MAX);
    }
    out.flush().map_err(failed)?;
    out.get_ref().sync_all().map_err(failed)?;
    Ok(end)
}

fn read_file(file: &SnapshotFile) -> Result<Map> {
    let input = File::open(&file.path).map_err(|source| io_error("read the snapshot file", &file.path, source))?;
    let read = rows::read(BufReader::new(input), file.bytes, &(file.lower.clone(), file.upper.clone()));
    read.map_err(|error| {
        Error::corrupt(format!("the snapshot file {}: {}", file.path.display(), error.message())).with_source(error)
    })
}
