//! One sweep over the texts that wait: oldest first, in questions of many, until all are done or no worker answers.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use futures::StreamExt;
use keevo_core::{Engine, ErrorKind, Result};

use super::Pipeline;
use crate::metrics::add;
use crate::moderator::Unscored;
use crate::policy::Action;
use crate::text::TextVersion;
use crate::verdict::{Asking, Verdict};
use crate::verdicts::{BUCKETS, Waiting};

/// The most texts of a bucket that one sweep looks at.
const PAGE: usize = 256;
/// How many texts are brought to their end at once.
const FINISH_AT_ONCE: usize = 16;
/// The most texts whose failures are remembered.
const STRIKES_KEPT_MAX: usize = 10_000;
/// A text that every model can score: if it fails too, the workers are at fault.
const PROBE: &str = "hello";

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sweep {
    /// Texts that were brought to their end.
    pub finished: usize,
    /// Texts that failed, and stay.
    pub failed: usize,
    /// Whether it ended since no worker answered.
    pub stalled: bool,
    /// Whether it left texts that it did not look at.
    pub more: bool,
}

/// Texts of one question: of one app, since policies are an app's.
#[derive(Debug)]
struct Question {
    app: u32,
    waiting: Vec<Waiting>,
    bytes: usize,
}

impl<E: Engine> Pipeline<E> {
    /// Looks at every bucket once.
    pub async fn sweep(&self) -> Result<Sweep> {
        let mut sweep = Sweep::default();
        let mut found = Vec::new();
        for bucket in 0..BUCKETS {
            let waiting = self.moderator.verdicts().await?.waiting(bucket, PAGE).await?;
            sweep.more |= waiting.len() >= PAGE;
            found.extend(waiting);
        }
        let counters = &self.moderator.inner.counters;
        let oldest = found.iter().map(|one| one.version.at_ms).min();
        let age = oldest.map_or(0, |oldest| self.moderator.inner.clock.now_ms().saturating_sub(oldest));
        counters.lag_ms.store(age, Ordering::Relaxed);
        let all = found.len();
        counters.pending.store(u64::try_from(all).unwrap_or(u64::MAX), Ordering::Relaxed);
        found.sort_by_key(|one| one.version.at_ms);
        let mut rest = Vec::new();
        let versions: Vec<TextVersion> = found.iter().map(|one| one.version.clone()).collect();
        let verdicts = self.moderator.verdicts().await?.of_versions(&versions).await?;
        let mut judged = Vec::new();
        for (waiting, verdict) in found.into_iter().zip(verdicts) {
            match verdict {
                Some(verdict) => judged.push((waiting, verdict)),
                None => rest.push(waiting),
            }
        }
        let rest = self.without_erased(rest, &mut sweep).await?;
        self.finish_all(judged, &mut sweep).await;
        for question in self.questions(rest) {
            if !self.answer(question, &mut sweep).await? {
                sweep.stalled = true;
                add(&counters.stalled, 1);
                break;
            }
        }
        let left = all.saturating_sub(sweep.finished);
        counters.pending.store(u64::try_from(left).unwrap_or(u64::MAX), Ordering::Relaxed);
        sweep.more &= sweep.finished > 0;
        Ok(sweep)
    }

    /// Takes out what is erased: it needs nobody's judgement to go.
    async fn without_erased(&self, waiting: Vec<Waiting>, sweep: &mut Sweep) -> Result<Vec<Waiting>> {
        let verdicts = self.moderator.verdicts().await?;
        let versions: Vec<TextVersion> = waiting.iter().map(|one| one.version.clone()).collect();
        let mut kept = Vec::with_capacity(waiting.len());
        for (one, erased) in waiting.into_iter().zip(verdicts.are_erased(&versions).await?) {
            if erased {
                verdicts.settle(one.key).await?;
                sweep.finished += 1;
            } else {
                kept.push(one);
            }
        }
        Ok(kept)
    }

