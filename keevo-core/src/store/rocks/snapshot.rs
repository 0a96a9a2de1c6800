//! Snapshots of ranges: written as table files from one read view, installed by one atomic ingestion.
//!
//! ```text
//! tile  [lower ........................................ upper)
//! files [delete_range + points)[delete_range + points)[ ... )     each removes its own part, then fills it
//! ```
//!
//! Why it is right: an ingested file gets one sequence number for all that it holds, and a range tombstone
//! covers smaller numbers only, so it hides the old rows and not the points beside it. A file that ends with
//! a tombstone ends before its bound, so adjoining files do not overlap. The ingestion is one edit of the
//! manifest for all files, so a crash leaves all of it or none.
//!
//! Values go as they are stored, sealed ones sealed: nothing of them is in the open on the disks and on the way, and nobody
//! seals them twice. So the nodes of a cluster share their keys; the export says which ones the receiver needs.

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use rocksdb::{ColumnFamily, DBRawIterator, IngestExternalFileOptions, ReadOptions, SstFileWriter};

use super::errors::translate;
use super::{RocksStore, Shared, seals};
use crate::error::{ErrorKind, Result};
use crate::mutants::{self, Mutant};
use crate::seal::KeyUse;
use crate::store::files::{self, io_error};
use crate::store::{Column, Export, SnapshotFile};

/// Writes `tiles` to files in `dir`, and reads `keys`, all from one view.
pub(super) fn export(
    store: &Shared,
    family: &ColumnFamily,
    tiles: &[(Bytes, Bytes)],
    keys: &[Bytes],
    dir: &Path,
) -> Result<Export> {
    files::check_tiles(tiles.iter().map(|(lower, upper)| (lower, upper)))?;
    // Compactions do not see the view: what has expired since it was opened must stay until it is read.
    let _hold = store.built.expiry.hold();
    let view = store.db.snapshot();
    let mut written = Vec::new();
    let mut used = BTreeSet::new();
    for (lower, upper) in tiles {
        let mut how = ReadOptions::default();
        how.set_iterate_lower_bound(lower.as_ref());
        how.set_iterate_upper_bound(upper.as_ref());
        how.fill_cache(false);
        let mut rows = view.raw_iterator_cf_opt(family, how);
        rows.seek_to_first();
        let mut start = lower.clone();
        while start < *upper {
            let path = dir.join(format!("{:06}.sst", written.len()));
            let end = write_file(store, &path, &mut rows, (&start, upper), &mut used)?;
            files::sync(&path)?;
            let (bytes, crc32) = files::measure(&path)?;
            written.push(SnapshotFile { path, lower: start, upper: end.clone(), bytes, crc32 });
            start = end;
        }
    }
    files::sync(dir)?;
    let mut values = Vec::with_capacity(keys.len());
    for key in keys {
        let value =
            view.get_pinned_cf(family, key).map_err(|source| translate("read a row of the snapshot", source))?;
        let opened =
            |value: rocksdb::DBPinnableSlice<'_>| seals::opened(store.seals.as_ref(), Column::Data, key, &value);
        values.push(value.map(opened).transpose()?);
    }
    if let Some(seals) = store.seals.as_ref().filter(|_| used.is_empty()) {
        // Without values, so that it does not pass for one of a node that seals nothing.
        used.insert(seals.newest()?.used());
    }
    Ok(Export { files: written, rows: values, keys: used.into_iter().collect() })
}

/// Writes rows until the file is full or there are no more; returns where its range ends.
fn write_file(
    store: &Shared,
    path: &Path,
    rows: &mut DBRawIterator<'_>,
    (start, upper): (&Bytes, &Bytes),
    used: &mut BTreeSet<KeyUse>,
) -> Result<Bytes> {
    let failed = |source| translate(&format!("write the snapshot file {}", path.display()), source);
    let mut writer = SstFileWriter::create(&store.built.data);
    writer.open(path).map_err(failed)?;
    while let Some((key, value)) = rows.item() {
        if writer.file_size() >= store.settings.export_file_bytes {
            break;
        }
        if store.seals.is_some() {
            used.extend(seals::key_of(key, value)?);
        }
        writer.put(key, value).map_err(failed)?;
        rows.next();
    }
    rows.status().map_err(|source| translate("read the snapshot's rows", source))?;
    let end = rows.key().map_or_else(|| upper.clone(), Bytes::copy_from_slice);
    if !mutants::is_on(Mutant::InstallKeepsOld) {
        writer.delete_range(start, &end).map_err(failed)?;
    }
    writer.finish().map_err(failed)?;
    Ok(end)
}

/// Verifies `files` and ingests them. The caller flushes afterwards.
pub(super) fn install(store: &RocksStore, files: &[SnapshotFile]) -> Result<()> {
    let files = files::verify(files)?;
    if files.is_empty() {
        return Ok(());
    }
    let mut how = IngestExternalFileOptions::default();
    how.set_move_files(true);
    let paths = files.iter().map(|file| &file.path).collect();
    let family = store.family(Column::Data)?;
    if let Err(source) = store.shared.db.ingest_external_file_cf_opts(family, &how, paths) {
        let error = translate("install a snapshot", source);
        // A refused file changed nothing; after a failure of the disk nobody knows.
        return Err(if error.kind() == ErrorKind::Io { store.stop(error) } else { error });
    }
    for file in &files {
        match std::fs::remove_file(&file.path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(io_error("remove the installed file", &file.path, source));
            }
            _ => {}
        }
    }
    Ok(())
}
