//! The time in which a run is measured.

use std::time::Duration;

use keevo_core::{Clock, SystemClock};

/// How long requests that were due within a window may still be sent after it.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);

/// A warm-up, and then a measured span, on a clock of its own.
#[derive(Debug)]
pub(crate) struct Window {
    clock: SystemClock,
    start: Duration,
    end: Duration,
}

impl Window {
    /// A window whose warm-up begins now.
    pub(crate) fn after(warm_up: Duration, measure: Duration) -> Self {
        let clock = SystemClock::new();
        let start = clock.monotonic() + warm_up;
        Self { clock, start, end: start + measure }
    }

    /// The time, on the clock of the window.
    pub(crate) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// When the measured span begins, on the clock of the window.
    pub(crate) fn began(&self) -> Duration {
        self.start
    }

    /// How long it is measured.
    pub(crate) fn measured(&self) -> Duration {
        self.end.saturating_sub(self.start)
    }

    /// How long until the warm-up is over.
    pub(crate) fn until_start(&self) -> Duration {
        self.start.saturating_sub(self.now())
    }

    /// How long until the end.
    pub(crate) fn until_end(&self) -> Duration {
        self.end.saturating_sub(self.now())
    }

    /// Whether `time` lies behind the warm-up.
    pub(crate) fn has_started_at(&self, time: Duration) -> bool {
        time >= self.start
    }

    /// Whether `time` lies so far behind the end that what is left of an open loop is given up.
    pub(crate) fn gives_up_at(&self, time: Duration) -> bool {
        time >= self.end + GIVE_UP_AFTER
    }

    /// Whether `time` lies behind the end.
    pub(crate) fn has_ended_at(&self, time: Duration) -> bool {
        time >= self.end
    }
}
