//! The messages with words one right behind the other.

use std::cmp::Ordering;
use std::sync::Arc;

use tantivy::fieldnorm::FieldNormReader;
use tantivy::postings::{Postings, SegmentPostings};
use tantivy::query::{Bm25Weight, EmptyScorer, EnableScoring, Explanation, Query, Scorer, Weight};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocId, DocSet, Score, SeekDangerResult, SegmentReader, TERMINATED, Term};

use super::{Deadline, Steps, unexplained};

/// These words, one right behind the other. With scores as tantivy's own phrases have.
#[derive(Debug, Clone)]
pub(crate) struct Phrase {
    terms: Vec<Term>,
    deadline: Arc<Deadline>,
}

impl Phrase {
    pub(crate) fn new(terms: Vec<Term>, deadline: &Arc<Deadline>) -> Self {
        Self { terms, deadline: Arc::clone(deadline) }
    }
}

impl Query for Phrase {
    fn weight(&self, scoring: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        let similarity = match scoring {
            EnableScoring::Enabled { statistics_provider, .. } => {
                Some(Bm25Weight::for_terms(statistics_provider, &self.terms)?)
            }
            EnableScoring::Disabled { .. } => None,
        };
        Ok(Box::new(PhraseWeight { terms: self.terms.clone(), similarity, deadline: Arc::clone(&self.deadline) }))
    }
}

struct PhraseWeight {
    terms: Vec<Term>,
    similarity: Option<Bm25Weight>,
    deadline: Arc<Deadline>,
}

impl PhraseWeight {
    /// At no message yet; `None` where a word stands in no message.
    fn open(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Option<PhraseScorer>> {
        let mut words = Vec::with_capacity(self.terms.len());
        let mut norms = None;
        // So much is added to where a word stands that all of a phrase stand at the same place.
        for (shift, term) in (0..self.terms.len()).rev().zip(&self.terms) {
            let index = reader.inverted_index(term.field())?;
            let Some(postings) = index.read_postings(term, IndexRecordOption::WithFreqsAndPositions)? else {
                return Ok(None);
            };
            words.push((u32::try_from(shift).unwrap_or(u32::MAX), postings));
            if norms.is_none() && self.similarity.is_some() {
                norms = reader.fieldnorms_readers().get_field(term.field())?;
            }
        }
        words.sort_by_key(|(_, postings)| postings.doc_freq());
        Ok(Some(PhraseScorer {
            words,
            doc: 0,
            count: 0,
            steps: Steps::new(&self.deadline),
            similarity: self.similarity.as_ref().map(|similarity| similarity.boost_by(boost)),
            norms: norms.unwrap_or_else(|| FieldNormReader::constant(reader.max_doc(), 1)),
            places: Vec::new(),
            others: Vec::new(),
        }))
    }
}

impl Weight for PhraseWeight {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let Some(mut scorer) = self.open(reader, boost)? else { return Ok(Box::new(EmptyScorer)) };
        scorer.settle(0);
        Ok(Box::new(scorer))
    }

    fn scorer_danger(
        &self,
        reader: &SegmentReader,
        target: DocId,
        boost: Score,
    ) -> tantivy::Result<(SeekDangerResult, Box<dyn Scorer>)> {
        let Some(mut scorer) = self.open(reader, boost)? else {
            return Ok((SeekDangerResult::SeekLowerBound(TERMINATED), Box::new(EmptyScorer)));
        };
        let at = scorer.look_at(target);
        Ok((at, Box::new(scorer)))
    }

    fn explain(&self, _: &SegmentReader, _: DocId) -> tantivy::Result<Explanation> {
        Err(unexplained())
    }
}

struct PhraseScorer {
    /// The words, the rarest first, each with what is added to its places.
    words: Vec<(u32, SegmentPostings)>,
    doc: DocId,
    /// How often the phrase stands in `doc`.
    count: u32,
    steps: Steps,
    similarity: Option<Bm25Weight>,
    norms: FieldNormReader,
    /// Kept between messages, so that no memory is asked for with each.
    places: Vec<u32>,
    others: Vec<u32>,
}

