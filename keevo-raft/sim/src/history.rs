//! What clients did to registers and what they were told, with the times of both.

use std::sync::{Arc, Mutex};

use crate::world::lock;

/// An operation on a register that holds numbers; `None` = absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Read(Option<u64>),
    Write(u64),
    /// Replaces the first number by the second.
    Swap(u64, u64),
    /// Was refused, since the register did not hold the number.
    SwapRefused(u64),
}

/// One operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) client: u64,
    pub(crate) began_ms: u64,
    /// `None` = whether it took place, or will, is not known.
    pub(crate) ended_ms: Option<u64>,
    pub(crate) act: Act,
}

/// The operations on one register. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct History(Arc<Mutex<Vec<Operation>>>);

impl History {
    pub(crate) fn add(&self, operation: Operation) {
        lock(&self.0).push(operation);
    }

    /// All of them, in the order of their beginnings.
    pub(crate) fn operations(&self) -> Vec<Operation> {
        let mut all = lock(&self.0).clone();
        all.sort_by_key(|operation| operation.began_ms);
        all
    }
}
