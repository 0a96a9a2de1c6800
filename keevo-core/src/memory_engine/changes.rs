//! The model's retained changes, which watches read.
//!
//! Invariant: what is retained is a gapless tail of the changes; a reader before it is told so.

use std::collections::VecDeque;

use crate::error::{Error, ErrorKind, Result};
use crate::ids::Revision;
use crate::key::Key;
use crate::watch::Change;

/// The most changes that are retained, however few the entries: one fan-out is thousands.
const CHANGES_MAX: usize = 1 << 20;

/// A place in the sequence of changes: after the change at (revision, offset).
pub(super) type Position = (Revision, u32);

#[derive(Debug)]
pub(super) struct Changes {
    entries: VecDeque<(Revision, Vec<(Key, Change)>)>,
    entries_max: usize,
    held: usize,
    /// The last change that was dropped.
    dropped: Option<Position>,
}

impl Changes {
    pub(super) fn new(entries_max: usize) -> Self {
        Self { entries: VecDeque::new(), entries_max, held: 0, dropped: None }
    }

    /// Adds the changes of one write and drops the oldest beyond the bounds.
    pub(super) fn push(&mut self, revision: Revision, changes: Vec<(Key, Change)>) {
        if changes.is_empty() {
            return;
        }
        self.held += changes.len();
        self.entries.push_back((revision, changes));
        while self.entries.len() > self.entries_max || (self.held > CHANGES_MAX && self.entries.len() > 1) {
            if let Some((revision, changes)) = self.entries.pop_front() {
                self.held -= changes.len();
                self.dropped = Some((revision, offset(changes.len() - 1)));
            }
        }
    }

    /// Refuses a position before the retained changes.
    pub(super) fn check(&self, position: Position) -> Result<()> {
        match self.dropped {
            Some(dropped) if position < dropped => Err(Error::new(
                ErrorKind::CursorCompacted,
                format!("changes up to revision {} are gone, the cursor is at {}", dropped.0, position.0),
            )),
            _ => Ok(()),
        }
    }

    /// The changes after `position`, each with its own position.
    pub(super) fn after(&self, position: Position) -> impl Iterator<Item = (Position, &Key, &Change)> {
        let first = self.entries.partition_point(|(revision, _)| *revision < position.0);
        self.entries
            .range(first..)
            .flat_map(|(revision, changes)| {
                changes.iter().enumerate().map(|(at, (key, change))| ((*revision, offset(at)), key, change))
            })
            .filter(move |(at, _, _)| *at > position)
    }
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).expect("a write has fewer changes than 2^32: the limits see to it")
}
