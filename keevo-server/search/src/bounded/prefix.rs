//! The messages with a word that begins so.
//!
//! Invariant: all words of the app that begin so are looked for, however many there are; only the time of the ask bounds
//! them. Were they the most frequent ones alone, then what is found in one channel would depend on the words of others.

use std::sync::Arc;

use tantivy::query::{BitSetDocSet, ConstScorer, EmptyScorer, EnableScoring, Explanation, Query, Scorer, Weight};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{BitSet, DocId, Score, SegmentReader};

use super::{Bounded, Deadline, Steps, unexplained};

/// How well a message with such a word matches: as one of usual length matches a word that it has once. Which words it has,
/// and how often, does not count.
const SCORE: Score = 6.5;

/// A word that begins so. Takes one bit of memory for each message of a file of the index, while that is looked at.
#[derive(Debug, Clone)]
pub(crate) struct Prefix {
    field: Field,
    start: Vec<u8>,
    deadline: Arc<Deadline>,
}

impl Prefix {
    /// Words whose terms begin with `start`.
    pub(crate) fn new(field: Field, start: Vec<u8>, deadline: &Arc<Deadline>) -> Self {
        Self { field, start, deadline: Arc::clone(deadline) }
    }
}

impl Query for Prefix {
    fn weight(&self, _: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(PrefixWeight(self.clone())))
    }
}

struct PrefixWeight(Prefix);

impl Weight for PrefixWeight {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let Prefix { field, start, deadline } = &self.0;
        let index = reader.inverted_index(*field)?;
        let mut messages = BitSet::with_max_value(reader.max_doc());
        let mut steps = Steps::new(deadline);
        let mut words = index.terms().range().ge(start).into_stream()?;
        while let Some((word, info)) = words.next() {
            if !word.starts_with(start) {
                break;
            }
            let mut blocks = index.read_block_postings_from_terminfo(info, IndexRecordOption::Basic)?;
            while !blocks.docs().is_empty() {
                if !steps.go_on() {
                    return Ok(Box::new(EmptyScorer));
                }
                for message in blocks.docs() {
                    messages.insert(*message);
                }
                blocks.advance();
            }
        }
        let scorer = ConstScorer::new(BitSetDocSet::from(messages), boost * SCORE);
        Ok(Box::new(Bounded::new(Box::new(scorer), deadline)))
    }

    fn explain(&self, _: &SegmentReader, _: DocId) -> tantivy::Result<Explanation> {
        Err(unexplained())
    }
}
