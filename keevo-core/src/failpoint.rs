//! Failpoints: named places in the code where a test lets the process die, as by `kill -9`.
//!
//! Only with the feature `failpoints`; without it a failpoint is an empty function. `KEEVO_FAILPOINT=NAME` arms one,
//! `KEEVO_FAILPOINT=NAME:N` lets the N-th pass through it be the one that ends the process: by abort, so nothing is
//! flushed, closed or said to anybody, apart from one line on standard error that names the failpoint.
//!
//! Invariant: [`FAILPOINTS`] names every one of them, so that a harness can hit them all.

/// Every failpoint, by name, with what it lies between.
pub const FAILPOINTS: &[(&str, &str)] = &[
    ("apply.after", "entries are applied in memory; nobody was answered, nothing is flushed"),
    ("apply.before", "entries are committed and not applied"),
    ("bootstrap.handing", "the founder has its map; its peers have none"),
    ("bootstrap.saved", "a map is saved; the identity does not name its cluster yet"),
    ("flush.after", "the data is flushed; the logs still hold what is behind it"),
    ("flush.before", "the logs hold what the data store is about to flush"),
    ("log.after_sync", "a batch of the log is durable; nobody was told"),
    ("log.after_write", "a batch of the log is written without a sync"),
    ("log.before_sync", "a batch of the log that is to be synced is not"),
    ("log.before_write", "a batch of the log is collected and not written"),
    ("snapshot.exported", "the files of a snapshot are written and not sent"),
    ("snapshot.installed", "a snapshot is ingested; the replica does not know yet"),
    ("snapshot.staged", "a snapshot has arrived and is not ingested"),
];

/// Ends the process here if this failpoint is the armed one.
#[cfg(feature = "failpoints")]
pub fn failpoint(name: &'static str) {
    use std::io::Write;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static ARMED: OnceLock<Option<(String, AtomicU64)>> = OnceLock::new();
    debug_assert!(FAILPOINTS.iter().any(|(known, _)| *known == name), "{name} is missing in the table");
    let armed = ARMED.get_or_init(|| {
        let text = std::env::var("KEEVO_FAILPOINT").ok()?;
        let (name, passes) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), AtomicU64::new(passes.parse().unwrap_or(1))))
    });
    if let Some((armed, left)) = armed
        && armed == name
        && left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        // Whether anybody reads it or not: the process ends.
        drop(writeln!(std::io::stderr(), "failpoint {name}"));
        std::process::abort();
    }
}

/// Nothing: failpoints are not compiled in.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn failpoint(_name: &'static str) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(FAILPOINTS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
