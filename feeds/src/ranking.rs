//! Ranking: a feed's newest activities, ordered by an expression over their fields.
//!
//! ```text
//! {"score": "decay(time) * (1 + likes) ^ 0.5",
//!  "defaults": {"likes": 0},
//!  "functions": {"decay": {"base": "decay_gauss", "scale": "5d", "offset": "1d", "decay": "0.3"}}}
//! ```
//!
//! A ranking is compiled once. Scores are computed when a page is read, over at most [`RANK_CANDIDATES_MAX`] of the
//! newest activities, by an evaluator that only adds, multiplies and calls a fixed list of functions: no loops, a
//! bounded size, so a bounded cost. An error names the place in the expression.

mod decay;
mod eval;
mod functions;
mod parse;
mod token;

use std::fmt;

use keevo_core::{Consistency, Engine, Error, ErrorKind, Random, Result, SeededRandom};
use serde_json::{Map, Value};

use crate::activity::Activity;
use crate::feed_id::FeedId;
use crate::feeds::Feeds;
use crate::ids::spread;
use crate::json::json_object;
use crate::read::{OFFSET_MAX, PAGE_LIMIT_MAX, PageRequest};
use decay::Decay;
use eval::Scope;
use parse::Expression;

/// How many of a feed's newest activities are ranked.
pub const RANK_CANDIDATES_MAX: usize = 1_000;
/// The longest expression, in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 2_000;

/// What is wrong with a ranking, for those who tell it apart from other bad input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankingFault {
    /// The ranking does not compile, or does not fit the activities or variables.
    Invalid,
    /// There is no ranking of that name.
    Missing,
}

impl RankingFault {
    /// The fault behind an error, if a ranking caused it.
    pub fn of(error: &Error) -> Option<Self> {
        let source = std::error::Error::source(error)?;
        source.downcast_ref::<Fault>().map(|fault| fault.0)
    }
}

/// Marks errors of rankings.
#[derive(Debug)]
struct Fault(RankingFault);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            RankingFault::Invalid => "the ranking is invalid",
            RankingFault::Missing => "the ranking is missing",
        })
    }
}

impl std::error::Error for Fault {}

fn invalid(message: impl Into<String>) -> Error {
    Error::invalid(message).with_source(Fault(RankingFault::Invalid))
}

/// The error for a name under which a group has no ranking.
pub fn ranking_missing(name: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("the feed group has no ranking {name:?}"))
        .with_source(Fault(RankingFault::Missing))
}

/// A compiled ranking.
///
/// ```
/// # use keevo_feeds::{Ranking, RankingFault};
/// assert!(Ranking::parse(r#"{"score": "popularity ^ 2", "defaults": {"popularity": 1}}"#).is_ok());
/// let error = Ranking::parse(r#"{"score": "popularity ^"}"#).unwrap_err();
/// assert_eq!(error.message(), "the score ends where a value should stand (at 13)");
/// assert_eq!(RankingFault::of(&error), Some(RankingFault::Invalid));
/// ```
#[derive(Debug, Clone)]
pub struct Ranking {
    score: Expression,
    defaults: Map<String, Value>,
}

impl Ranking {
    /// Compiles the JSON text of a ranking.
    pub fn parse(text: &str) -> Result<Self> {
        let value: Value =
            serde_json::from_str(text).map_err(|error| invalid(format!("a ranking is JSON: {error}")))?;
        Self::from_json(&value)
    }

    /// Compiles a ranking: `score`, and if need be `defaults` and `functions`.
    pub fn from_json(value: &Value) -> Result<Self> {
        let object =
            |value: &Value, what: &str| json_object(value.clone(), what).map_err(|error| invalid(error.message()));
        let ranking = object(value, "a ranking")?;
        if let Some(other) = ranking.keys().find(|key| !["score", "defaults", "functions"].contains(&key.as_str())) {
            return Err(invalid(format!("a ranking has score, defaults and functions, not {other:?}")));
        }
        let Some(Value::String(score)) = ranking.get("score") else {
            return Err(invalid("a ranking has a text score, as \"decay_linear(time)\""));
        };
        let functions =
            ranking.get("functions").map(|value| object(value, "functions")).transpose()?.unwrap_or_default();
        let mut decays = Vec::new();
        for (name, parameters) in functions {
            decays.push((name.clone(), Decay::from_json(&name, &parameters)?));
        }
        let defaults = ranking.get("defaults").map(|value| object(value, "defaults")).transpose()?.unwrap_or_default();
        Ok(Self { score: Expression::parse(score, &decays)?, defaults })
    }

