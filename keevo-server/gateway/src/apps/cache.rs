//! What was read of the apps a moment ago.
//!
//! Invariant: an entry is used for at most [`FRESH`], so a revoked key or a changed policy counts everywhere after
//! that; and there are at most [`ENTRIES_MAX`], unknown keys included, whatever clients send.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keevo_core::Clock;

use super::model::App;

/// How long an entry is used.
pub(crate) const FRESH: Duration = Duration::from_secs(1);
/// The most entries.
const ENTRIES_MAX: usize = 4_096;

/// When an entry was read, and what was there.
type Entry = (Duration, Found);

/// What a key leads to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Found {
    /// An app.
    App(Arc<App>),
    /// Nothing.
    Nothing,
}

impl Found {
    /// The app, if there is one.
    pub(crate) fn app(self) -> Option<Arc<App>> {
        match self {
            Self::App(app) => Some(app),
            Self::Nothing => None,
        }
    }
}

impl From<Option<Arc<App>>> for Found {
    fn from(app: Option<Arc<App>>) -> Self {
        app.map_or(Self::Nothing, Self::App)
    }
}

/// Apps by key.
#[derive(Debug)]
pub(crate) struct Cache {
    clock: Arc<dyn Clock>,
    entries: Mutex<BTreeMap<String, Entry>>,
}

impl Cache {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, entries: Mutex::default() }
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a key, if that is fresh.
    pub(crate) fn get(&self, key: &str) -> Option<Found> {
        let now = self.clock.monotonic();
        self.entries().get(key).filter(|(read, _)| now.saturating_sub(*read) < FRESH).map(|(_, app)| app.clone())
    }

    /// Remembers what was read.
    pub(crate) fn put(&self, key: &str, found: Option<Arc<App>>) {
        let now = self.clock.monotonic();
        let mut entries = self.entries();
        if entries.len() >= ENTRIES_MAX && !entries.contains_key(key) {
            entries.retain(|_, (read, _)| now.saturating_sub(*read) < FRESH);
            if entries.len() >= ENTRIES_MAX {
                entries.clear();
            }
        }
        entries.insert(key.to_owned(), (now, found.into()));
    }

    /// Forgets everything, after a change made here.
    pub(crate) fn clear(&self) {
        self.entries().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keevo_core::ManualClock;

    #[test]
    fn entries_age_and_are_bounded() {
        let clock = Arc::new(ManualClock::new(5_000));
        let cache = Cache::new(Arc::clone(&clock) as Arc<dyn Clock>);
        cache.put("k", Some(Arc::new(App::default())));
        clock.advance_ms(999);
        assert!(matches!(cache.get("k"), Some(Found::App(_))));
        clock.advance_ms(1);
        assert_eq!(cache.get("k"), None);
        for number in 0..3 * ENTRIES_MAX {
            cache.put(&format!("unknown{number}"), None);
        }
        assert!(cache.entries().len() <= ENTRIES_MAX);
        cache.put("k", None);
        assert_eq!(cache.get("k"), Some(Found::Nothing));
        cache.clear();
        assert_eq!(cache.get("k"), None);
    }
}
