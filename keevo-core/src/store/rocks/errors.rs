//! What RocksDB's errors mean to callers.

use crate::error::{Error, ErrorKind};

/// The error of `what`, which says what was being done: "write a batch", "flush".
pub(super) fn translate(what: &str, source: rocksdb::Error) -> Error {
    let message = source.to_string();
    let (kind, explained) = classify(&message, &source.kind());
    Error::new(kind, format!("could not {what}: {explained}")).with_source(source)
}

fn classify(message: &str, kind: &rocksdb::ErrorKind) -> (ErrorKind, String) {
    let is_lock = message.contains("lock hold by current process") || message.contains("While lock file");
    if is_lock {
        let rule = "the folder is open already; only one process, one engine in it, may have it open: \
                    stop it or take another folder";
        return (ErrorKind::Unavailable, rule.to_owned());
    }
    if message.contains("No space left on device") || message.contains("quota exceeded") {
        return (ErrorKind::ResourceExhausted, "the disk is full".to_owned());
    }
    match kind {
        rocksdb::ErrorKind::Corruption => (ErrorKind::Corrupt, message.to_owned()),
        _ => (ErrorKind::Io, message.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_caller_can_do_decides_the_kind() {
        use rocksdb::ErrorKind as Rocks;
        let kind = |message: &str, kind| classify(message, &kind).0;
        assert_eq!(kind("Corruption: block checksum mismatch", Rocks::Corruption), ErrorKind::Corrupt);
        assert_eq!(kind("IO error: No space left on device: x", Rocks::IOError), ErrorKind::ResourceExhausted);
        assert_eq!(kind("IO error: While fsync: x: Input/output error", Rocks::IOError), ErrorKind::Io);
        assert_eq!(
            kind("IO error: While lock file: x/LOCK: Resource temporarily unavailable", Rocks::IOError),
            ErrorKind::Unavailable
        );
        assert_eq!(
            kind("IO error: lock hold by current process, acquire time 1: x/LOCK", Rocks::IOError),
            ErrorKind::Unavailable
        );
    }
}
