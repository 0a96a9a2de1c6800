//! Asking the index: which messages have the words, behind the filters, in an order, from a mark on.
//!
//! Everything here blocks: callers run it aside.
//!
//! Invariant: an ask looks at no more than [`MATCHES_MAX`] messages and takes no longer than [`ASK_TIME_MAX`], whatever it
//! asks for; what that leaves out is told. Memory is bounded by the number of hits that are wanted, and a bit for each message
//! of a file and each beginning of a word. Which messages match, and how well, depends on nothing but the query and the
//! message; so other channels can show only in how long an ask takes, and where it takes too long, in that this is told.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use keevo_chat::{AppId, ChannelId, Place};
use keevo_core::{Clock, Error, Result};
use tantivy::query::{
    Bm25StatisticsProvider, BooleanQuery, ConstScoreQuery, EmptyQuery, EnableScoring, Occur, Query, TermQuery,
};
use tantivy::schema::{Field, IndexRecordOption, Value};
use tantivy::{DocAddress, DocSet, SegmentReader, TERMINATED, TantivyDocument, Term};

use crate::bounded::{Deadline, OneTerm, Phrase, Prefix, Steps};
use crate::query::{Part, TextQuery};
use crate::schema::{AT, Fields, Tag, UID, parse_key};
use crate::store::{Readable, failed};

/// The most messages with the words that one ask looks at.
pub const MATCHES_MAX: usize = 500_000;
/// The longest that one ask takes.
pub const ASK_TIME_MAX: Duration = Duration::from_secs(2);

/// In which order hits come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// The best match first, and the newest of those that match as well.
    Relevance,
    /// The newest first.
    Newest,
    /// The oldest first.
    Oldest,
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The app.
    pub app: AppId,
    /// What messages say.
    pub query: TextQuery,
    /// The channels that they are in; `None` = any of the app.
    pub channels: Option<Vec<ChannelId>>,
    /// Who sent them.
    pub author: Option<String>,
    /// Whom they mention by name.
    pub mentions: Option<String>,
    /// Whether they have an attachment.
    pub attachments: bool,
    /// The earliest time at which they were sent, in milliseconds since the epoch.
    pub after_ms: Option<u64>,
    /// The time before which they were sent.
    pub before_ms: Option<u64>,
    /// In which order.
    pub sort: Sort,
    /// Where the page before ended.
    pub from: Option<Mark>,
    /// The most hits.
    pub limit: usize,
}

/// The place of a hit in the order: larger ones come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// How well it matches; 0 where the order is that of time.
    rank: u32,
    /// When it was sent, counted so that larger comes first.
    time: u64,
    /// Which of those of the same time it is, counted likewise.
    uid: u64,
}

/// A message that the index knows; what it says may have changed since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The channel.
    pub channel: ChannelId,
    /// Its place there.
    pub place: Place,
    /// Its place in the order.
    pub mark: Mark,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hits {
    /// The hits, in order.
    pub hits: Vec<Hit>,
    /// Whether there are more behind them.
    pub more: bool,
    /// Whether a bound was met, so that hits may be left out.
    pub partial: bool,
}

impl Mark {
    /// As bytes, for a cursor.
    pub fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        let numbers = self.rank.to_be_bytes().into_iter().chain(self.time.to_be_bytes()).chain(self.uid.to_be_bytes());
        for (byte, value) in bytes.iter_mut().zip(numbers) {
            *byte = value;
        }
        bytes
    }

    /// Reads what [`Mark::to_bytes`] gave; `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (rank, rest) = bytes.split_first_chunk::<4>()?;
        let (time, uid) = rest.split_first_chunk::<8>()?;
        let uid = u64::from_be_bytes(uid.try_into().ok()?);
        Some(Self { rank: u32::from_be_bytes(*rank), time: u64::from_be_bytes(*time), uid })
    }
}

/// What matches are weighed by: every word counts as equally rare, and messages as of one usual length.
///
/// How rare a word is in the index would tell whoever sees a score, or the order, how often it stands in channels that they
/// cannot read, and in other apps.
struct Even {
    messages: u64,
    words_per_message: u64,
}

