//! The keys of verdicts and of what belongs to them.

use keevo_core::{Key, Keyspace};

use crate::text::{TextVersion, name_digest};

/// Start of the verdicts in a text's partition.
pub(crate) const VERDICT: &[u8] = b"v";
/// Start of the decisions in a text's partition.
pub(crate) const DECISION: &[u8] = b"d";
/// Says in the partition of a text, or of a channel, that it is erased.
pub(crate) const ERASED: &[u8] = b"e";
/// How many partitions hold the texts that wait.
pub(crate) const BUCKETS: u8 = 16;

/// A row of a version in its text's partition.
pub(crate) fn of_version(keyspace: Keyspace, start: &[u8], version: &TextVersion) -> Key {
    keyspace.key(version.partition(), [start, version.hash().as_bytes()].concat())
}

/// Whether a sort key in a text's partition is a verdict's, and else a decision's, and the hash of its version; `None` for
/// other rows.
pub(crate) fn row_of(sort: &[u8]) -> Option<(bool, String)> {
    let (is_verdict, hash) = match sort.strip_prefix(VERDICT) {
        Some(hash) => (true, hash),
        None => (false, sort.strip_prefix(DECISION)?),
    };
    Some((is_verdict, String::from_utf8(hash.to_vec()).ok()?))
}

/// One bucket of the texts that wait.
pub(crate) fn bucket(bucket: u8) -> Vec<u8> {
    vec![b'p', bucket % BUCKETS]
}

/// Where a version waits.
pub(crate) fn waiting(keyspace: Keyspace, version: &TextVersion) -> Key {
    let digest = version.digest();
    let place = digest.first().copied().unwrap_or_default();
    keyspace.key(bucket(place), timed(version.at_ms, &digest))
}

/// The review queue of an app.
pub(crate) fn queue(app: u32) -> Vec<u8> {
    [b"q".as_slice(), &app.to_be_bytes()].concat()
}

/// The labelled data of an app.
pub(crate) fn labels(app: u32) -> Vec<u8> {
    [b"l".as_slice(), &app.to_be_bytes()].concat()
}

/// The texts of an author that nothing but their verdicts may tell of.
pub(crate) fn author(app: u32, author: &str) -> Vec<u8> {
    [b"u".as_slice(), &app.to_be_bytes(), &name_digest(author)].concat()
}

/// Where a version's text is noted under its author.
pub(crate) fn noted(keyspace: Keyspace, version: &TextVersion) -> Key {
    keyspace.key(author(version.app, &version.author), version.partition())
}

/// The texts of a channel that nothing but their verdicts may tell of.
pub(crate) fn channel(app: u32, channel: &str) -> Vec<u8> {
    [b"n".as_slice(), &app.to_be_bytes(), &name_digest(channel)].concat()
}

/// Where a version's text is noted under its channel; `None` for a text of no channel.
pub(crate) fn noted_in(keyspace: Keyspace, version: &TextVersion) -> Option<Key> {
    let text = version.text_id();
    let (name, _) = text.in_channel()?;
    Some(keyspace.key(channel(version.app, name), version.partition()))
}

/// What the pipeline keeps of itself.
pub(crate) fn pipeline(keyspace: Keyspace, name: &str) -> Key {
    keyspace.key(b"c".as_slice(), name.as_bytes().to_vec())
}

/// A time and a digest: rows by time.
pub(crate) fn timed(at_ms: u64, digest: &[u8; 16]) -> Vec<u8> {
    [at_ms.to_be_bytes().as_slice(), digest].concat()
}
