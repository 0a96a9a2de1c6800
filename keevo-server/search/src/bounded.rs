//! What queries are made of: sets of messages that end when the time of the ask is up.
//!
//! Those of tantivy go on until they have found their next message, however long that takes: two frequent words that no
//! message has both of are one long step.
//!
//! Invariant: every set here looks at the time once in [`TIME_EVERY`] steps at least, and is at its end when the time is
//! up; so whatever is made of such sets ends then too. From then on a set that excludes may lack messages: nothing that is
//! found after [`Deadline::is_met`] counts.

mod phrase;
mod prefix;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keevo_core::Clock;
use tantivy::query::{AllScorer, EmptyScorer, EnableScoring, Explanation, Query, Scorer, TermQuery, Weight};
use tantivy::{DocId, DocSet, Score, SegmentReader, TERMINATED, TantivyError};

pub(crate) use phrase::Phrase;
pub(crate) use prefix::Prefix;

/// After how many steps of a set the time is looked at.
const TIME_EVERY: u32 = 1_024;

/// Until when an ask goes on.
pub(crate) struct Deadline {
    clock: Arc<dyn Clock>,
    until: Duration,
    met: AtomicBool,
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadline").field("until", &self.until).field("met", &self.is_met()).finish_non_exhaustive()
    }
}

impl Deadline {
    /// The time is up in `time` from now.
    pub(crate) fn after(time: Duration, clock: Arc<dyn Clock>) -> Arc<Self> {
        let until = clock.monotonic() + time;
        Arc::new(Self { clock, until, met: AtomicBool::new(false) })
    }

    /// Whether the time was seen to be up. Cheap: does not look at it.
    pub(crate) fn is_met(&self) -> bool {
        self.met.load(Ordering::Relaxed)
    }

    fn look(&self) {
        if self.clock.monotonic() > self.until {
            self.met.store(true, Ordering::Relaxed);
        }
    }
}

/// Counts the steps of one set, and looks at the time in between.
pub(crate) struct Steps {
    deadline: Arc<Deadline>,
    taken: u32,
}

impl Steps {
    pub(crate) fn new(deadline: &Arc<Deadline>) -> Self {
        Self { deadline: Arc::clone(deadline), taken: 0 }
    }

    /// Counts a step; `false` = the time is up, so that it is not to be taken.
    pub(crate) fn go_on(&mut self) -> bool {
        self.taken = self.taken.wrapping_add(1);
        if self.taken.is_multiple_of(TIME_EVERY) {
            self.deadline.look();
        }
        !self.deadline.is_met()
    }
}

/// The messages with one term.
#[derive(Debug, Clone)]
pub(crate) struct OneTerm {
    query: TermQuery,
    deadline: Arc<Deadline>,
}

impl OneTerm {
    pub(crate) fn new(query: TermQuery, deadline: &Arc<Deadline>) -> Self {
        Self { query, deadline: Arc::clone(deadline) }
    }
}

impl Query for OneTerm {
    fn weight(&self, scoring: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        let weight = self.query.weight(scoring)?;
        Ok(Box::new(OneTermWeight { weight, deadline: Arc::clone(&self.deadline) }))
    }
}

struct OneTermWeight {
    weight: Box<dyn Weight>,
    deadline: Arc<Deadline>,
}

impl Weight for OneTermWeight {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let scorer = self.weight.scorer(reader, boost)?;
        // Those two are known to what sets are put together with, which leaves them out.
        if scorer.is::<EmptyScorer>() || scorer.is::<AllScorer>() {
            return Ok(scorer);
        }
        Ok(Box::new(Bounded::new(scorer, &self.deadline)))
    }

    fn explain(&self, _: &SegmentReader, _: DocId) -> tantivy::Result<Explanation> {
        Err(unexplained())
    }
}

/// A set each of whose steps is a short one, bounded in how many it takes.
struct Bounded {
    scorer: Box<dyn Scorer>,
    steps: Steps,
    /// The time was up.
    over: bool,
}

impl Bounded {
    fn new(scorer: Box<dyn Scorer>, deadline: &Arc<Deadline>) -> Self {
        Self { scorer, steps: Steps::new(deadline), over: false }
    }
}

impl DocSet for Bounded {
    fn advance(&mut self) -> DocId {
        self.over |= !self.steps.go_on();
        if self.over { TERMINATED } else { self.scorer.advance() }
    }

    fn seek(&mut self, target: DocId) -> DocId {
        self.over |= !self.steps.go_on();
        if self.over { TERMINATED } else { self.scorer.seek(target) }
    }

    fn doc(&self) -> DocId {
        if self.over { TERMINATED } else { self.scorer.doc() }
    }

    fn size_hint(&self) -> u32 {
        self.scorer.size_hint()
    }

    fn cost(&self) -> u64 {
        self.scorer.cost()
    }
}

impl Scorer for Bounded {
    fn score(&mut self) -> Score {
        self.scorer.score()
    }
}

/// Nobody asks for explanations of scores.
fn unexplained() -> TantivyError {
    TantivyError::InvalidArgument("scores are not explained".to_owned())
}