const EVEN: Even = Even { messages: 1_000, words_per_message: 16 };

impl Bm25StatisticsProvider for Even {
    fn total_num_tokens(&self, _field: Field) -> tantivy::Result<u64> {
        Ok(self.messages * self.words_per_message)
    }

    fn total_num_docs(&self) -> tantivy::Result<u64> {
        Ok(self.messages)
    }

    fn doc_freq(&self, _term: &Term) -> tantivy::Result<u64> {
        Ok(1)
    }
}

/// A score as a number in the same order: scores are from 0 on, and so are their bits in the same order. The last bits are
/// those of the order in which words were added up, which depends on the files of the index.
fn rank_of(score: f32) -> u32 {
    score.max(0.0).to_bits() & !0xff
}

/// Asks the index.
pub(crate) fn find(index: &Readable, ask: &Ask, clock: &Arc<dyn Clock>) -> Result<Hits> {
    let searcher = index.reader.searcher();
    let deadline = Deadline::after(ASK_TIME_MAX, Arc::clone(clock));
    let mut bounds = Bounds { steps: Steps::new(&deadline), matches: 0, met: false };
    let query = Builder { fields: index.fields, app: ask.app, deadline: &deadline }.query(ask);
    let scoring = match ask.sort {
        Sort::Relevance => EnableScoring::enabled_from_statistics_provider(&EVEN, &searcher),
        Sort::Newest | Sort::Oldest => EnableScoring::disabled_from_searcher(&searcher),
    };
    let weight = query.weight(scoring).map_err(|error| failed("ask", error))?;
    let mut best = Best { limit: ask.limit.max(1), kept: BinaryHeap::new(), more: false };
    for (number, segment) in (0_u32..).zip(searcher.segment_readers()) {
        if bounds.met || deadline.is_met() {
            break;
        }
        let mut look = Look { ask, segment, number, best: &mut best, bounds: &mut bounds };
        look.at(weight.as_ref())?;
    }
    let more = best.more;
    let mut hits = Vec::with_capacity(best.kept.len());
    for (mark, address) in best.in_order() {
        let document: TantivyDocument = searcher.doc(address).map_err(|error| failed("read", error))?;
        let key = document.get_first(index.fields.key);
        let key = key.as_ref().and_then(Value::as_bytes).ok_or_else(no_key)?;
        let (app, channel, place) = parse_key(key)?;
        if app == ask.app {
            hits.push(Hit { channel, place, mark });
        }
    }
    Ok(Hits { hits, more, partial: bounds.met || deadline.is_met() })
}

fn no_key() -> Error {
    Error::corrupt("a message in the search index has no key")
}

/// What an ask may cost.
struct Bounds {
    steps: Steps,
    matches: usize,
    /// Whether it is time to stop.
    met: bool,
}

impl Bounds {
    /// Counts a match; `false` = it is one too many, or too late.
    fn take(&mut self) -> bool {
        self.matches += 1;
        self.met |= self.matches > MATCHES_MAX || !self.steps.go_on();
        !self.met
    }
}

/// The best hits so far.
struct Best {
    limit: usize,
    kept: BinaryHeap<Reverse<(Mark, DocAddress)>>,
    /// Whether some were left out.
    more: bool,
}

impl Best {
    fn take(&mut self, mark: Mark, address: DocAddress) {
        self.kept.push(Reverse((mark, address)));
        if self.kept.len() > self.limit {
            self.kept.pop();
            self.more = true;
        }
    }

    fn in_order(self) -> impl Iterator<Item = (Mark, DocAddress)> {
        self.kept.into_sorted_vec().into_iter().map(|Reverse(one)| one)
    }
}

/// A look at one segment.
struct Look<'a> {
    ask: &'a Ask,
    segment: &'a SegmentReader,
    number: u32,
    best: &'a mut Best,
    bounds: &'a mut Bounds,
}

