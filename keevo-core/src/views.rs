//! Read views that the pages of consistent scans share, held between two pages.
//!
//! Invariant: what is held is bounded in number, idle time and age; a view that is not held any more is `ScanExpired`,
//! whatever ended it. Ids are never used again, not even after a restart.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, Random};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::ShardId;

/// Which read view, and who holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewId {
    /// The node that holds it; 0 for an engine that is no node.
    pub home: u64,
    /// Names it at its holder.
    pub number: u128,
}

/// Bounds on the read views that are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewLimits {
    /// The most views at a time.
    pub views_max: usize,
    /// How long a view is held after its last page.
    pub idle: Duration,
    /// How long a view is held at most: what it shows can't leave the disk meanwhile.
    pub age: Duration,
    /// How long a view is held after the last page of its shard, for one whose answer was lost and is asked for again.
    pub linger: Duration,
}

impl Default for ViewLimits {
    fn default() -> Self {
        Self {
            views_max: 256,
            idle: Duration::from_mins(1),
            age: Duration::from_mins(10),
            linger: Duration::from_secs(5),
        }
    }
}

/// The read views that a node or an engine holds.
#[derive(Debug)]
pub struct Views<V> {
    home: u64,
    /// Tells the views of one start from those of another.
    start: u64,
    limits: ViewLimits,
    clock: Arc<dyn Clock>,
    state: Mutex<State<V>>,
}

#[derive(Debug)]
struct State<V> {
    last: u64,
    held: BTreeMap<u64, Held<V>>,
}

#[derive(Debug)]
struct Held<V> {
    shard: ShardId,
    view: Arc<V>,
    opened: Duration,
    used: Duration,
    ended: bool,
}

impl<V> Held<V> {
    fn is_over(&self, limits: &ViewLimits, now: Duration) -> bool {
        let idle = if self.ended { limits.linger } else { limits.idle };
        now.saturating_sub(self.used) >= idle || now.saturating_sub(self.opened) >= limits.age
    }
}

impl<V> Views<V> {
    /// No views. `home` is the node that holds them.
    pub fn new(home: u64, limits: ViewLimits, clock: Arc<dyn Clock>, random: &dyn Random) -> Self {
        let state = Mutex::new(State { last: 0, held: BTreeMap::new() });
        Self { home, start: random.next_u64(), limits, clock, state }
    }

    fn state(&self) -> MutexGuard<'_, State<V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a view of `shard`. `ResourceExhausted` when too many are held already.
    pub fn hold(&self, shard: ShardId, view: V) -> Result<ViewId> {
        let now = self.clock.monotonic();
        let mut state = self.state();
        state.held.retain(|_, held| !held.is_over(&self.limits, now));
        if state.held.len() >= self.limits.views_max {
            let ended = state.held.iter().find(|(_, held)| held.ended).map(|(number, _)| *number).ok_or_else(|| {
                let message = format!("{} consistent scans are open already", self.limits.views_max);
                Error::new(ErrorKind::ResourceExhausted, message)
            })?;
            state.held.remove(&ended);
        }
        state.last += 1;
        let number = state.last;
        state.held.insert(number, Held { shard, view: Arc::new(view), opened: now, used: now, ended: false });
        Ok(ViewId { home: self.home, number: (u128::from(self.start) << 64) | u128::from(number) })
    }

    /// The view, of `shard`. `ScanExpired` when it is not held any more, or never was.
    pub fn get(&self, id: ViewId, shard: ShardId) -> Result<Arc<V>> {
        let expired = || Error::new(ErrorKind::ScanExpired, "the read view of the scan is gone");
        let number = self.number(id).ok_or_else(expired)?;
        let now = self.clock.monotonic();
        let mut state = self.state();
        state.held.retain(|_, held| !held.is_over(&self.limits, now));
        let held = state.held.get_mut(&number).filter(|held| held.shard == shard).ok_or_else(expired)?;
        held.used = now;
        held.ended = false;
        Ok(Arc::clone(&held.view))
    }

