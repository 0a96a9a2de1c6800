//! When to try again, and what to say when it is too late.
//!
//! Invariant: no call outlives its deadline by more than one wake-up. A call that gives up says what the last attempt
//! met with, never a kind that only a router understands; an attempt that ran out of time hides no missing quorum that
//! an attempt before it was told of.

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
    /// That a quorum is missing, unless something else was answered since.
    no_quorum: Option<Error>,
}

impl<'a> Retry<'a> {
    pub(crate) fn until(options: &'a ClientOptions, deadline: Instant) -> Self {
        Self { options, deadline, pause: options.pause_min, failed: 0, last: None, no_quorum: None }
    }

    /// When the call must be over.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// How long an attempt may take that starts now, and the deadline to tell the server, which is the same: what the
    /// server answers later, such as that a quorum is missing, nobody hears. Nothing once it is too late.
    pub(crate) fn attempt(&self) -> Option<(Duration, u32)> {
        let left = self.deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        let timeout = left.min(self.options.attempt_timeout);
        Some((timeout, u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX).max(1)))
    }

    /// Waits before the next attempt; fails with what to say when there is no time for one.
    pub(crate) async fn pause(&mut self, error: &Error) -> Result<(), Error> {
        self.failed += 1;
        match error.kind() {
            ErrorKind::NoQuorum => self.no_quorum = Some(error.clone()),
            ErrorKind::DeadlineExceeded | ErrorKind::Unavailable | ErrorKind::OutcomeUnknown => {}
            _ => self.no_quorum = None,
        }
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
        let attempts = self.failed.max(1);
        if let (ErrorKind::DeadlineExceeded, Some(told)) = (kind, &self.no_quorum) {
            let message = format!("{}; then {} (gave up after {attempts} attempts)", told.message(), error.message());
            return Error::new(ErrorKind::NoQuorum, message).with_source(error.clone());
        }
        Error::new(kind, format!("{} (gave up after {attempts} attempts)", error.message())).with_source(error.clone())
    }

    /// What to say when the deadline has passed before an attempt could start.
    pub(crate) fn too_late(&self) -> Error {
        match &self.last {
            Some(error) => self.gave_up(error),
            None => Error::new(ErrorKind::DeadlineExceeded, "the deadline passed before the request could be sent"),
        }
    }
}

/// Whether another attempt of a repeatable request, perhaps at another node, may fare better. What a node refuses is
/// repeated as its kind says; of what never left, a full queue of this client is told to the caller at once, who is
/// to slow down.
pub(crate) fn may_retry(fault: &Fault) -> bool {
    let kind = fault.error().kind();
    match fault {
        Fault::Lost(_) => true,
        Fault::NotSent(_) => kind != ErrorKind::ResourceExhausted && (kind.is_retryable() || kind == ErrorKind::Closed),
        Fault::Refused(_) => {
            kind.is_retryable()
                || matches!(kind, ErrorKind::Closed | ErrorKind::OutcomeUnknown | ErrorKind::DeadlineExceeded)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> ClientOptions {
        ClientOptions { pause_min: Duration::from_millis(1), ..ClientOptions::default() }
    }

    async fn told(errors: &[ErrorKind]) -> ErrorKind {
        let options = options();
        let mut retry = Retry::until(&options, Instant::now() + Duration::from_mins(1));
        let (last, before) = errors.split_last().expect("some");
        for kind in before {
            retry.pause(&Error::new(*kind, "an attempt")).await.expect("there is time");
        }
        retry.gave_up(&Error::new(*last, "the last attempt")).kind()
    }

    #[tokio::test]
    async fn a_timeout_hides_no_missing_quorum() {
        use ErrorKind::{DeadlineExceeded, NoQuorum, NotLeader, Unavailable};
        assert_eq!(told(&[NoQuorum, DeadlineExceeded]).await, NoQuorum);
        assert_eq!(told(&[NoQuorum, DeadlineExceeded, DeadlineExceeded]).await, NoQuorum);
        assert_eq!(told(&[NoQuorum, NotLeader, DeadlineExceeded]).await, DeadlineExceeded, "it has leaders again");
        assert_eq!(told(&[DeadlineExceeded]).await, DeadlineExceeded);
        assert_eq!(told(&[NoQuorum, Unavailable]).await, Unavailable);
        assert_eq!(told(&[NotLeader]).await, Unavailable, "no kind that only a router understands");
    }

    #[tokio::test]
    async fn the_server_is_told_no_more_time_than_the_attempt_has() {
        let options = ClientOptions { attempt_timeout: Duration::from_millis(300), ..options() };
        let retry = Retry::until(&options, Instant::now() + Duration::from_mins(1));
        assert_eq!(retry.attempt(), Some((Duration::from_millis(300), 300)));
        let late = Retry::until(&options, Instant::now());
        assert_eq!(late.attempt(), None);
    }
}
