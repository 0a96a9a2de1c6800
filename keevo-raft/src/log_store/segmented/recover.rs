//! Opening the log: the records of all segments, read in order, become the index.
//!
//! ```text
//!  open segment:   ... sound records ...│ durable │ ... sound ...│ a bad one │ whatever
//!                                        ▲ as a later record says  ▲ the log ends here
//! ```
//!
//! What a crash leaves behind the durable end is dropped from the first bad record on. A bad record before it is damage:
//! of its group, if its header is sound; of the whole store otherwise, since nobody knows what it said.
//!
//! Invariant: what was durable is found or the group, or the store, is `Corrupt`; and what follows the first bad record
//! is never read again, for the next record goes into a new segment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use keevo_core::seal::KeyUse;
use keevo_core::{Error, ErrorKind, Result};

use super::folder::Folder;
use super::index::{Index, Place};
use super::manifest::{MANIFEST, Manifest};
use super::record::{self, HEADER_BYTES, Header, Kind, Position};
use super::sealing::{EntrySeals, key_of};
use super::space::io_error;
use super::stream::{SEGMENT_HEADER_BYTES, segment_header, segment_name};
use crate::log_store::GroupId;
use crate::log_store::group::LoadedGroup;
use crate::log_store::writer::Loaded;
use crate::types::{LogId, Vote};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    pub(super) index: Mutex<Index>,
    pub(super) loaded: Loaded,
    /// The segments and their bytes in use, all closed.
    pub(super) closed: BTreeMap<u64, u32>,
    /// Those with live entries that are not sealed with the newest key, if there is one.
    pub(super) stale: BTreeSet<u64>,
}

/// Reads the log in `folder`, and removes what does not belong to it.
///
/// Errors: `Corrupt`, `NewerFormat`, `Io`; `Config` without the keys of sealed entries.
pub(super) fn recover(folder: &Arc<dyn Folder>, seals: &EntrySeals) -> Result<Recovered> {
    let names = folder.list().map_err(|error| io_error("list its folder", error))?;
    let Some(manifest) = read_manifest(folder.as_ref(), &names)? else {
        clear(folder.as_ref(), &names, &Manifest::default())?;
        Replay::default().stale(seals)?;
        return Ok(Recovered::default());
    };
    let mut replay = Replay::default();
    let mut closed = manifest.closed.clone();
    for (number, end) in &manifest.closed {
        let bytes = read_segment(folder.as_ref(), *number)?;
        let end = usize::try_from(*end).unwrap_or(usize::MAX);
        let used = bytes.get(..end).ok_or_else(|| damaged(*number, bytes.len()))?;
        let found = replay.add_segment(used, *number, None)?;
        if found != end {
            return Err(damaged(*number, found));
        }
    }
    let bytes = read_segment(folder.as_ref(), manifest.open)?;
    let (durable, cut) = find_end(&bytes, manifest.open)?;
    let end = replay.add_segment(&bytes, manifest.open, Some(cut))?;
    make_durable(folder.as_ref(), manifest.open, bytes.get(..end).unwrap_or(&bytes), durable)?;
    closed.insert(manifest.open, u32::try_from(end).map_err(|_too_long| damaged(manifest.open, end))?);
    clear(folder.as_ref(), &names, &manifest)?;
    let stale = replay.stale(seals)?;
    let (index, loaded) = replay.finish(folder.as_ref(), &closed, seals)?;
    Ok(Recovered { index: Mutex::new(index), loaded, closed, stale })
}

/// Makes durable what was found behind `durable`. A killed process may have left it in the system's memory alone, or a
/// failed sync, after which the system takes it for written: so it is written again.
fn make_durable(folder: &dyn Folder, segment: u64, bytes: &[u8], durable: usize) -> Result<()> {
    let Some(rest) = bytes.get(durable..).filter(|rest| !rest.is_empty()) else { return Ok(()) };
    let file = folder.open(&segment_name(segment)).map_err(|error| io_error("open a segment", error))?;
    let offset = u64::try_from(durable).unwrap_or(u64::MAX);
    file.write_at(rest, offset).and_then(|()| file.sync()).map_err(|error| io_error("make a segment durable", error))
}

fn damaged(segment: u64, offset: usize) -> Error {
    Error::corrupt(format!(
        "the log store is damaged: its segment {segment} has no sound record at byte {offset}, where one was made durable"
    ))
}