    /// The score of one activity. `random` gives what `rand` and `rand_normal` draw.
    pub(crate) fn score(
        &self,
        activity: &Activity,
        vars: &Map<String, Value>,
        now_s: f64,
        random: &dyn Random,
        used: Option<&mut Map<String, Value>>,
    ) -> Result<f64> {
        let scope = Scope { activity, vars, defaults: &self.defaults, now_s, random };
        let score = scope.number(&self.score.root)?;
        if let Some(used) = used {
            self.score.fields().into_iter().try_for_each(|field| {
                used.insert(field.join("."), scope.shown(field)?);
                Ok::<_, Error>(())
            })?;
        }
        // JSON has no infinity, and an order needs every score to compare.
        Ok(if score.is_nan() { f64::MIN } else { score.clamp(f64::MIN, f64::MAX) })
    }
}

/// Which part of a ranked feed to read.
#[derive(Debug, Clone, PartialEq)]
pub struct RankedRequest {
    /// The most activities, 1 to 1,000.
    pub limit: usize,
    /// How many to leave out first, up to 10,000.
    pub offset: usize,
    /// What the expression finds under `external`.
    pub vars: Map<String, Value>,
    /// Whether to return what the expression used of each activity.
    pub with_score_vars: bool,
    /// Makes the random functions give each activity the same numbers again, so that pages fit together.
    pub seed: Option<u64>,
    /// How fresh the answer must be.
    pub consistency: Consistency,
}

impl Default for RankedRequest {
    fn default() -> Self {
        Self {
            limit: 25,
            offset: 0,
            vars: Map::new(),
            with_score_vars: false,
            seed: None,
            consistency: Consistency::default(),
        }
    }
}

/// An activity with its score.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// The activity.
    pub activity: Activity,
    /// Its score; one that is not a number or not finite is shown as the least or greatest number.
    pub score: f64,
    /// What the expression used, by the names in it; only where it was asked for.
    pub score_vars: Option<Map<String, Value>>,
}

/// A page of a ranked feed: highest score first, then newest.
#[derive(Debug, Clone, PartialEq)]
pub struct RankedPage {
    /// The activities.
    pub activities: Vec<Ranked>,
    /// Whether there are more behind them.
    pub more: bool,
}

impl<E: Engine> Feeds<E> {
    /// A page of `feed`, ranked. `Invalid` with a [`RankingFault`] where the expression does not fit an activity: a
    /// field is missing and has no default, or is a text where a number is needed.
    pub async fn ranked_page(&self, feed: &FeedId, ranking: &Ranking, request: &RankedRequest) -> Result<RankedPage> {
        if request.limit == 0 || request.limit > PAGE_LIMIT_MAX {
            return Err(Error::invalid(format!("a page's limit is 1 to {PAGE_LIMIT_MAX}, not {}", request.limit)));
        }
        if request.offset > OFFSET_MAX {
            return Err(Error::invalid(format!("an offset is at most {OFFSET_MAX}")));
        }
        let candidates = PageRequest { consistency: request.consistency, ..PageRequest::first(RANK_CANDIDATES_MAX) };
        let candidates = self.page(feed, candidates).await?.activities;
        let now_s = seconds(self.now_ms());
        let mut ranked = Vec::with_capacity(candidates.len());
        for activity in candidates {
            let seeded = request.seed.map(|seed| SeededRandom::new(seed ^ spread(&activity.id.to_string())));
            let random: &dyn Random = match &seeded {
                Some(seeded) => seeded,
                None => self.options().random.as_ref(),
            };
            let mut used = request.with_score_vars.then(Map::new);
            let score = ranking.score(&activity, &request.vars, now_s, random, used.as_mut())?;
            ranked.push(Ranked { activity, score, score_vars: used });
        }
        // Stable: what scores alike stays newest first.
        ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
        let more = ranked.len() > request.offset + request.limit;
        let activities = ranked.into_iter().skip(request.offset).take(request.limit).collect();
        Ok(RankedPage { activities, more })
    }
}

#[allow(clippy::cast_precision_loss, reason = "milliseconds since the epoch have far fewer than 53 bits")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

#[cfg(test)]
mod tests;
