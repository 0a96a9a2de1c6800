//! The names of objects, which sort as the numbers in them do.

use keevo_core::{ClusterId, Error, Result, ShardId};

use crate::chunk::ChunkId;

/// The longest id of a backup, in bytes.
const BACKUP_ID_BYTES_MAX: usize = 64;

/// The folder of a cluster's archived logs.
pub fn logs(cluster: ClusterId) -> String {
    format!("{cluster}/log")
}

/// The folder of a shard's archived log.
pub fn log(cluster: ClusterId, shard: ShardId) -> String {
    format!("{cluster}/log/{:020}", shard.0)
}

/// The segment of a shard's log that begins at an index.
pub fn segment(cluster: ClusterId, shard: ShardId, first: u64) -> String {
    format!("{}/{first:020}.seg", log(cluster, shard))
}

/// The folder of a cluster's backups.
pub fn backups(cluster: ClusterId) -> String {
    format!("{cluster}/backups")
}

/// The manifest of a backup.
pub fn manifest(cluster: ClusterId, backup: &str) -> String {
    format!("{cluster}/backups/{backup}/manifest")
}

/// The file of a shard of a backup.
pub fn shard_file(cluster: ClusterId, backup: &str, shard: ShardId) -> String {
    format!("{cluster}/backups/{backup}/{:020}.shard", shard.0)
}

/// The folder of a cluster's chunks.
pub fn chunks(cluster: ClusterId) -> String {
    format!("{cluster}/chunks")
}

/// A chunk.
pub fn chunk(cluster: ClusterId, id: &ChunkId) -> String {
    let digits = id.hex();
    format!("{cluster}/chunks/{}/{digits}", digits.get(..2).unwrap_or_default())
}

/// The chunk of a name; `None` where it is none of a chunk.
pub fn chunk_of(name: &str) -> Option<ChunkId> {
    let digits = name.rsplit('/').next()?.as_bytes();
    let (pairs, rest) = digits.as_chunks::<2>();
    let mut id = [0; 32];
    if !rest.is_empty() || pairs.len() != id.len() {
        return None;
    }
    for (byte, pair) in id.iter_mut().zip(pairs) {
        let mut digits = pair.iter().map(|digit| char::from(*digit).to_digit(16));
        let (high, low) = (digits.next()??, digits.next()??);
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(ChunkId(id))
}

/// The shard of a name in a backup's folder; `None` where it is none of a shard's file.
pub fn shard_of_file(name: &str) -> Option<ShardId> {
    number(name.rsplit('/').next()?.strip_suffix(".shard")?).map(ShardId)
}

/// Refuses an id of a backup that is empty, too long, or has other characters than `a-z 0-9 -`.
pub fn check_backup_id(id: &str) -> Result<()> {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    if (1..=BACKUP_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(allowed) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "a backup's id has 1 to {BACKUP_ID_BYTES_MAX} characters of a-z 0-9 -, unlike '{}'",
        id.escape_debug()
    )))
}

/// The first index of a segment, by its name.
pub fn first_of(name: &str) -> Result<u64> {
    let digits = name.rsplit('/').next().and_then(|file| file.strip_suffix(".seg"));
    number(digits.unwrap_or_default()).ok_or_else(|| Error::corrupt(format!("'{name}' is no name of a segment")))
}

/// The shard of the folder of a shard's archived log.
pub fn shard_of(folder: &str) -> Result<ShardId> {
    let digits = folder.rsplit('/').next().unwrap_or_default();
    number(digits).map(ShardId).ok_or_else(|| Error::corrupt(format!("'{folder}' is no folder of a shard's log")))
}

/// The cluster of a folder at the top.
pub fn cluster_of(folder: &str) -> Option<ClusterId> {
    if folder.len() != 32 {
        return None;
    }
    u128::from_str_radix(folder, 16).ok().map(ClusterId)
}

fn number(digits: &str) -> Option<u64> {
    if digits.len() == 20 { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_numbers_and_are_read_back() {
        let (cluster, shard) = (ClusterId(0xc1), ShardId(3));
        let name = |first| segment(cluster, shard, first);
        assert_eq!(name(77), "000000000000000000000000000000c1/log/00000000000000000003/00000000000000000077.seg");
        assert!(name(9) < name(10) && name(10) < name(u64::MAX));
        assert_eq!(first_of(&name(u64::MAX)).expect("a segment"), u64::MAX);
        assert_eq!(shard_of(&log(cluster, shard)).expect("a folder"), shard);
        assert_eq!(cluster_of("000000000000000000000000000000c1"), Some(cluster));
        let id = ChunkId::of(b"rows");
        assert_eq!(chunk_of(&chunk(cluster, &id)), Some(id));
        assert_eq!(shard_of_file(&shard_file(cluster, "monday", shard)), Some(shard));
        for wrong in ["", "a/7.seg", "manifest", "a/00"] {
            assert!(chunk_of(wrong).is_none() && shard_of_file(wrong).is_none(), "{wrong}");
        }
        for wrong in ["", "a/7.seg", "a/77", "a/0000000000000000007x.seg"] {
            assert!(first_of(wrong).is_err() && shard_of(wrong).is_err() && cluster_of(wrong).is_none(), "{wrong}");
        }
        assert!(first_of("a/00000000000000000077").is_err(), "the ending is missing");
    }
}
