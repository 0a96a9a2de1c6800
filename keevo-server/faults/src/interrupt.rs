//! Waiting for a signal that asks the program to end.

use keevo_core::{Error, ErrorKind, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGINT (Ctrl-C), SIGTERM and SIGHUP; once made, none of them ends the program by itself any more.
#[derive(Debug)]
pub(crate) struct Interrupt {
    signals: [Signal; 3],
}

impl Interrupt {
    /// Catches the signals from now on. `Io`: the operating system refuses that.
    pub(crate) fn catch() -> Result<Self> {
        let catch = |kind| {
            signal(kind).map_err(|error| Error::new(ErrorKind::Io, "signals cannot be caught").with_source(error))
        };
        Ok(Self {
            signals: [catch(SignalKind::interrupt())?, catch(SignalKind::terminate())?, catch(SignalKind::hangup())?],
        })
    }

    /// Returns when one of them has arrived.
    pub(crate) async fn arrived(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
