//! Lease safety: reads served under a lease are linearizable, and so is everything else done to a register.
//!
//! ```text
//! ∀ register x:  ∃ total order < on the operations on x, with those of unknown outcome in it or left out:
//!                a ended before b began  ⇒  a < b
//!                ∧ every operation gives what a register gives that does them one after the other in that order
//! ```
//!
//! The search is Wing and Gong's with Lowe's memory of configurations (done operations, value). It gives up after
//! [`STEPS_MAX`] steps; not to know is a failure.

use std::collections::BTreeSet;

use super::Verdict;
use crate::history::{Act, Operation};

/// How many configurations are looked at.
const STEPS_MAX: usize = 2_000_000;

/// Judges the operations on one register, which is absent at first.
pub(crate) fn judge(name: &str, operations: &[Operation]) -> Verdict {
    match Search::new(operations).run() {
        Outcome::Linearizable => Ok(()),
        Outcome::Unknown => Err(format!("lease safety: whether register {name} is linearizable could not be decided")),
        Outcome::Not(deepest) => {
            let near: Vec<String> = deepest.iter().map(told).collect();
            Err(format!("lease safety: register {name} is not linearizable: no order explains {}", near.join("; ")))
        }
    }
}

fn told(operation: &Operation) -> String {
    let Operation { client, began_ms, ended_ms, act } = operation;
    let end = ended_ms.map_or_else(|| "?".to_owned(), |end| end.to_string());
    format!("client {client} {act:?} [{began_ms}, {end}]")
}

#[derive(Debug)]
enum Outcome {
    Linearizable,
    Unknown,
    /// The operations that stood next in line where the search came furthest.
    Not(Vec<Operation>),
}

/// What a register holds; `None` = it is absent.
type Value = Option<u64>;
/// Done operations as bits, and the value after them.
type Configuration = (Vec<u64>, Value);

struct Search<'a> {
    operations: &'a [Operation],
    seen: BTreeSet<Configuration>,
    deepest: (usize, Vec<Operation>),
}

impl<'a> Search<'a> {
    fn new(operations: &'a [Operation]) -> Self {
        Self { operations, seen: BTreeSet::new(), deepest: (0, Vec::new()) }
    }

    /// Looks at configurations, newest first, until one has done all that is known to have happened.
    fn run(mut self) -> Outcome {
        let words = self.operations.len().div_ceil(64);
        let mut open: Vec<Configuration> = vec![(vec![0; words], None)];
        while let Some((done, value)) = open.pop() {
            if self.seen.len() >= STEPS_MAX {
                return Outcome::Unknown;
            }
            let next = self.next(&done);
            let finished = self.operations.iter().enumerate().all(|(at, one)| one.ended_ms.is_none() || has(&done, at));
            if finished {
                return Outcome::Linearizable;
            }
            let depth = (0..self.operations.len()).filter(|&at| has(&done, at)).count();
            if depth >= self.deepest.0 {
                let in_line = next.iter().filter_map(|&at| self.operations.get(at).copied()).collect();
                self.deepest = (depth, in_line);
            }
            for at in next.into_iter().rev() {
                let Some(operation) = self.operations.get(at) else { continue };
                let Some(after) = apply(value, operation.act) else { continue };
                let configuration = (with(&done, at), after);
                if self.seen.insert(configuration.clone()) {
                    open.push(configuration);
                }
            }
        }
        Outcome::Not(self.deepest.1)
    }

    /// The operations that may come next: those that began before every other open one had ended.
    fn next(&self, done: &[u64]) -> Vec<usize> {
        let open = || self.operations.iter().enumerate().filter(|(at, _)| !has(done, *at));
        let first_end = open().filter_map(|(_, one)| one.ended_ms).min().unwrap_or(u64::MAX);
        // In one step of the simulation nothing is before or after.
        let mut next: Vec<usize> = open().filter(|(_, one)| one.began_ms <= first_end).map(|(at, _)| at).collect();
        // What was answered first: what may never have happened is tried only where it is needed.
        next.sort_by_key(|&at| self.operations.get(at).is_none_or(|one| one.ended_ms.is_none()));
        next
    }
}

fn has(done: &[u64], at: usize) -> bool {
    done.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
}

fn with(done: &[u64], at: usize) -> Vec<u64> {
    let mut done = done.to_vec();
    if let Some(word) = done.get_mut(at / 64) {
        *word |= 1 << (at % 64);
    }
    done
}

/// The value after an operation, if the register can have done it.
fn apply(value: Value, act: Act) -> Option<Value> {
    match act {
        Act::Read(read) => (read == value).then_some(value),
        Act::Write(new) => Some(Some(new)),
        Act::Swap(from, to) => (value == Some(from)).then_some(Some(to)),
        Act::SwapRefused(from) => (value != Some(from)).then_some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(client: u64, began_ms: u64, ended_ms: impl Into<Option<u64>>, act: Act) -> Operation {
        Operation { client, began_ms, ended_ms: ended_ms.into(), act }
    }

    #[test]
    fn an_order_that_explains_everything_is_found() {
        let history = [
            op(1, 0, 10, Act::Write(1)),
            op(2, 5, 30, Act::Read(None)),
            op(3, 12, 20, Act::Swap(1, 2)),
            op(1, 25, 40, Act::Read(Some(2))),
            op(2, 50, 60, Act::SwapRefused(1)),
        ];
        assert_eq!(judge("x", &history), Ok(()));
    }

    #[test]
    fn a_stale_read_is_found() {
        let history = [op(1, 0, 10, Act::Write(1)), op(1, 20, 30, Act::Write(2)), op(2, 40, 50, Act::Read(Some(1)))];
        let complaint = judge("x", &history).expect_err("the read is stale");
        assert!(complaint.contains("client 2 Read(Some(1)) [40, 50]"), "{complaint}");
    }

    #[test]
    fn a_write_of_unknown_outcome_may_show_late_or_never_but_not_come_and_go() {
        let unknown = op(1, 0, None, Act::Write(1));
        let late = [unknown, op(2, 20, 30, Act::Read(None)), op(2, 40, 50, Act::Read(Some(1)))];
        assert_eq!(judge("x", &late), Ok(()));
        let never = [unknown, op(2, 20, 30, Act::Read(None)), op(2, 40, 50, Act::Read(None))];
        assert_eq!(judge("x", &never), Ok(()));
        let gone = [unknown, op(2, 20, 30, Act::Read(Some(1))), op(2, 40, 50, Act::Read(None))];
        assert!(judge("x", &gone).is_err());
    }

    #[test]
    fn many_operations_of_unknown_outcome_are_decided() {
        let mut history: Vec<Operation> = (0..40).map(|n| op(n, n, None, Act::Write(n))).collect();
        history.extend((0..40).map(|n| op(99, 100 + 10 * n, 105 + 10 * n, Act::Read(Some(n)))));
        assert_eq!(judge("x", &history), Ok(()));
    }
}
