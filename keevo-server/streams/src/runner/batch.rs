//! Changes on their way to a target, gathered from the pages of all shards.

use keevo_core::Changes;

use crate::format::Outgoing;
use crate::places::Place;
use crate::spec::Sink;

/// A batch: changes, and how far they reach in each shard that has some.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) changes: Vec<Outgoing>,
    pub(super) places: Vec<Place>,
    pub(super) bytes: usize,
}

impl Batch {
    /// Takes a page in.
    pub(super) fn take(&mut self, sink: &Sink, page: &Changes) {
        for event in page.events.iter().filter(|event| event.key.partition.starts_with(&sink.prefix)) {
            let one = Outgoing::new(event, &sink.keyspace, sink.format);
            self.bytes += one.bytes();
            self.changes.push(one);
        }
        self.places.push(page.reached.into());
    }
}