/// The manifest; `None` for a store that was never finished.
fn read_manifest(folder: &dyn Folder, names: &[String]) -> Result<Option<Manifest>> {
    if names.iter().any(|name| name == MANIFEST) {
        let bytes = folder.read(MANIFEST).map_err(|error| io_error("read its manifest", error))?;
        return Manifest::parse(&bytes).map(Some);
    }
    for name in names.iter().filter(|name| segment_number(name).is_some()) {
        let bytes = folder.read(name).map_err(|error| io_error("read a segment", error))?;
        // The first segment of a store has no marks, and no record is written before the manifest is.
        let is_first = *name == segment_name(1);
        let has_record = Header::read(bytes.get(SEGMENT_HEADER_BYTES..).unwrap_or_default(), first_position(1))?;
        if !is_first || has_record.is_some() {
            return Err(Error::corrupt(format!("the log store has lost its manifest, but not its segment {name}")));
        }
    }
    Ok(None)
}

/// The number of the segment whose file has this name.
fn segment_number(name: &str) -> Option<u64> {
    name.strip_suffix(".log")?.parse().ok()
}

fn first_position(segment: u64) -> Position {
    Position { segment, offset: u32::try_from(SEGMENT_HEADER_BYTES).unwrap_or(u32::MAX) }
}

/// Removes the files of segments that the manifest doesn't name. Whatever they hold, it was never durable, or is not
/// needed; and none may be written to again under its old number.
fn clear(folder: &dyn Folder, names: &[String], manifest: &Manifest) -> Result<()> {
    let failed = |error| io_error("remove a file", error);
    let named = |name: &String| {
        *name == segment_name(manifest.open) || manifest.closed.keys().any(|number| *name == segment_name(*number))
    };
    for name in names {
        let number = segment_number(name);
        if number.is_none() && name.strip_suffix(".free").is_none() || named(name) {
            continue;
        }
        if let Some(number) = number.filter(|number| *number > manifest.open && manifest.open > 0) {
            check_unborn(folder, name, number)?;
        }
        folder.remove(name).map_err(failed)?;
    }
    folder.sync().map_err(failed)
}

/// Refuses a segment that is newer than the manifest and holds an entry: none is written before the manifest names it.
fn check_unborn(folder: &dyn Folder, name: &str, number: u64) -> Result<()> {
    let bytes = folder.read(name).map_err(|error| io_error("read a segment", error))?;
    walk(&bytes, number, |_, header, _| match header.kind {
        Kind::Entry | Kind::SealedEntry => {
            Err(Error::corrupt(format!("the manifest of the log store is older than its segment {number}")))
        }
        _ => Ok(()),
    })
    .map(drop)
}

fn read_segment(folder: &dyn Folder, number: u64) -> Result<Vec<u8>> {
    let bytes = folder.read(&segment_name(number)).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::corrupt(format!("the log store has lost its segment {number}")),
        _ => io_error("read a segment", error),
    })?;
    check_header(&bytes, number)?;
    Ok(bytes)
}

fn check_header(bytes: &[u8], number: u64) -> Result<()> {
    let header = segment_header(number);
    if bytes.get(..SEGMENT_HEADER_BYTES) == Some(&header[..]) {
        return Ok(());
    }
    let is_newer = bytes.get(..8) == header.get(..8)
        && bytes.get(8..12) != header.get(8..12)
        && bytes.get(..20).is_some_and(|body| bytes.get(20..24) == Some(&crc32fast::hash(body).to_be_bytes()[..]));
    if is_newer {
        return Err(Error::new(ErrorKind::NewerFormat, "the log store was written by a newer version of Keevo"));
    }
    Err(Error::corrupt(format!("the log store is damaged: its segment {number} has no sound beginning")))
}

/// As the open segment is read when the store is opened, from its bytes alone.
#[cfg(feature = "fuzzing")]
pub(super) fn read_open_segment(bytes: &[u8], number: u64) -> Result<()> {
    check_header(bytes, number)?;
    let (_, cut) = find_end(bytes, number)?;
    Replay::default().add_segment(bytes, number, Some(cut)).map(drop)
}

/// Calls `each` for the records of a segment; gives where the first one without a sound header is.
fn walk<'a>(
    bytes: &'a [u8],
    segment: u64,
    mut each: impl FnMut(u32, &Header, &'a [u8]) -> Result<()>,
) -> Result<usize> {
    let mut at = SEGMENT_HEADER_BYTES;
    loop {
        let Ok(offset) = u32::try_from(at) else { return Ok(at) };
        let Some(rest) = bytes.get(at..) else { return Ok(at) };
        let Some(header) = Header::read(rest, Position { segment, offset })? else { return Ok(at) };
        let Some(body) = rest.get(HEADER_BYTES..header.record_bytes()) else { return Ok(at) };
        each(offset, &header, body)?;
        at += header.record_bytes();
    }
}

