//! Turns: callers of one instance that change the same record go one after the other.
//!
//! Compare-and-set keeps changes right however many contend; turns only keep those of one process from meeting
//! there again and again. A few locks stand for all names, by hash.

use tokio::sync::{Mutex, MutexGuard};

use crate::ids::spread;

const STRIPES: usize = 256;

/// The locks.
#[derive(Debug)]
pub(crate) struct Turns {
    stripes: Vec<Mutex<()>>,
    spare: Mutex<()>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { stripes: (0..STRIPES).map(|_| Mutex::default()).collect(), spare: Mutex::default() }
    }
}

impl Turns {
    /// Waits for the turn of `name`. Never hold two at once.
    pub(crate) async fn of(&self, name: &str) -> MutexGuard<'_, ()> {
        let at = usize::try_from(spread(name) % u64::try_from(STRIPES).unwrap_or(1)).unwrap_or_default();
        self.stripes.get(at).unwrap_or(&self.spare).lock().await
    }
}
