//! When to try again, and what to say when it is too late.
//!
//! Invariant: no call outlives its deadline by more than one wake-up. A call that gives up says what the last attempt
//! met with, never a kind that only a router understands.

use std::time::Duration;

use keevo_core::{Error, ErrorKind};
use tokio::time::Instant;

use crate::options::ClientOptions;
use crate::pipe::Fault;

/// The attempts of one call.
#[derive(Debug)]
pub(crate) struct Retry<'a> {
    options: &'a ClientOptions,
    deadline: Instant,
    pause: Duration,
    /// How many attempts failed.
    pub(crate) failed: usize,
    /// What the last of them met with.
    last: Option<Error>,
}

impl<'a> Retry<'a> {
    pub(crate) fn until(options: &'a ClientOptions, deadline: Instant) -> Self {
        Self { options, deadline, pause: options.pause_min, failed: 0, last: None }
    }

    /// When the call must be over.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// How long an attempt may take that starts now, and the deadline to tell the server; nothing once it is too late.
    pub(crate) fn attempt(&self) -> Option<(Duration, u32)> {
        let left = self.deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        let left_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1);
        Some((left.min(self.options.attempt_timeout), left_ms))
    }

    /// Waits before the next attempt; fails with what to say when there is no time for one.
    pub(crate) async fn pause(&mut self, error: &Error) -> Result<(), Error> {
        self.failed += 1;
        let half = u64::try_from(self.pause.as_micros() / 2).unwrap_or(u64::MAX).max(1);
        let pause = self.pause.saturating_sub(Duration::from_micros(self.options.random.next_u64() % half));
        self.pause = (self.pause * 2).min(self.options.pause_max);
        if Instant::now() + pause >= self.deadline {
            return Err(self.gave_up(error));
        }
        self.last = Some(error.clone());
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// What to say at the end of the attempts.
    fn gave_up(&self, error: &Error) -> Error {
        let kind = match error.kind() {
            ErrorKind::NotLeader | ErrorKind::ShardMoved | ErrorKind::Closed | ErrorKind::OutcomeUnknown => {
                ErrorKind::Unavailable
            }
            kind => kind,
        };
        let message = format!("{} (gave up after {} attempts)", error.message(), self.failed.max(1));
        Error::new(kind, message).with_source(error.clone())
    }

    /// What to say when the deadline has passed before an attempt could start.
    pub(crate) fn too_late(&self) -> Error {
        match &self.last {
            Some(error) => self.gave_up(error),
            None => Error::new(ErrorKind::DeadlineExceeded, "the deadline passed before the request could be sent"),
        }
    }
}

/// Whether another attempt of a repeatable request, perhaps at another node, may fare better.
pub(crate) fn may_retry(fault: &Fault) -> bool {
    match fault {
        Fault::Lost(_) => true,
        Fault::Refused(error) | Fault::NotSent(error) => matches!(
            error.kind(),
            ErrorKind::NotLeader
                | ErrorKind::ShardMoved
                | ErrorKind::Unavailable
                | ErrorKind::NoQuorum
                | ErrorKind::Closed
                | ErrorKind::OutcomeUnknown
        ),
    }
}
