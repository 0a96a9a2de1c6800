//! The answer to a request on its way back: given, lost, or cut off with the host that owed it.

use std::sync::Arc;

use bytes::Bytes;
use keevo_core::{Error, ErrorKind, Result};
use tokio::sync::oneshot;

use super::{Fate, HostId, Wires};

/// When a dead connection is noticed at the soonest and at the latest, in milliseconds: keevod asks for a sign of life
/// every five seconds and waits as long for it.
const MISSED_MS: (u64, u64) = (5_000, 10_000);

/// Owed to the caller of a request. Dropping it is a connection reset: the caller hears that there is no answer.
pub(crate) struct Reply<T: Send + 'static> {
    answer_tx: Option<oneshot::Sender<Result<T>>>,
    wires: Wires,
    pub(crate) caller: HostId,
    callee: HostId,
    number: u64,
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
        let number = wires.next_number();
        (Self { answer_tx: Some(answer_tx), wires: wires.clone(), caller, callee, number, label }, answer_rx)
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
            Some(answer_tx) if silent => notice_later(&self.wires, self.callee, answer_tx),
            answer_tx => {
                self.answer_tx = answer_tx;
                self.send(Err(broke(self.callee)));
            }
        }
        self
    }

    fn send(&mut self, answer: Result<T>) {
        if let Some(answer_tx) = self.answer_tx.take() {
            transmit(&self.wires, self.callee, self.caller, self.label.clone(), answer_tx, answer);
        }
    }
}

fn transmit<T: Send + 'static>(
    wires: &Wires,
    from: HostId,
    to: HostId,
    label: String,
    answer_tx: oneshot::Sender<Result<T>>,
    answer: Result<T>,
) {
    let (world, lost_on) = (Arc::clone(&wires.world), wires.clone());
    wires.transmit(from, to, false, 0, move |fate| match fate {
        // A caller that has given up hears of nothing.
        Fate::Arrived => drop(answer_tx.send(answer)),
        Fate::Lost | Fate::Late => {
            world.note(format_args!("the answer to {label} is lost"));
            notice_later(&lost_on, from, answer_tx);
        }
    });
}

fn broke(callee: HostId) -> Error {
    Error::new(ErrorKind::OutcomeUnknown, format!("the connection to node {callee} broke"))
}

/// Nothing tells the caller that its connection is dead but the signs of life that it misses.
fn notice_later<T: Send + 'static>(wires: &Wires, callee: HostId, answer_tx: oneshot::Sender<Result<T>>) {
    let (low, high) = MISSED_MS;
    let missed_ms = wires.world.network_dice.between(low, high);
    // A caller that has given up by then hears of nothing.
    wires.world.after(missed_ms, move || drop(answer_tx.send(Err(broke(callee)))));
}

impl<T: Send + 'static> Drop for Reply<T> {
    fn drop(&mut self) {
        let Some(answer_tx) = self.answer_tx.take() else { return };
        let (wires, from, to, label) = (self.wires.clone(), self.callee, self.caller, self.label.clone());
        let message = format!("the connection to node {from} broke before the answer came");
        let reset = move || {
            transmit(&wires, from, to, label, answer_tx, Err(Error::new(ErrorKind::OutcomeUnknown, message)));
        };
        self.wires.at_end(self.number, Box::new(reset));
    }
}

/// What the event log says of an answer.
pub(crate) fn summary(answer: &Result<Bytes>) -> String {
    match answer {
        Ok(body) => format!("{} bytes #{:08x}", body.len(), crc32fast::hash(body)),
        Err(error) => format!("{:?}", error.kind()),
    }
}
