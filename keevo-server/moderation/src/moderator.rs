//! `Moderator`: what callers ask before a text is sent, and what brings every verdict to its end.
//!
//! Invariant: when [`Moderator::check`] has answered, the version has a verdict or waits for one, on disk. So a crash at
//! any point loses no text, and a text that is refused has its verdict too.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use keevo_core::{Clock, Engine, ErrorKind, Result};
use tokio::sync::{Notify, OnceCell};

use crate::metrics::{Counters, ModerationMetrics, add};
use crate::policies::{Compiled, Policies};
use crate::policy::{Action, Judgement, WhenLate};
use crate::text::TextVersion;
use crate::verdict::{Asking, Judge, Scores, Verdict};
use crate::verdicts::Verdicts;

/// What a caller is told of a text.
#[derive(Debug, Clone, PartialEq)]
pub enum Checked {
    /// Its verdict.
    Judged(Box<Verdict>),
    /// No verdict came in time; it follows, and this holds until then.
    Late(WhenLate),
}

/// What stops a text from being asked about, or why an answer is not one.
pub(crate) enum Unscored {
    /// The text's own fault: it is set aside.
    Text(String),
    /// Nobody could say: it is asked again.
    Workers(keevo_core::Error),
}

/// The moderation of a node. Cheap to clone; clones share everything.
pub struct Moderator<E> {
    pub(crate) inner: Arc<Inner<E>>,
}

pub(crate) struct Inner<E> {
    engine: E,
    verdicts: OnceCell<Verdicts<E>>,
    pub(crate) policies: Policies,
    pub(crate) judge: Arc<dyn Judge>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) counters: Counters,
    /// Wakes the pipeline when a text was left to it.
    pub(crate) wake: Notify,
    /// Whether the verdicts keep a catalogue of their texts.
    catalogued: Arc<AtomicBool>,
}

impl<E> Clone for Moderator<E> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<E> fmt::Debug for Moderator<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Moderator")
    }
}

impl<E: Engine> Moderator<E> {
    /// Moderation by `policies`, with scores from `judge` and verdicts on `engine`. Does no I/O: the keyspace is found
    /// or created at the first call.
    pub fn new(engine: E, policies: Policies, judge: Arc<dyn Judge>, clock: Arc<dyn Clock>) -> Self {
        let (counters, wake, verdicts) = (Counters::default(), Notify::new(), OnceCell::new());
        let catalogued = Arc::default();
        Self { inner: Arc::new(Inner { engine, verdicts, policies, judge, clock, counters, wake, catalogued }) }
    }

    /// From now on a catalogue of the texts that are judged is kept: one write more a text, by which a [`Store`](crate::Store)
    /// fills gaps. Every node that judges is to keep it.
    pub fn keep_catalogue(&self) {
        self.inner.catalogued.store(true, Ordering::Relaxed);
    }

    /// The stored verdicts.
    pub async fn verdicts(&self) -> Result<&Verdicts<E>> {
        let open = || async {
            let verdicts = Verdicts::open(self.inner.engine.clone(), Arc::clone(&self.inner.clock)).await?;
            Ok::<_, keevo_core::Error>(verdicts.catalogued(Arc::clone(&self.inner.catalogued)))
        };
        self.inner.verdicts.get_or_try_init(open).await
    }

    /// The policies.
    pub fn policies(&self) -> &Policies {
        &self.inner.policies
    }

    /// What was counted here.
    pub fn metrics(&self) -> ModerationMetrics {
        self.inner.counters.read()
    }

    /// Judges a text before it is sent, within its scope's budget. A version that was judged before has that verdict
    /// again.
    ///
    /// # Errors
    /// Those of the store: then the text must not be sent, since it may be without a verdict for ever.
    pub async fn check(&self, version: TextVersion) -> Result<Checked> {
        let policy = self.inner.policies.compiled(version.app).await?;
        let scope = policy.scope(&version.scope);
        let asking = Asking { within: Duration::from_millis(scope.budget_ms), urgent: true };
        let verdict = match self.score(&policy, std::slice::from_ref(&version), asking).await {
            Ok(mut scored) => self.verdict(&policy, version, scored.pop().flatten()),
            Err(Unscored::Text(reason)) => Verdict::unjudged(version, reason, self.inner.clock.now_ms()),
            Err(Unscored::Workers(error)) => {
                tracing::debug!(%error, "a text waits for its verdict");
                let late = scope.when_late;
                self.leave(&version).await?;
                return Ok(Checked::Late(late));
            }
        };
        self.store(verdict).await.map(|stored| Checked::Judged(Box::new(stored)))
    }

