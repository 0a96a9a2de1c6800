//! Exactly once: a request under a request id takes place once, however often it was sent.
//!
//! ```text
//! ∀ partition p:  sum(p) = Σ { delta(r) : r sent to p }           every request was repeated until it was answered
//!              ∧  elements(p) = { element(r) : r sent to p }      each of them once
//!              ∧  the indexes of elements(p) are 1, 2, …, n       a sequence without gaps
//! ∀ request r answered twice:  both answers are the same
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use keevo_core::{ErrorKind, Result as Answer, Revision, Written};

use super::Verdict;
use crate::world::lock;

/// A request: what it adds, and what it was told.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) partition: u64,
    pub(crate) delta: u64,
    pub(crate) element: u64,
    /// The revision and the index that the answer gave.
    pub(crate) answer: Option<(Revision, u64)>,
}

/// All requests of a run. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Requests(Arc<Mutex<BTreeMap<(u64, u64, u64), Request>>>);

/// What a partition holds in the end.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) sum: u64,
    /// Index and element.
    pub(crate) elements: Vec<(u64, u64)>,
}

impl Requests {
    /// Whether the client has sent nothing to the partition yet.
    pub(crate) fn is_first(&self, client: u64, partition: u64) -> bool {
        self.next(client, partition) == 0
    }

    fn next(&self, client: u64, partition: u64) -> u64 {
        let range = (client, partition, 0)..=(client, partition, u64::MAX);
        lock(&self.0).range(range).next_back().map_or(0, |((_, _, sequence), _)| sequence + 1)
    }

    /// Notes a request before it is sent; gives its sequence.
    pub(crate) fn begin(&self, client: u64, partition: u64, delta: u64, element: u64) -> u64 {
        let sequence = self.next(client, partition);
        let request = Request { partition, delta, element, answer: None };
        lock(&self.0).insert((client, partition, sequence), request);
        sequence
    }

    /// Notes its answer.
    pub(crate) fn answered(&self, client: u64, partition: u64, sequence: u64, revision: Revision, assigned: &[i64]) {
        let index = assigned.last().and_then(|&index| u64::try_from(index).ok()).unwrap_or_default();
        if let Some(request) = lock(&self.0).get_mut(&(client, partition, sequence)) {
            request.answer = Some((revision, index));
        }
    }

    /// The requests that went to a partition.
    pub(crate) fn of(&self, partition: u64) -> Vec<Request> {
        lock(&self.0).values().filter(|request| request.partition == partition).cloned().collect()
    }
}

/// Judges a partition; gives how much was looked at.
pub(crate) fn judge(partition: u64, found: &Found, requests: &Requests) -> Result<u64, String> {
    let sent = requests.of(partition);
    let sum: u64 = sent.iter().map(|request| request.delta).sum();
    if found.sum != sum {
        return Err(format!("exactly once: the sum of partition {partition} is {}, and should be {sum}", found.sum));
    }
    let mut seen = BTreeSet::new();
    for (expected, (index, element)) in (1..).zip(&found.elements) {
        if *index != expected {
            return Err(format!(
                "exactly once: the list of partition {partition} goes from {} to {index}",
                expected - 1
            ));
        }
        if !seen.insert(*element) {
            return Err(format!("exactly once: element {element:#x} is twice in the list of partition {partition}"));
        }
    }
    let expected: BTreeSet<u64> = sent.iter().map(|request| request.element).collect();
    match seen.symmetric_difference(&expected).next() {
        Some(element) if seen.contains(element) => {
            Err(format!("exactly once: element {element:#x} of partition {partition} was never sent"))
        }
        Some(element) => Err(format!("exactly once: element {element:#x} of partition {partition} is missing")),
        None => Ok(u64::try_from(expected.len()).unwrap_or(u64::MAX)),
    }
}

/// Judges the answer to the repetition of an answered request.
pub(crate) fn repeated(client: u64, sequence: u64, first: &Written, again: &Answer<Written>) -> Verdict {
    match again {
        Ok(again) if again == first => Ok(()),
        Ok(again) => Err(format!(
            "exactly once: request {sequence} of client {client} was answered {first:?}, and then {again:?}"
        )),
        // No answer, or forgotten by now; neither says anything else.
        Err(error) if error.kind() == ErrorKind::OutcomeUnknown || error.kind().is_retryable() => Ok(()),
        Err(error) => Err(format!(
            "exactly once: request {sequence} of client {client} was answered {first:?}, and then refused: {error}"
        )),
    }
}