impl Look<'_> {
    fn at(&mut self, weight: &dyn tantivy::query::Weight) -> Result<()> {
        let numbers = |name| self.segment.fast_fields().u64(name).map_err(|error| failed("read", error));
        let (at, uid) = (numbers(AT)?, numbers(UID)?);
        let (after, before) = (self.ask.after_ms.unwrap_or(0), self.ask.before_ms.unwrap_or(u64::MAX));
        if at.max_value() < after || at.min_value() >= before {
            return Ok(());
        }
        let mut scorer = weight.scorer(self.segment, 1.0).map_err(|error| failed("ask", error))?;
        let mut document = scorer.doc();
        while document != TERMINATED {
            if !self.bounds.take() {
                return Ok(());
            }
            let time = at.first(document).unwrap_or(0);
            let alive = self.segment.alive_bitset().is_none_or(|alive| alive.is_alive(document));
            if alive && after <= time && time < before {
                let uid = uid.first(document).unwrap_or(0);
                let mark = match self.ask.sort {
                    Sort::Relevance => Mark { rank: rank_of(scorer.score()), time, uid },
                    Sort::Newest => Mark { rank: 0, time, uid },
                    Sort::Oldest => Mark { rank: 0, time: u64::MAX - time, uid: u64::MAX - uid },
                };
                if self.ask.from.is_none_or(|from| mark < from) {
                    self.best.take(mark, DocAddress::new(self.number, document));
                }
            }
            document = scorer.advance();
        }
        Ok(())
    }
}

/// Makes the query of the index: what must be there counts for relevance, filters do not.
struct Builder<'a> {
    fields: Fields,
    app: AppId,
    deadline: &'a Arc<Deadline>,
}

impl Builder<'_> {
    fn query(&self, ask: &Ask) -> BooleanQuery {
        let mut clauses: Vec<(Occur, Box<dyn Query>)> = Vec::new();
        for (occur, parts) in [(Occur::Must, &ask.query.wanted), (Occur::MustNot, &ask.query.unwanted)] {
            clauses.extend(parts.iter().map(|part| (occur, self.part(part))));
        }
        let of_tag = |tag: Tag<'_>| self.fields.tag_term(self.app, tag);
        let named = [
            ask.author.as_deref().map(Tag::Author),
            ask.mentions.as_deref().map(Tag::Mentions),
            ask.attachments.then_some(Tag::Attachments),
        ];
        let within = match &ask.channels {
            Some(channels) => channels.iter().map(|channel| of_tag(Tag::Channel(channel))).collect(),
            None => vec![of_tag(Tag::App)],
        };
        let filters = named.into_iter().flatten().map(|tag| vec![of_tag(tag)]).chain([within]);
        for terms in filters {
            clauses.push((Occur::Must, Box::new(ConstScoreQuery::new(self.any_of(terms), 0.0))));
        }
        BooleanQuery::new(clauses)
    }

    fn any_of(&self, terms: Vec<Term>) -> Box<dyn Query> {
        let mut each: Vec<Box<dyn Query>> =
            terms.into_iter().map(|term| self.one(term, IndexRecordOption::Basic)).collect();
        match each.pop() {
            None => Box::new(EmptyQuery),
            Some(only) if each.is_empty() => only,
            Some(last) => {
                each.push(last);
                Box::new(BooleanQuery::union(each))
            }
        }
    }

    fn one(&self, term: Term, option: IndexRecordOption) -> Box<dyn Query> {
        Box::new(OneTerm::new(TermQuery::new(term, option), self.deadline))
    }

    fn part(&self, part: &Part) -> Box<dyn Query> {
        match part {
            Part::Words(words) => {
                let mut terms: Vec<Term> = words.iter().map(|word| self.fields.word_term(self.app, word)).collect();
                match terms.pop() {
                    None => Box::new(EmptyQuery),
                    Some(only) if terms.is_empty() => self.one(only, IndexRecordOption::WithFreqs),
                    Some(last) => {
                        terms.push(last);
                        Box::new(Phrase::new(terms, self.deadline))
                    }
                }
            }
            Part::Prefix(prefix) => {
                let start = self.fields.word_term(self.app, prefix).serialized_value_bytes().to_vec();
                Box::new(Prefix::new(self.fields.text, start, self.deadline))
            }
        }
    }
}

#[cfg(test)]
mod tests;