    /// Leaves a version to the pipeline.
    pub async fn leave(&self, version: &TextVersion) -> Result<()> {
        self.verdicts().await?.leave(version).await?;
        add(&self.inner.counters.late, 1);
        self.inner.wake.notify_one();
        Ok(())
    }

    /// A text that was to be held is: what its verdict or a person's decision says of it follows.
    pub async fn held(&self, version: &TextVersion) -> Result<()> {
        self.verdicts().await?.leave(version).await?;
        self.inner.wake.notify_one();
        Ok(())
    }

    /// Stores a verdict that nobody left a row for. Where more than the verdict is to be written, a row is left first.
    /// A text that is erased keeps nothing, and is answered all the same: whoever sends it again is told what is left of it.
    async fn store(&self, verdict: Verdict) -> Result<Verdict> {
        if !verdict.needs_review() {
            return Ok(self.record(verdict.clone()).await?.unwrap_or(verdict));
        }
        let version = verdict.version.clone();
        self.verdicts().await?.leave_standing(&version).await?;
        let stored = match self.record(verdict.clone()).await? {
            Some(stored) => {
                self.review(&stored).await?;
                stored
            }
            None => verdict,
        };
        self.verdicts().await?.settle_version(&version).await?;
        Ok(stored)
    }

    /// Stores a verdict where there is none; answers with the one that is stored.
    /// `None` where the text is erased.
    pub(crate) async fn record(&self, verdict: Verdict) -> Result<Option<Verdict>> {
        let Some((stored, first)) = self.verdicts().await?.record(verdict).await? else { return Ok(None) };
        if first {
            self.inner.counters.stored(&stored);
        }
        Ok(Some(stored))
    }

    /// Puts a stored verdict before a person where one is to look.
    pub(crate) async fn review(&self, verdict: &Verdict) -> Result<()> {
        if verdict.needs_review() { self.verdicts().await?.enqueue(verdict).await } else { Ok(()) }
    }

    /// The scores of each version; `None` for one that needs none.
    pub(crate) async fn score(
        &self,
        policy: &Compiled,
        versions: &[TextVersion],
        asking: Asking,
    ) -> Result<Vec<Option<Scores>>, Unscored> {
        let asked: Vec<usize> = (0..versions.len())
            .filter(|at| versions.get(*at).is_some_and(|version| needs_scores(policy, version)))
            .collect();
        let mut scores = vec![None; versions.len()];
        if asked.is_empty() {
            return Ok(scores);
        }
        let texts = asked.iter().filter_map(|at| versions.get(*at)).map(|version| version.text.clone()).collect();
        let answer = match tokio::time::timeout(asking.within, self.inner.judge.judge(texts, asking)).await {
            Ok(answer) => answer,
            Err(_elapsed) => {
                let error = keevo_core::Error::new(ErrorKind::DeadlineExceeded, "no worker answered in time");
                return Err(Unscored::Workers(error));
            }
        };
        match answer {
            Ok(answered) if answered.len() == asked.len() => {
                for (at, one) in asked.into_iter().zip(answered) {
                    if let Some(slot) = scores.get_mut(at) {
                        *slot = Some(one);
                    }
                }
                Ok(scores)
            }
            Ok(answered) => {
                let message = format!("a worker scored {} texts of {}", answered.len(), asked.len());
                Err(Unscored::Workers(keevo_core::Error::corrupt(message)))
            }
            Err(error) if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::BatchTooLarge) => {
                Err(Unscored::Text(error.message().to_owned()))
            }
            Err(error) => Err(Unscored::Workers(error)),
        }
    }

    /// The verdict that a policy and the scores come to.
    pub(crate) fn verdict(&self, policy: &Compiled, version: TextVersion, scores: Option<Scores>) -> Verdict {
        let scores = scores.unwrap_or_default();
        let judged = policy.judge(&version.scope, &version.text, &scores.labels);
        // What is masked is the whole text: one that was cut is not put back shorter.
        let judged = match judged {
            Judgement { action: Action::Mask, reasons, .. } if version.cut_bytes > 0 => {
                Judgement { action: Action::Block, reasons, masked: None }
            }
            judged => judged,
        };
        Verdict::new(version, judged, scores, self.inner.clock.now_ms())
    }
}

/// Whether the model can add anything: to a text that says something, unless the lists refuse it anyway.
fn needs_scores(policy: &Compiled, version: &TextVersion) -> bool {
    policy.needs_scores(&version.scope)
        && !version.text.trim().is_empty()
        && policy.judge(&version.scope, &version.text, &std::collections::BTreeMap::new()).action != Action::Block
}