/// Up to where the open segment is known to have been durable, and where its records end: before the first bad one behind
/// that.
fn find_end(bytes: &[u8], segment: u64) -> Result<(usize, usize)> {
    let mut durable = 0;
    let mut bad = Vec::new();
    let end = walk(bytes, segment, |offset, header, body| {
        if header.kind == Kind::Synced {
            durable = durable.max(header.index);
        } else if !header.is_body_sound(body) {
            bad.push(offset);
        }
        Ok(())
    })?;
    durable = durable.max(last_synced(bytes, segment, end)?);
    let known = usize::try_from(durable).ok().filter(|durable| *durable <= end);
    let known = known.ok_or_else(|| damaged(segment, end))?;
    let torn = bad.into_iter().find(|offset| u64::from(*offset) >= durable);
    Ok((known, torn.and_then(|offset| usize::try_from(offset).ok()).unwrap_or(end)))
}

/// What sound records of kind `Synced` behind `from` say, wherever they begin.
fn last_synced(bytes: &[u8], segment: u64, from: usize) -> Result<u64> {
    const TAG: usize = 12;
    let mut durable = 0;
    let rest = bytes.get(from..).unwrap_or_default();
    for (at, window) in rest.windows(HEADER_BYTES).enumerate() {
        if window.get(TAG) != Some(&(Kind::Synced as u8)) {
            continue;
        }
        let Ok(offset) = u32::try_from(from + at) else { break };
        // A header that is one by chance says nothing of this kind.
        let empty = crc32fast::hash(&[]);
        let header = Header::read(window, Position { segment, offset })?;
        if let Some(header) = header.filter(|header| {
            (header.group, header.body_bytes, header.body_crc) == (0, 0, empty) && header.index <= u64::from(offset)
        }) {
            durable = durable.max(header.index);
        }
    }
    Ok(durable)
}

/// One group as the records say it, read so far.
#[derive(Debug, Default)]
struct Replayed {
    vote: Option<Result<Vote>>,
    committed: Option<Result<LogId>>,
    purged: Option<Result<LogId>>,
    damage: Option<String>,
    places: BTreeMap<u64, Found>,
}

/// Where an entry lies, and the key that it is sealed with.
type Found = (Place, Option<KeyUse>);

/// All groups, read so far.
#[derive(Debug, Default)]
struct Replay {
    groups: BTreeMap<GroupId, Replayed>,
    stamp: Option<Result<Bytes>>,
}

impl Replay {
    /// Reads the records of a segment up to `cut`; gives where they end.
    fn add_segment(&mut self, bytes: &[u8], segment: u64, cut: Option<usize>) -> Result<usize> {
        let used = bytes.get(..cut.unwrap_or(bytes.len())).unwrap_or(bytes);
        walk(used, segment, |offset, header, body| {
            let bytes = u32::try_from(header.record_bytes()).map_err(|_too_long| damaged(segment, 0))?;
            self.add(header, body, Place { segment, offset, bytes });
            Ok(())
        })
    }

    fn add(&mut self, header: &Header, body: &[u8], place: Place) {
        let sound = |what: &str| {
            if header.is_body_sound(body) {
                return Ok(());
            }
            Err(Error::corrupt(format!("the {what} of group {} fails its checksum in the log store", header.group)))
        };
        if header.kind == Kind::Synced {
            return;
        }
        if header.kind == Kind::Stamp {
            self.stamp = Some(sound("stamp").map(|()| Bytes::copy_from_slice(body)));
            return;
        }
        let group = self.groups.entry(header.group).or_default();
        match header.kind {
            // No append has the greatest index.
            Kind::Entry | Kind::SealedEntry if header.index == u64::MAX => {
                group.damage = Some("an entry has an impossible index".to_owned());
            }
            Kind::Entry | Kind::SealedEntry => {
                group.places.insert(header.index, (place, key_of(header, body)));
            }
            Kind::Vote => group.vote = Some(sound("vote").and_then(|()| record::decode_vote(body))),
            Kind::Committed if body.is_empty() && header.is_body_sound(body) => group.committed = None,
            Kind::Committed => {
                group.committed = Some(sound("committed mark").and_then(|()| record::decode_log_id(body)));
            }
            Kind::Truncate => drop(group.places.split_off(&header.index)),
            Kind::Purge => {
                group.purged = Some(sound("purged mark").and_then(|()| record::decode_log_id(body)));
                group.places = match header.index.checked_add(1) {
                    Some(next) => group.places.split_off(&next),
                    None => BTreeMap::new(),
                };
            }
            Kind::Destroy => *group = Replayed::default(),
            Kind::Damaged => group.damage = Some(String::from_utf8_lossy(body).into_owned()),
            Kind::Stamp | Kind::Synced => {}
        }
    }

