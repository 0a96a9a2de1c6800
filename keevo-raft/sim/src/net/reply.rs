//! The answer to a request on its way back: given, lost, or cut off with the host that owed it.

use bytes::Bytes;
use keevo_core::{Error, ErrorKind, Result};
use tokio::sync::oneshot;

use super::{Fate, HostId, Wires};

/// Owed to the caller of a request. Dropping it is a connection reset: the caller hears that there is no answer.
pub(crate) struct Reply<T: Send + 'static> {
    answer_tx: Option<oneshot::Sender<Result<T>>>,
    wires: Wires,
    pub(crate) caller: HostId,
    callee: HostId,
    /// Names the request in the event log.
    pub(crate) label: String,
}

impl<T: Send + 'static> Reply<T> {
    pub(crate) fn new(
        wires: &Wires,
        caller: HostId,
        callee: HostId,
        label: String,
    ) -> (Self, oneshot::Receiver<Result<T>>) {
        let (answer_tx, answer_rx) = oneshot::channel();
        wires.world.note(format_args!("{label}"));
        (Self { answer_tx: Some(answer_tx), wires: wires.clone(), caller, callee, label }, answer_rx)
    }

    /// Sends the answer back.
    pub(crate) fn answer(mut self, answer: Result<T>, summary: &str) {
        self.wires.world.note(format_args!("{} is answered: {summary}", self.label));
        self.send(answer);
    }

    /// Nobody is there: the request certainly had no effect.
    pub(crate) fn refuse(mut self) {
        let message = format!("node {} cannot be reached", self.callee);
        self.send(Err(Error::new(ErrorKind::Unavailable, message)));
    }

    /// The request is lost: the caller hears of a broken connection, or of nothing at all.
    pub(crate) fn lose(self) {
        self.wires.world.note(format_args!("{} is lost", self.label));
        drop(self.cut_off());
    }

    /// The connection of the request broke: the caller hears of that, or of nothing at all. What is left tells nobody.
    pub(crate) fn cut_off(mut self) -> Self {
        let silent = self.wires.world.network_dice.chance(50);
        match self.answer_tx.take() {
            Some(answer_tx) if silent => self.wires.world.bury(answer_tx),
            answer_tx => {
                self.answer_tx = answer_tx;
                let message = format!("the connection to node {} broke", self.callee);
                self.send(Err(Error::new(ErrorKind::OutcomeUnknown, message)));
            }
        }
        self
    }

    fn send(&mut self, answer: Result<T>) {
        let Some(answer_tx) = self.answer_tx.take() else { return };
        let (wires, label) = (self.wires.clone(), self.label.clone());
        self.wires.transmit(self.callee, self.caller, false, 0, move |fate| match fate {
            // A caller that has given up hears of nothing.
            Fate::Arrived => drop(answer_tx.send(answer)),
            Fate::Lost | Fate::Late => {
                wires.world.note(format_args!("the answer to {label} is lost"));
                wires.world.bury(answer_tx);
            }
        });
    }
}

impl<T: Send + 'static> Drop for Reply<T> {
    fn drop(&mut self) {
        let message = format!("the connection to node {} broke before the answer came", self.callee);
        self.send(Err(Error::new(ErrorKind::OutcomeUnknown, message)));
    }
}

/// What the event log says of an answer.
pub(crate) fn summary(answer: &Result<Bytes>) -> String {
    match answer {
        Ok(body) => format!("{} bytes #{:08x}", body.len(), crc32fast::hash(body)),
        Err(error) => format!("{:?}", error.kind()),
    }
}
