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
use std::io::{BufReader, BufWriter, Read, Write};
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::files::{self, EXPORT_FILE_BYTES, io_error};
use super::{Column, Durability, Export, SnapshotFile, Store, StoreBatch, StoreOp, StoreView, Visit};
use crate::error::{Error, Result};
use crate::scan::Direction;

const MAGIC: &[u8; 8] = b"KEEVOMS1";
/// No key or value of the engine comes near; a longer one is damage.
const FIELD_BYTES_MAX: u32 = 64 << 20;

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

    /// A store of its own with what a power cut at this moment would leave.
    #[must_use]
    pub fn flushed_copy(&self) -> Self {
        let state = self.lock();
        let copy =
            State { data: Arc::clone(&state.data), changes: Arc::clone(&state.changes), undo: state.undo.clone() };
        drop(state);
        let copy = Self { state: Arc::new(Mutex::new(copy)), export_file_bytes: self.export_file_bytes };
        copy.crash();
        copy
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No caller's code runs under the lock, so a poisoned one guards a whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut state = self.lock();
        for op in batch.ops {
            state.apply(op);
        }
        if durability == Durability::Sync {
            state.undo.clear();
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        self.lock().undo.clear();
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
        Ok(Export { files: exported, rows })
    }

    fn install(&self, files: &[SnapshotFile]) -> Result<()> {
        let files = files::verify(files)?;
        let mut loaded = Vec::with_capacity(files.len());
        for file in &files {
            loaded.push(read_file(file)?);
        }
        let mut state = self.lock();
        for (file, rows) in files.iter().zip(loaded) {
            state.remove_range(Column::Data, &file.lower, &file.upper);
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
    out.write_all(MAGIC).map_err(failed)?;
    let mut bytes = 0_u64;
    let mut end = upper.clone();
    for (key, value) in range(view, lower, upper) {
        if bytes >= bytes_max {
            end = key.clone();
            break;
        }
        let frame = frame(key, value)?;
        out.write_all(&frame).map_err(failed)?;
        bytes += u64::try_from(frame.len()).unwrap_or(u64::MAX);
    }
    out.flush().map_err(failed)?;
    out.get_ref().sync_all().map_err(failed)?;
    Ok(end)
}

/// `[crc32 u32][key length u32][value length u32][key][value]`, the CRC over all that follows it.
fn frame(key: &[u8], value: &[u8]) -> Result<Vec<u8>> {
    let length = |field: &[u8]| match u32::try_from(field.len()) {
        Ok(length) if length <= FIELD_BYTES_MAX => Ok(length.to_be_bytes()),
        _ => Err(Error::invalid(format!("a row of {} bytes is too long for a snapshot", field.len()))),
    };
    let body = [length(key)?.as_slice(), length(value)?.as_slice(), key, value].concat();
    Ok([crc32fast::hash(&body).to_be_bytes().as_slice(), &body].concat())
}

fn read_file(file: &SnapshotFile) -> Result<Map> {
    let failed = |source| io_error("read the snapshot file", &file.path, source);
    let damaged = |what: &str| Error::corrupt(format!("the snapshot file {} {what}", file.path.display()));
    let mut input = BufReader::new(File::open(&file.path).map_err(failed)?).take(file.bytes);
    let mut magic = [0; 8];
    input.read_exact(&mut magic).map_err(failed)?;
    if magic != *MAGIC {
        return Err(damaged("does not start like one"));
    }
    let mut rows = Map::new();
    while input.limit() > 0 {
        let (mut crc, mut lengths) = ([0; 4], [0; 8]);
        input.read_exact(&mut crc).map_err(failed)?;
        input.read_exact(&mut lengths).map_err(failed)?;
        let (key_length, value_length) = lengths.split_at(4);
        let key = read_field(&mut input, key_length).map_err(failed)?;
        let value = read_field(&mut input, value_length).map_err(failed)?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&lengths);
        hasher.update(&key);
        hasher.update(&value);
        if hasher.finalize().to_be_bytes() != crc {
            return Err(damaged("holds a row that fails its checksum"));
        }
        if key < file.lower || key >= file.upper {
            return Err(damaged("holds a key outside its range"));
        }
        rows.insert(key, value);
    }
    Ok(rows)
}

fn read_field(input: &mut impl Read, length: &[u8]) -> std::io::Result<Bytes> {
    let cut_short = |what: &'static str| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
    let length = length.try_into().map_err(|source| std::io::Error::new(std::io::ErrorKind::InvalidData, source))?;
    let length = u32::from_be_bytes(length);
    if length > FIELD_BYTES_MAX {
        return Err(cut_short("a length out of bounds"));
    }
    let mut field = Vec::new();
    input.take(u64::from(length)).read_to_end(&mut field)?;
    if u32::try_from(field.len()).ok() != Some(length) {
        return Err(cut_short("the file ends within a row"));
    }
    Ok(field.into())
}