    /// The segments with live entries that are not sealed with the newest key. `Config` where a key is missing that live
    /// entries are sealed with.
    fn stale(&self, seals: &EntrySeals) -> Result<BTreeSet<u64>> {
        let found = || self.groups.values().flat_map(|group| group.places.values());
        seals.check(&found().filter_map(|(_, key)| *key).collect())?;
        let Some(newest) = seals.newest()? else { return Ok(BTreeSet::new()) };
        let oldest = found().map(|(_, key)| key.map_or(0, |used| used.id)).min();
        seals.set_opened(newest.used().id);
        seals.set_oldest(oldest.unwrap_or_else(|| newest.used().id));
        let stale = found().filter(|(_, key)| *key != Some(newest.used()));
        Ok(stale.map(|(place, _)| place.segment).collect())
    }

    fn finish(self, folder: &dyn Folder, closed: &BTreeMap<u64, u32>, seals: &EntrySeals) -> Result<(Index, Loaded)> {
        let mut index = Index::default();
        index.stamp = self.stamp.transpose()?;
        for number in closed.keys() {
            let file = folder.open(&segment_name(*number)).map_err(|error| io_error("open a segment", error))?;
            index.files.insert(*number, file);
        }
        let mut loaded = Loaded { stamp: index.stamp.clone(), groups: BTreeMap::new() };
        for (id, group) in self.groups {
            if let Some(found) = group.finish(id, &mut index, seals)? {
                loaded.groups.insert(id, found);
            }
        }
        Ok((index, loaded))
    }
}

impl Replayed {
    /// Puts the group into the index; `None` if there is nothing of it.
    fn finish(self, id: GroupId, index: &mut Index, seals: &EntrySeals) -> Result<Option<Result<LoadedGroup>>> {
        let Self { vote, committed, purged, damage, places } = self;
        let known = damage.map_or(Ok(()), |why| Err(Error::corrupt(why)));
        let marks = known.and_then(|()| Ok((vote.transpose()?, committed.transpose()?, purged.transpose()?)));
        let found = marks.and_then(|(vote, committed, purged)| {
            let state = index.group(id);
            (state.vote, state.committed, state.purged) = (vote, committed, purged);
            let entries = add_places(id, places, index, seals)?;
            Ok(LoadedGroup { vote, committed, purged, entries })
        });
        match found {
            Ok(LoadedGroup { vote: None, committed: None, purged: None, entries: None }) => {
                index.destroy(id);
                Ok(None)
            }
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::error!(group = id, %error, "the log of a group is damaged");
                index.damage(id, error.message().to_owned());
                Ok(Some(Err(error)))
            }
            Err(error) => Err(error),
            found => Ok(Some(found)),
        }
    }
}

/// Puts a group's entries into the index; gives the first index and the last log id.
fn add_places(
    id: GroupId,
    places: BTreeMap<u64, Found>,
    index: &mut Index,
    seals: &EntrySeals,
) -> Result<Option<(u64, LogId)>> {
    let Some((first, _)) = places.first_key_value() else { return Ok(None) };
    let first = *first;
    if let Some(purged) = index.group(id).purged.filter(|purged| purged.index.saturating_add(1) < first) {
        let missing = purged.index.saturating_add(1);
        return Err(Error::corrupt(format!("the log of group {id} lacks its entry {missing}")));
    }
    let mut last = None;
    for ((at, (place, _)), expected) in places.into_iter().zip(first..) {
        if at != expected {
            return Err(Error::corrupt(format!("the log of group {id} lacks its entry {expected}")));
        }
        index.add(id, at, place);
        last = Some((at, place));
    }
    let Some((at, place)) = last else { return Ok(None) };
    Ok(Some((first, read_entry(index, (id, at), place, seals)?.log_id)))
}

/// The entry that lies at `place`.
fn read_entry(index: &Index, which: (GroupId, u64), place: Place, seals: &EntrySeals) -> Result<crate::types::Entry> {
    let file = index.files.get(&place.segment);
    let file = file.ok_or_else(|| Error::corrupt(format!("the log store has lost its segment {}", place.segment)))?;
    let mut bytes = vec![0; usize::try_from(place.bytes).unwrap_or(0)];
    file.read_at(&mut bytes, u64::from(place.offset)).map_err(|error| io_error("read a segment", error))?;
    super::decode_entry(&Bytes::from(bytes), place, which, seals)
}
