//! The state of the links between hosts: which are cut, held or slow, and how often their connections broke.

use std::collections::{BTreeMap, BTreeSet};

use super::HostId;
use crate::random::Dice;
use crate::world::Act;

/// How many bytes a link carries in a millisecond.
const BYTES_PER_MS: u64 = 20_000;

/// How a connection broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// What was on its way may still come.
    Softly,
    /// An end of it is gone.
    Hard,
}

#[derive(Debug, Clone, Copy, Default)]
struct Connection {
    /// How often it was made anew.
    number: u64,
    /// Connections before this one had an end that is gone.
    gone_below: u64,
    /// When the last message arrives.
    last_ms: u64,
}

/// The links of a network.
#[derive(Default)]
pub(crate) struct Links {
    connections: BTreeMap<(HostId, HostId), Connection>,
    /// Links that carry nothing; `true` = whoever sends is told at once.
    cut: BTreeMap<(HostId, HostId), bool>,
    held: BTreeSet<(HostId, HostId)>,
    held_back: Vec<Act>,
    /// How many of a thousand messages break their connection.
    pub(crate) loss_per_mille: u64,
    /// The shortest and the longest delay, in milliseconds.
    pub(crate) delay: (u64, u64),
    /// What slow hosts add to the longest delay.
    pub(crate) slow: BTreeMap<HostId, u64>,
}

impl Links {
    /// How long a message takes.
    pub(crate) fn delay_ms(&self, from: HostId, to: HostId, bytes: usize, dice: &Dice) -> u64 {
        let extra = [from, to].iter().filter_map(|host| self.slow.get(host)).max().copied().unwrap_or_default();
        let transfer = u64::try_from(bytes).unwrap_or(u64::MAX) / BYTES_PER_MS;
        dice.between(self.delay.0, self.delay.1 + extra) + transfer
    }

    /// The delay of a message that must not overtake the one before it.
    pub(crate) fn in_order(&mut self, from: HostId, to: HostId, now_ms: u64, delay_ms: u64) -> u64 {
        let connection = self.connections.entry((from, to)).or_default();
        connection.last_ms = connection.last_ms.max(now_ms + delay_ms);
        connection.last_ms - now_ms
    }

    /// The connection that a message travels on.
    pub(crate) fn connection(&self, from: HostId, to: HostId) -> u64 {
        self.connections.get(&(from, to)).map_or(0, |connection| connection.number)
    }

    /// Whether the connection with that number has broken since.
    pub(crate) fn broken(&self, from: HostId, to: HostId, number: u64) -> Option<Broken> {
        let connection = self.connections.get(&(from, to)).copied().unwrap_or_default();
        if number < connection.gone_below {
            return Some(Broken::Hard);
        }
        (number < connection.number).then_some(Broken::Softly)
    }

    /// Breaks a connection: the next message starts a new one.
    pub(crate) fn break_connection(&mut self, from: HostId, to: HostId) {
        let connection = self.connections.entry((from, to)).or_default();
        connection.number += 1;
        connection.last_ms = 0;
    }

    /// Breaks all connections of a host that is gone.
    pub(crate) fn break_all(&mut self, host: HostId) {
        for ((from, to), connection) in &mut self.connections {
            if *from == host || *to == host {
                connection.number += 1;
                connection.gone_below = connection.number;
                connection.last_ms = 0;
            }
        }
    }

    /// Cuts what `from` sends to `to`; the other direction stays.
    pub(crate) fn cut(&mut self, from: HostId, to: HostId, refuses: bool) {
        self.cut.insert((from, to), refuses);
    }

    /// Mends a link.
    pub(crate) fn mend(&mut self, from: HostId, to: HostId) {
        self.cut.remove(&(from, to));
    }

    /// Mends all links and makes them quick; held messages stay until [`Links::release`].
    pub(crate) fn mend_all(&mut self) {
        self.cut.clear();
        self.slow.clear();
        self.loss_per_mille = 0;
    }

    pub(crate) fn is_cut(&self, from: HostId, to: HostId) -> bool {
        self.cut.contains_key(&(from, to))
    }

    /// Whether whoever sends is told at once that the link is cut.
    pub(crate) fn refuses(&self, from: HostId, to: HostId) -> bool {
        self.cut.get(&(from, to)).copied().unwrap_or_default()
    }

    /// From now on messages wait.
    pub(crate) fn hold(&mut self, from: HostId, to: HostId) {
        self.held.insert((from, to));
    }

    pub(crate) fn is_held(&self, from: HostId, to: HostId) -> bool {
        self.held.contains(&(from, to))
    }

    pub(crate) fn hold_back(&mut self, act: Act) {
        self.held_back.push(act);
    }

    /// Ends all holds; gives what waited, in its order.
    pub(crate) fn release(&mut self) -> Vec<Act> {
        self.held.clear();
        std::mem::take(&mut self.held_back)
    }
}
