//! Who follows what of a shard.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use keevo_core::{CommitEvent, Cursor, Error};

use super::queue::Queue;

/// What is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::watches) enum Interest {
    /// A partition.
    Partition(Bytes),
    /// All partitions that begin so.
    Prefix(Bytes),
}

impl Interest {
    /// Whether changes of a partition are of interest.
    pub(in crate::watches) fn covers(&self, partition: &Bytes) -> bool {
        match self {
            Self::Partition(one) => one == partition,
            Self::Prefix(prefix) => partition.starts_with(prefix),
        }
    }
}

/// The queues of those who follow.
#[derive(Debug, Default)]
pub(super) struct Followers {
    /// By partition: there may be ten thousand.
    narrow: BTreeMap<Bytes, Vec<Arc<Queue>>>,
    /// By prefix: there are few.
    wide: Vec<(Bytes, Arc<Queue>)>,
}

impl Followers {
    pub(super) fn is_empty(&self) -> bool {
        self.narrow.is_empty() && self.wide.is_empty()
    }

    pub(super) fn add(&mut self, interest: &Interest, queue: &Arc<Queue>) {
        match interest {
            Interest::Partition(one) => self.narrow.entry(one.clone()).or_default().push(Arc::clone(queue)),
            Interest::Prefix(prefix) => self.wide.push((prefix.clone(), Arc::clone(queue))),
        }
    }

    pub(super) fn remove(&mut self, interest: &Interest, queue: &Arc<Queue>) {
        match interest {
            Interest::Partition(one) => {
                let Some(queues) = self.narrow.get_mut(one) else { return };
                queues.retain(|other| !Arc::ptr_eq(other, queue));
                if queues.is_empty() {
                    self.narrow.remove(one);
                }
            }
            Interest::Prefix(_) => self.wide.retain(|(_, other)| !Arc::ptr_eq(other, queue)),
        }
    }

    /// Gives a change to those who follow it; queues that have ended go.
    pub(super) fn give(&mut self, event: &CommitEvent) {
        if let Some(queues) = self.narrow.get_mut(&event.key.partition) {
            queues.retain(|queue| queue.push(event));
            if queues.is_empty() {
                self.narrow.remove(&event.key.partition);
            }
        }
        self.wide.retain(|(prefix, queue)| !event.key.partition.starts_with(prefix) || queue.push(event));
    }

    /// Ends all: they start anew, behind `upto`, or hear of the error; with both, only those hear of it that have come no further.
    pub(super) fn end_all(&mut self, error: Option<&Error>, upto: Option<Cursor>) {
        let wide = std::mem::take(&mut self.wide).into_iter().map(|(_, queue)| queue);
        for queue in std::mem::take(&mut self.narrow).into_values().flatten().chain(wide) {
            queue.end(error.map(|error| Error::new(error.kind(), error.message().to_owned())), upto);
        }
    }
}