impl PhraseScorer {
    /// Goes to the first message from `target` on that has the phrase.
    fn settle(&mut self, mut target: DocId) -> DocId {
        while target < TERMINATED {
            match self.look_at(target) {
                SeekDangerResult::Found => return self.doc,
                SeekDangerResult::SeekLowerBound(next) => target = next,
            }
        }
        self.doc = TERMINATED;
        TERMINATED
    }

    /// Whether the message `target` has the phrase; if not, one before which there is none.
    fn look_at(&mut self, target: DocId) -> SeekDangerResult {
        if target >= TERMINATED || !self.steps.go_on() {
            return SeekDangerResult::SeekLowerBound(TERMINATED);
        }
        for (_, postings) in &mut self.words {
            let doc = if postings.doc() < target { postings.seek(target) } else { postings.doc() };
            if doc > target {
                return SeekDangerResult::SeekLowerBound(doc);
            }
        }
        self.count = self.count_here();
        if self.count == 0 {
            return SeekDangerResult::SeekLowerBound(target + 1);
        }
        self.doc = target;
        SeekDangerResult::Found
    }

    /// How often the phrase stands in the message that all words are at.
    fn count_here(&mut self) -> u32 {
        let mut words = self.words.iter_mut();
        self.places.clear();
        if let Some((shift, postings)) = words.next() {
            postings.positions_with_offset(*shift, &mut self.places);
        }
        for (shift, postings) in words {
            postings.positions_with_offset(*shift, &mut self.others);
            keep_common(&mut self.places, &self.others);
            if self.places.is_empty() {
                break;
            }
        }
        u32::try_from(self.places.len()).unwrap_or(u32::MAX)
    }
}

/// Keeps of `places` those that are among `others` too; both are sorted.
fn keep_common(places: &mut Vec<u32>, others: &[u32]) {
    let mut others = others.iter().peekable();
    places.retain(|place| {
        while let Some(other) = others.peek() {
            match (*other).cmp(place) {
                Ordering::Less => others.next(),
                Ordering::Equal => return true,
                Ordering::Greater => return false,
            };
        }
        false
    });
}

impl DocSet for PhraseScorer {
    fn advance(&mut self) -> DocId {
        if self.doc >= TERMINATED { TERMINATED } else { self.settle(self.doc + 1) }
    }

    fn seek(&mut self, target: DocId) -> DocId {
        if target <= self.doc { self.doc } else { self.settle(target) }
    }

    fn seek_danger(&mut self, target: DocId) -> SeekDangerResult {
        match self.doc.cmp(&target) {
            Ordering::Less => self.look_at(target),
            Ordering::Equal if target < TERMINATED => SeekDangerResult::Found,
            Ordering::Equal | Ordering::Greater => SeekDangerResult::SeekLowerBound(self.doc),
        }
    }

    fn doc(&self) -> DocId {
        self.doc
    }

    fn size_hint(&self) -> u32 {
        self.words.first().map_or(0, |(_, postings)| postings.doc_freq())
    }

    fn cost(&self) -> u64 {
        // Where words stand has to be read for each message that has them all.
        let words = u64::try_from(self.words.len()).unwrap_or(u64::MAX);
        u64::from(self.size_hint()).saturating_mul(words).saturating_mul(10)
    }
}

impl Scorer for PhraseScorer {
    fn score(&mut self) -> Score {
        let norm = self.norms.fieldnorm_id(self.doc);
        self.similarity.as_ref().map_or(1.0, |similarity| similarity.score(norm, self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_common_are_kept() {
        for (places, others, common) in [
            (vec![1, 4, 9], vec![0, 4, 5, 9], vec![4, 9]),
            (vec![1, 2], vec![], vec![]),
            (vec![], vec![1], vec![]),
            (vec![7], vec![1, 7], vec![7]),
            (vec![1, 2, 3], vec![2], vec![2]),
        ] {
            let mut kept = places.clone();
            keep_common(&mut kept, &others);
            assert_eq!(kept, common, "{places:?} and {others:?}");
        }
    }
}
