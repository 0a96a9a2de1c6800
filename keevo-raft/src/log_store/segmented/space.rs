//! What to do on a full disk: wait.
//!
//! A write that did not fit has changed nothing that counts, since nothing behind the durable end does; it is made again
//! when there is space. Callers wait meanwhile, in their bounded queue, and reads go on.
//!
//! Invariant: only calls that may be made twice wait here; a failed sync never does.

use std::io;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use keevo_core::{Error, ErrorKind, Result};

use crate::log_store::writer::lock;

const SPACE_AGAIN: Duration = Duration::from_millis(200);

/// An error of the folder. A full disk is `ResourceExhausted`.
pub(super) fn io_error(what: &str, source: io::Error) -> Error {
    let kind = if is_full(&source) { ErrorKind::ResourceExhausted } else { ErrorKind::Io };
    Error::new(kind, format!("the log store could not {what}: {source}")).with_source(source)
}

pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Waits for space on a full disk, until the store is closed.
#[derive(Debug, Default)]
pub(super) struct Patience {
    is_over: Mutex<bool>,
    ended: Condvar,
}

impl Patience {
    /// Ends all waiting.
    pub(super) fn end(&self) {
        *lock(&self.is_over) = true;
        self.ended.notify_all();
    }

    /// Calls `attempt`, and again as long as the disk is full. Nothing of it may harm when it is called twice.
    pub(super) fn retry<T>(&self, what: &str, mut attempt: impl FnMut() -> io::Result<T>) -> Result<T> {
        let mut is_told = false;
        loop {
            match attempt() {
                Err(error) if is_full(&error) => {
                    let over = lock(&self.is_over);
                    let waited = self.ended.wait_timeout_while(over, SPACE_AGAIN, |over| !*over);
                    if *waited.unwrap_or_else(PoisonError::into_inner).0 {
                        return Err(io_error(what, error));
                    }
                    if !is_told {
                        tracing::warn!("the disk of the log store is full: its writes wait for space");
                    }
                    is_told = true;
                }
                other => return other.map_err(|error| io_error(what, error)),
            }
        }
    }
}
