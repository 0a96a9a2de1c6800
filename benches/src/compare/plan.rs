//! In which order the sides run.
//!
//! Invariant: within a round every side runs once, directly after one another, so that whatever else the machine does
//! meets all of them alike.

use std::time::Duration;

use crate::load::{Case, Load};

/// Who runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Keevo through keevo-client.
    Keevo,
    /// The peer through its own kind of client.
    Peer,
    /// Keevo through unary gRPC calls, for information.
    KeevoUnary,
}

/// What is to be compared.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) cases: Vec<Case>,
    pub(crate) clients: Vec<u32>,
    pub(crate) keys: u64,
    pub(crate) value_bytes: usize,
    pub(crate) warm_up: Duration,
    pub(crate) measure: Duration,
    pub(crate) rounds: u32,
    /// Whether Keevo also runs through unary calls.
    pub(crate) unary: bool,
    /// Requests a second that are due, all clients together; `None` = the loop is closed.
    pub(crate) open_per_s: Option<u32>,
}

impl Plan {
    /// Each case with each number of clients: one line of the result.
    pub(crate) fn lines(&self) -> Vec<(Case, u32)> {
        self.cases.iter().flat_map(|&case| self.clients.iter().map(move |&clients| (case, clients))).collect()
    }

    /// The sides in the order in which they run for one line, each with its round, from 0.
    pub(crate) fn order(&self) -> Vec<(u32, Side)> {
        let sides = [Some(Side::Keevo), Some(Side::Peer), self.unary.then_some(Side::KeevoUnary)];
        (0..self.rounds).flat_map(|round| sides.into_iter().flatten().map(move |side| (round, side))).collect()
    }

    /// The load of one run.
    pub(crate) fn load(&self, case: Case, clients: u32, round: u32) -> Load {
        let Self { keys, value_bytes, warm_up, measure, open_per_s, .. } = *self;
        Load { case, clients, keys, value_bytes, warm_up, measure, round, open_per_s }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(unary: bool) -> Plan {
        Plan {
            cases: vec![Case::Put, Case::Get],
            clients: vec![1, 64],
            keys: 1_000,
            value_bytes: 256,
            warm_up: Duration::from_secs(1),
            measure: Duration::from_secs(5),
            rounds: 2,
            unary,
            open_per_s: None,
        }
    }

    #[test]
    fn sides_take_turns_within_one_line() {
        let (keevo, peer, unary) = (Side::Keevo, Side::Peer, Side::KeevoUnary);
        assert_eq!(plan(false).order(), [(0, keevo), (0, peer), (1, keevo), (1, peer)]);
        assert_eq!(plan(true).order(), [(0, keevo), (0, peer), (0, unary), (1, keevo), (1, peer), (1, unary)]);
    }

    #[test]
    fn one_case_and_client_count_at_a_time() {
        let (put, get) = (Case::Put, Case::Get);
        assert_eq!(plan(true).lines(), [(put, 1), (put, 64), (get, 1), (get, 64)]);
        let load = plan(true).load(get, 64, 1);
        assert_eq!((load.case, load.clients, load.round, load.value_bytes), (get, 64, 1, 256));
    }
}