    /// The scan has seen all of the view, which so makes room for others first.
    pub fn end(&self, id: ViewId) {
        let Some(number) = self.number(id) else { return };
        let mut state = self.state();
        if self.limits.linger.is_zero() {
            state.held.remove(&number);
        } else if let Some(held) = state.held.get_mut(&number) {
            held.ended = true;
        }
    }

    fn number(&self, id: ViewId) -> Option<u64> {
        let is_own = id.home == self.home && id.number >> 64 == u128::from(self.start);
        u64::try_from(id.number & u128::from(u64::MAX)).ok().filter(|_| is_own)
    }

    /// Ends all views of a shard whose data is replaced or removed.
    pub fn end_shard(&self, shard: ShardId) {
        self.state().held.retain(|_, held| held.shard != shard);
    }

    /// Ends all views.
    pub fn end_all(&self) {
        self.state().held.clear();
    }

    /// Ends the views that were held for long enough. To be called from time to time.
    pub fn sweep(&self) {
        let now = self.clock.monotonic();
        self.state().held.retain(|_, held| !held.is_over(&self.limits, now));
    }

    /// How many views are held.
    pub fn held(&self) -> usize {
        self.state().held.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, SeededRandom};

    const SHARD: ShardId = ShardId(3);

    fn views(limits: ViewLimits) -> (Arc<ManualClock>, Views<&'static str>) {
        let clock = Arc::new(ManualClock::new(0));
        (Arc::clone(&clock), Views::new(7, limits, clock, &SeededRandom::new(1)))
    }

    fn is_held(views: &Views<&'static str>, id: ViewId) -> bool {
        match views.get(id, SHARD) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ScanExpired, "{error}");
                false
            }
        }
    }

    #[test]
    fn a_view_is_held_while_it_is_used_and_no_longer_than_its_age() {
        let limits =
            ViewLimits { idle: Duration::from_secs(10), age: Duration::from_secs(25), ..ViewLimits::default() };
        let (clock, views) = views(limits);
        let (used, idle) = (views.hold(SHARD, "a").expect("room"), views.hold(SHARD, "b").expect("room"));
        clock.advance_ms(9_000);
        assert!(is_held(&views, used));
        clock.advance_ms(9_000);
        views.sweep();
        assert_eq!(views.held(), 1, "the idle one went by itself");
        assert!(is_held(&views, used) && !is_held(&views, idle));
        clock.advance_ms(9_000);
        assert!(!is_held(&views, used), "too old, however much it is used");
        assert_eq!(views.held(), 0);
    }

    #[test]
    fn the_number_is_bounded_and_scans_that_ended_make_room() {
        let (clock, views) = views(ViewLimits { views_max: 2, ..ViewLimits::default() });
        let (first, second) = (views.hold(SHARD, "a").expect("room"), views.hold(SHARD, "b").expect("room"));
        let refused = views.hold(SHARD, "c").expect_err("full");
        assert_eq!(refused.kind(), ErrorKind::ResourceExhausted);
        views.end(second);
        assert!(is_held(&views, second), "its last page may be asked for again");
        views.end(second);
        let third = views.hold(SHARD, "c").expect("room");
        assert!(is_held(&views, first) && is_held(&views, third) && !is_held(&views, second));
        views.end(third);
        clock.advance_ms(5_000);
        assert!(!is_held(&views, third));
    }

    #[test]
    fn what_is_not_of_this_start_and_shard_is_expired() {
        let (_, views) = views(ViewLimits::default());
        let id = views.hold(SHARD, "a").expect("room");
        assert!(views.get(id, ShardId(4)).is_err(), "another shard's");
        assert!(!is_held(&views, ViewId { home: 8, ..id }));
        assert!(!is_held(&views, ViewId { number: id.number ^ (1 << 64), ..id }), "of an earlier start");
        assert!(!is_held(&views, ViewId { number: id.number + 1, ..id }));
        assert!(is_held(&views, id));
        views.end_shard(ShardId(4));
        assert!(is_held(&views, id));
        views.end_shard(SHARD);
        assert!(!is_held(&views, id));
        let id = views.hold(SHARD, "b").expect("room");
        views.end_all();
        assert!(!is_held(&views, id));
    }
}