    /// The texts in questions of one app each, within the bounds of a question.
    fn questions(&self, rest: Vec<Waiting>) -> Vec<Question> {
        let bytes_max = self.question_bytes.load(Ordering::Relaxed);
        let mut open: BTreeMap<u32, Question> = BTreeMap::new();
        let mut full = Vec::new();
        for waiting in rest {
            let app = waiting.version.app;
            let bytes = waiting.version.text.len();
            let question = open.entry(app).or_insert_with(|| Question { app, waiting: Vec::new(), bytes: 0 });
            let over = question.waiting.len() >= self.options.texts_max || question.bytes + bytes > bytes_max;
            if over && !question.waiting.is_empty() {
                full.push(std::mem::replace(question, Question { app, waiting: Vec::new(), bytes: 0 }));
            }
            question.bytes += bytes;
            question.waiting.push(waiting);
        }
        full.extend(open.into_values().filter(|question| !question.waiting.is_empty()));
        full
    }

    /// Asks one question; false where no worker answers.
    async fn answer(&self, question: Question, sweep: &mut Sweep) -> Result<bool> {
        let asking = Asking { within: self.options.answer_within, urgent: false };
        let policy = self.moderator.inner.policies.compiled(question.app).await?;
        let versions: Vec<TextVersion> = question.waiting.iter().map(|one| one.version.clone()).collect();
        let began = self.moderator.inner.clock.monotonic();
        match self.moderator.score(&policy, &versions, asking).await {
            Ok(scores) => {
                let took = self.moderator.inner.clock.monotonic().saturating_sub(began);
                if took < asking.within / 4 {
                    let more = self.question_bytes.load(Ordering::Relaxed).saturating_mul(2);
                    self.question_bytes.store(more.clamp(1, self.options.bytes_max), Ordering::Relaxed);
                }
                let verdicts = versions.into_iter().zip(scores);
                let verdicts = verdicts.map(|(version, scores)| self.moderator.verdict(&policy, version, scores));
                self.finish_all(question.waiting.into_iter().zip(verdicts).collect(), sweep).await;
                Ok(true)
            }
            // Too much at once, perhaps: the next sweep asks less. What is too much alone must not hold up the others.
            Err(Unscored::Workers(error)) if overwhelms(error.kind()) && question.waiting.len() > 1 => {
                let less = question.bytes.min(self.question_bytes.load(Ordering::Relaxed)) / 2;
                self.question_bytes.store(less.max(1), Ordering::Relaxed);
                tracing::debug!(%error, bytes = less, "the next questions are smaller");
                Ok(false)
            }
            Err(Unscored::Workers(error)) if overwhelms(error.kind()) => {
                self.strike(question.waiting, &error, asking, sweep).await
            }
            Err(Unscored::Workers(error)) if passes(error.kind()) => {
                tracing::debug!(%error, "no worker scores texts");
                Ok(false)
            }
            // One of them is at fault, and the others need not wait for it.
            Err(_) if question.waiting.len() > 1 => {
                for waiting in question.waiting {
                    let bytes = waiting.version.text.len();
                    let one = Question { app: question.app, waiting: vec![waiting], bytes };
                    if !Box::pin(self.answer(one, sweep)).await? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Err(Unscored::Text(reason)) => {
                self.set_aside(question.waiting, &reason, sweep).await;
                Ok(true)
            }
            Err(Unscored::Workers(error)) => self.strike(question.waiting, &error, asking, sweep).await,
        }
    }

    /// Counts the failure of a text that failed alone; false where the workers fail with any text.
    async fn strike(
        &self,
        waiting: Vec<Waiting>,
        error: &keevo_core::Error,
        asking: Asking,
        sweep: &mut Sweep,
    ) -> Result<bool> {
        if self.moderator.inner.judge.judge(vec![PROBE.to_owned()], asking).await.is_err() {
            return Ok(false);
        }
        let digests: Vec<[u8; 16]> = waiting.iter().map(|one| one.version.digest()).collect();
        let struck_out = {
            let mut strikes = self.strikes.lock().unwrap_or_else(PoisonError::into_inner);
            if strikes.len() >= STRIKES_KEPT_MAX {
                strikes.clear();
            }
            digests.iter().any(|digest| {
                let strikes = strikes.entry(*digest).or_default();
                *strikes += 1;
                *strikes >= self.options.strikes_max
            })
        };
        if struck_out {
            let reason = format!("it failed {} times: {}", self.options.strikes_max, error.message());
            self.set_aside(waiting, &reason, sweep).await;
        } else {
            sweep.failed += waiting.len();
        }
        Ok(true)
    }

    async fn set_aside(&self, waiting: Vec<Waiting>, reason: &str, sweep: &mut Sweep) {
        let now_ms = self.moderator.inner.clock.now_ms();
        let judged = waiting.into_iter().map(|one| {
            tracing::warn!(app = one.version.app, id = one.version.id, reason, "a text could not be judged");
            let verdict = Verdict::unjudged(one.version.clone(), reason, now_ms);
            (one, verdict)
        });
        self.finish_all(judged.collect(), sweep).await;
    }

    /// Brings texts with their verdicts to their end. What fails stays for the next sweep.
    async fn finish_all(&self, judged: Vec<(Waiting, Verdict)>, sweep: &mut Sweep) {
        let finish = |(waiting, verdict)| Box::pin(self.finish(waiting, verdict));
        let steps: Vec<_> = judged.into_iter().map(finish).collect();
        let mut steps = futures::stream::iter(steps).buffer_unordered(FINISH_AT_ONCE);
        while let Some(step) = steps.next().await {
            match step {
                Ok(()) => sweep.finished += 1,
                Err(error) => {
                    sweep.failed += 1;
                    tracing::warn!(%error, "a text's verdict stays for the next sweep");
                }
            }
        }
    }

    async fn finish(&self, waiting: Waiting, verdict: Verdict) -> Result<()> {
        let Some(stored) = self.moderator.record(verdict).await? else {
            // The text is erased meanwhile.
            return self.moderator.verdicts().await?.settle(waiting.key).await;
        };
        self.moderator.review(&stored).await?;
        let effects = Arc::clone(&self.effects);
        match (stored.action, &stored.masked) {
            (Action::Allow | Action::Flag, _) => effects.release(&stored, None).await?,
            (Action::Mask, Some(masked)) => {
                effects.release(&stored, Some(masked)).await?;
                effects.replace(&stored.version, masked).await?;
            }
            (Action::Hold, _) => self.keep_back(&stored).await?,
            (Action::Shadow, _) => effects.shadow(&stored.version).await?,
            _ => effects.take_back(&stored.version).await?,
        }
        self.moderator.verdicts().await?.settle(waiting.key).await
    }
}

impl<E: Engine> Pipeline<E> {
    /// What is to be held waits for a person, or goes the way that one has decided. A text that stands already is hidden.
    async fn keep_back(&self, verdict: &Verdict) -> Result<()> {
        let verdicts = self.moderator.verdicts().await?;
        if let Some(decided) = verdicts.decision(&verdict.version).await? {
            return verdicts.follow(verdict, decided.decision.ruling, self.effects.as_ref()).await;
        }
        match verdict.of_hidden()? {
            Some(hidden) => self.effects.replace(&verdict.version, &hidden.text).await,
            None => Ok(()),
        }
    }
}

/// Whether a failure may be due to how much was asked at once.
fn overwhelms(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ResourceExhausted | ErrorKind::DeadlineExceeded)
}

/// Whether a failure is that of the moment: workers that are down, full or slow.
fn passes(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Unavailable
            | ErrorKind::ResourceExhausted
            | ErrorKind::DeadlineExceeded
            | ErrorKind::Unauthenticated
            | ErrorKind::PermissionDenied
            | ErrorKind::NotFound
            | ErrorKind::Config
    )
}
