//! A verdict: what was said of one text version, why, and by what.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use keevo_core::Result;
use serde::{Deserialize, Serialize};

use crate::policy::{Action, Judgement, Reason};
use crate::text::{TextKind, TextVersion};

/// The verdict on a text version. Once stored it does not change; what people decide stands beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The version.
    pub version: TextVersion,
    /// What follows.
    pub action: Action,
    /// Why.
    #[serde(default)]
    pub reasons: Vec<Reason>,
    /// The score of each label; empty where the model was not asked.
    #[serde(default)]
    pub scores: BTreeMap<String, f32>,
    /// Which model scored it; empty where none was asked.
    #[serde(default)]
    pub model: String,
    /// The text with what was found covered, where the action is `mask`.
    #[serde(default)]
    pub masked: Option<String>,
    /// When, in milliseconds since the epoch.
    pub judged_ms: u64,
}

impl Verdict {
    /// The verdict that a judgement comes to.
    pub fn new(version: TextVersion, judged: Judgement, scores: Scores, judged_ms: u64) -> Self {
        let Judgement { action, reasons, masked } = judged;
        Self { version, action, reasons, scores: scores.labels, model: scores.model, masked, judged_ms }
    }

    /// The verdict on a text that could not be judged: a person has to look at it.
    pub fn unjudged(version: TextVersion, reason: impl Into<String>, judged_ms: u64) -> Self {
        let judged = Judgement { action: Action::Flag, reasons: vec![Reason::Unjudged(reason.into())], masked: None };
        Self::new(version, judged, Scores::default(), judged_ms)
    }

    /// The verdict on the masked version that this one leads to; `None` where it masks nothing.
    pub(crate) fn of_masked(&self) -> Result<Option<Self>> {
        let Some(masked) = &self.masked else { return Ok(None) };
        let version = self.version.saying(masked.clone())?;
        Ok(Some(Self { version, action: Action::Allow, reasons: vec![Reason::Masked], masked: None, ..self.clone() }))
    }

    /// What stands in the place of a text that was there already when it was to be held, as many characters; `None` where
    /// nothing is held, or the text is too long to be put back.
    pub fn of_hidden(&self) -> Result<Option<TextVersion>> {
        if self.action != Action::Hold || self.version.cut_bytes > 0 {
            return Ok(None);
        }
        self.version.saying(covered(&self.version.text)).map(Some)
    }

    /// Whether a person is to look at it.
    pub fn needs_review(&self) -> bool {
        self.action != Action::Allow
    }

    /// Whether the text may be nowhere else: it was kept from others, never stood in Keevo, or stands where no change tells what
    /// becomes of it.
    pub(crate) fn stands_nowhere(&self) -> bool {
        self.version.kind == TextKind::Text
            || self.version.is_beside()
            || matches!(self.action, Action::Hold | Action::Shadow | Action::Bounce | Action::Block)
    }

    /// Whether it was set aside, since it could not be judged.
    pub fn is_set_aside(&self) -> bool {
        self.reasons.iter().any(|reason| matches!(reason, Reason::Unjudged(_)))
    }
}

/// A text of as many characters and lines that says nothing.
fn covered(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { c } else { '*' }).collect()
}

/// What a model says of a text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores {
    /// The model's name and version.
    pub model: String,
    /// The probability of each label.
    pub labels: BTreeMap<String, f32>,
}

/// How long a question may take, and how urgent it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asking {
    /// How long at most.
    pub within: std::time::Duration,
    /// Whether somebody waits for it; what nobody waits for stands behind.
    pub urgent: bool,
}

/// Whoever scores texts. [`Pool`](crate::Pool) asks sidecars.
pub trait Judge: Send + Sync + 'static {
    /// Scores each text, in order.
    ///
    /// # Errors
    /// `Invalid` and `BatchTooLarge` are the texts' own fault; `Unavailable`, `ResourceExhausted` and
    /// `DeadlineExceeded` pass; anything else may be either's.
    fn judge(&self, texts: Vec<String>, asking: Asking) -> BoxFuture<'_, Result<Vec<Scores>>>;
}

/// What a verdict or a person's decision does to a text that stands already. Each may be called again after a crash.
pub trait Effects: Send + Sync + 'static {
    /// Takes the text away where it still says what the version says; one that is gone is no error.
    fn take_back<'a>(&'a self, version: &'a TextVersion) -> BoxFuture<'a, Result<()>>;

    /// Takes the text away from everybody but its author: a message that its author alone sees stays, and anything else is
    /// taken back.
    fn shadow<'a>(&'a self, version: &'a TextVersion) -> BoxFuture<'a, Result<()>>;

    /// Puts the masked text in its place, likewise.
    fn replace<'a>(&'a self, version: &'a TextVersion, masked: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Lets what is held go, or puts it back where it was hidden: with `masked` in its place where that is said. Where
    /// nothing is held or hidden it does nothing.
    fn release<'a>(&'a self, verdict: &'a Verdict, masked: Option<&'a str>) -> BoxFuture<'a, Result<()>>;

    /// Keeps the author out of where the text stands.
    fn ban<'a>(&'a self, version: &'a TextVersion) -> BoxFuture<'a, Result<()>>;
}
