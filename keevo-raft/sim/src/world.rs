//! The world: its time, what is to happen when, and what has happened.
//!
//! Invariant: everything that happens is either in the queue, ordered by time and then by the order in which it was
//! put there, or done by a host in its step; so nothing depends on the machine that runs the simulation.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keevo_core::{Clock, Random};

use crate::event_log::EventLog;
use crate::random::Dice;

/// How far every host moves in one step, in milliseconds. Also the resolution of tokio's timers.
pub(crate) const STEP_MS: u64 = 2;
/// The wall clock at the start of every run: 2026-01-01, in milliseconds since the epoch.
const EPOCH_MS: u64 = 1_767_225_600_000;

/// Something that is to happen.
pub(crate) type Act = Box<dyn FnOnce() + Send>;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The world of one run.
pub(crate) struct World {
    state: Mutex<State>,
    log: Mutex<EventLog>,
    counts: Mutex<Counts>,
    violation: Mutex<Option<String>>,
    /// Decides what the network does.
    pub(crate) network_dice: Dice,
    /// Decides what programs do.
    pub(crate) program_dice: Dice,
}

/// What was counted, by kind and name.
#[derive(Debug, Default, Clone)]
pub(crate) struct Counts {
    pub(crate) faults: BTreeMap<&'static str, u64>,
    pub(crate) operations: BTreeMap<&'static str, u64>,
    pub(crate) checks: BTreeMap<&'static str, u64>,
}

#[derive(Default)]
struct State {
    now_ms: u64,
    next: u64,
    queue: BTreeMap<(u64, u64), Act>,
    ended: bool,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("now_ms", &self.now_ms()).finish_non_exhaustive()
    }
}

impl World {
    pub(crate) fn new(seed: u64, whole_log: bool) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            log: Mutex::new(EventLog::new(whole_log)),
            counts: Mutex::default(),
            violation: Mutex::default(),
            network_dice: Dice::new(seed, 1),
            program_dice: Dice::new(seed, 2),
        })
    }

    /// Milliseconds since the start of the run.
    pub(crate) fn now_ms(&self) -> u64 {
        lock(&self.state).now_ms
    }

    /// Has `act` happen in `delay_ms`.
    pub(crate) fn after(&self, delay_ms: u64, act: impl FnOnce() + Send + 'static) {
        let mut state = lock(&self.state);
        if !state.ended {
            let at = (state.now_ms + delay_ms, state.next);
            state.next += 1;
            state.queue.insert(at, Box::new(act));
        }
    }

    /// Moves time on by a step, and does what is due by then.
    pub(crate) fn step(&self) {
        lock(&self.state).now_ms += STEP_MS;
        while let Some(act) = self.next_due() {
            act();
        }
    }

    fn next_due(&self) -> Option<Act> {
        let mut state = lock(&self.state);
        let now_ms = state.now_ms;
        let first = state.queue.first_entry()?;
        (first.key().0 <= now_ms).then(|| first.remove())
    }

    /// Ends the run: nothing is to happen any more.
    pub(crate) fn end(&self) {
        let queue = {
            let mut state = lock(&self.state);
            state.ended = true;
            std::mem::take(&mut state.queue)
        };
        // Outside of the lock: what goes may want to have something happen.
        drop(queue);
    }

    pub(crate) fn note(&self, what: fmt::Arguments<'_>) {
        let now_ms = self.now_ms();
        lock(&self.log).write(now_ms, what);
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, EventLog> {
        lock(&self.log)
    }

    /// Says that a promise was broken. The first one counts.
    pub(crate) fn violate(&self, what: impl Into<String>) {
        let what = what.into();
        let mut violation = lock(&self.violation);
        if violation.is_none() {
            self.note(format_args!("VIOLATION {what}"));
            *violation = Some(what);
        }
    }

    pub(crate) fn violation(&self) -> Option<String> {
        lock(&self.violation).clone()
    }

    pub(crate) fn count_fault(&self, name: &'static str) {
        *lock(&self.counts).faults.entry(name).or_default() += 1;
    }

    pub(crate) fn count_operation(&self, name: &'static str) {
        *lock(&self.counts).operations.entry(name).or_default() += 1;
    }

    pub(crate) fn count_checks(&self, name: &'static str, by: u64) {
        *lock(&self.counts).checks.entry(name).or_default() += by;
    }

    pub(crate) fn counts(&self) -> Counts {
        lock(&self.counts).clone()
    }
}

/// A host's clock: the world's time, but running a little faster or slower, and with jumps of the wall clock.
#[derive(Debug)]
pub(crate) struct SimClock {
    world: Arc<World>,
    rate: u64,
    offset_ms: Mutex<i64>,
}

impl SimClock {
    /// A clock that shows `rate` seconds after a million of the world's.
    pub(crate) fn new(world: Arc<World>, rate: u64) -> Self {
        Self { world, rate, offset_ms: Mutex::new(0) }
    }

    /// What the host's own time is when the world's is `now_ms`.
    pub(crate) fn local_ms(&self, now_ms: u64) -> u64 {
        now_ms * self.rate / 1_000_000
    }

    /// Sets how far the wall clock is off.
    pub(crate) fn set_offset_ms(&self, offset_ms: i64) {
        *lock(&self.offset_ms) = offset_ms;
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> u64 {
        (EPOCH_MS + self.local_ms(self.world.now_ms())).saturating_add_signed(*lock(&self.offset_ms))
    }

    fn monotonic(&self) -> std::time::Duration {
        std::time::Duration::from_millis(self.local_ms(self.world.now_ms()))
    }
}

/// Randomness of a host.
#[derive(Debug)]
pub(crate) struct SimRandom(pub(crate) Dice);

impl Random for SimRandom {
    fn next_u64(&self) -> u64 {
        self.0.next_u64()
    }
}
