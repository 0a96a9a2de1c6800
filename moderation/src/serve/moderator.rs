//! `Moderator`: texts in, probabilities out. All interfaces ask it.
//!
//! Invariant: a request is judged as a whole: all of its texts, or an error. Texts are checked before anything is
//! queued, so a refused request costs the model nothing.

use std::sync::Arc;
use std::time::Duration;

use keevo_core::{Clock, Error, ErrorKind, Result};

use crate::classify::{Classify, ModelInfo, Tokens};
use crate::serve::batcher::{Answer, BatchOptions, Batcher, Run, too_late};
use crate::serve::metrics::Metrics;
use crate::serve::options::ServeOptions;
use crate::serve::queue::{Limits, Priority};
use crate::serve::windows::{cuts, largest};

/// Texts of more bytes than this are tokenised away from the runtime's threads.
const INLINE_BYTES_MAX: usize = 8_192;

/// A text to judge, or a pair of texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    pub(crate) text: String,
    pub(crate) pair: Option<String>,
}

impl From<String> for Input {
    fn from(text: String) -> Self {
        Self { text, pair: None }
    }
}

/// What happens to a text with more tokens than the model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LongText {
    /// It is judged in windows.
    Windows,
    /// Only its beginning is judged.
    Truncate,
    /// It is refused.
    Refuse,
}

/// How a request is to be judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) priority: Priority,
    /// `None`: the server's.
    pub(crate) timeout: Option<Duration>,
    pub(crate) long: LongText,
}

impl Call {
    pub(crate) const fn realtime(long: LongText) -> Self {
        Self { priority: Priority::Realtime, timeout: None, long }
    }
}

/// What the model says of one text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scored {
    /// The probability of each label, in the model's order: the largest of all windows.
    pub(crate) probabilities: Vec<f32>,
    /// The raw scores likewise.
    pub(crate) raw: Vec<f32>,
    pub(crate) tokens: usize,
    pub(crate) windows: usize,
}

/// The model, its queue and the rules around them.
pub(crate) struct Moderator {
    model: Arc<dyn Classify>,
    batcher: Batcher<Tokens>,
    pub(crate) options: Arc<ServeOptions>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Moderator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Moderator").field("model", self.model.info()).finish_non_exhaustive()
    }
}

impl Moderator {
    /// Starts the model's threads. Refuses options that do not fit the model.
    pub(crate) fn start(
        model: Arc<dyn Classify>,
        options: Arc<ServeOptions>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        options.check(&model.info().labels)?;
        let runner = Arc::clone(&model);
        let labels = model.info().labels.len();
        let run: Run<Tokens> = Arc::new(move |batch| {
            let rows = runner.classify(batch)?;
            if rows.iter().any(|row| row.len() != labels) {
                return Err(Error::corrupt(format!("the model gave a row that has not {labels} scores")));
            }
            Ok(rows)
        });
        let limits = Limits {
            queue_pieces_max: options.queue_texts_max,
            queue_tokens_max: options.queue_tokens_max,
            batch_pieces_max: options.batch_texts_max,
            batch_tokens_max: options.batch_tokens_max,
        };
        let batches = BatchOptions { limits, wait: options.batch_wait, threads: options.model_threads };
        let batcher = Batcher::start(&run, batches, Arc::clone(&clock), Arc::clone(&metrics))?;
        Ok(Self { model, batcher, options, clock, metrics })
    }

    pub(crate) fn info(&self) -> &ModelInfo {
        self.model.info()
    }

    /// Judges every text.
    ///
    /// # Errors
    /// `Invalid`: no text, an empty one, or a pair that is too long. `BatchTooLarge`: too many texts, or one that is
    /// too long. `ResourceExhausted`: the queue is full. `DeadlineExceeded`. `Corrupt`: the model gave no number.
    pub(crate) async fn score(&self, inputs: Vec<Input>, call: Call) -> Result<Vec<Scored>> {
        self.check(&inputs)?;
        let timeout = call.timeout.map_or(self.options.timeout, |asked| asked.min(self.options.timeout));
        let deadline = self.clock.monotonic() + timeout;
        match tokio::time::timeout(timeout, self.judge(inputs, call, deadline)).await {
            Ok(result) => result,
            Err(_elapsed) => Err(too_late()),
        }
    }

    async fn judge(&self, inputs: Vec<Input>, call: Call, deadline: Duration) -> Result<Vec<Scored>> {
        let mut windows_of = Vec::with_capacity(inputs.len());
        let mut pieces = Vec::with_capacity(inputs.len());
        for tokens in self.encode(inputs).await? {
            let before = pieces.len();
            self.cut(tokens, call.long, windows_of.len(), &mut pieces)?;
            windows_of.push(pieces.len() - before);
        }
        let sizes: Vec<usize> = pieces.iter().map(|piece: &Tokens| piece.ids.len()).collect();
        let pieces = pieces.into_iter().zip(sizes.iter().copied()).collect();
        let mut answers = self.batcher.submit(call.priority, pieces, deadline)?.into_iter().zip(sizes);
        let mut scored = Vec::with_capacity(windows_of.len());
        for windows in windows_of {
            scored.push(self.collect(answers.by_ref().take(windows)).await?);
        }
        Ok(scored)
    }

    async fn collect(&self, answers: impl Iterator<Item = (Answer, usize)>) -> Result<Scored> {
        let (mut raw, mut probabilities, mut tokens) = (Vec::new(), Vec::new(), 0);
        for (answer, size) in answers {
            let row = answer.await.map_err(|_gone| crate::serve::batcher::stopping())??;
            probabilities.push(normalized(&row, self.info().multi_label));
            raw.push(row);
            tokens += size;
        }
        Ok(Scored { probabilities: largest(&probabilities), raw: largest(&raw), tokens, windows: raw.len() })
    }

    fn check(&self, inputs: &[Input]) -> Result<()> {
        let texts_max = self.options.request_texts_max;
        if inputs.is_empty() {
            return Err(Error::invalid("there is no text to judge: send at least one"));
        }
        if inputs.len() > texts_max {
            let message = format!("a request has at most {texts_max} texts, not {}: split it", inputs.len());
            return Err(Error::new(ErrorKind::BatchTooLarge, message));
        }
        if let Some(at) = inputs.iter().position(|input| input.text.is_empty()) {
            return Err(Error::invalid(format!("text {at} is empty: leave it out")));
        }
        Ok(())
    }

    async fn encode(&self, inputs: Vec<Input>) -> Result<Vec<Tokens>> {
        let bytes: usize =
            inputs.iter().map(|input| input.text.len() + input.pair.as_ref().map_or(0, String::len)).sum();
        let model = Arc::clone(&self.model);
        let encode = move || inputs.iter().map(|input| model.encode(&input.text, input.pair.as_deref())).collect();
        if bytes <= INLINE_BYTES_MAX {
            return encode();
        }
        match tokio::task::spawn_blocking(encode).await {
            Ok(encoded) => encoded,
            Err(error) => Err(Error::new(ErrorKind::Io, "the tokeniser failed").with_source(error)),
        }
    }

    /// Adds the pieces that `tokens`, of the text at place `at`, is judged in.
    fn cut(&self, tokens: Tokens, long: LongText, at: usize, pieces: &mut Vec<Tokens>) -> Result<()> {
        let tokens_max = self.info().tokens_max;
        let given = tokens.ids.len();
        if given <= tokens_max {
            pieces.push(tokens);
            return Ok(());
        }
        let (Some((&start, body)), is_pair) = (tokens.ids.split_first(), tokens.types.contains(&1)) else {
            return Err(Error::corrupt("the tokeniser gave no token"));
        };
        let Some((&end, body)) = body.split_last() else {
            return Err(Error::corrupt("the tokeniser gave one token"));
        };
        let room = tokens_max.saturating_sub(2).max(1);
        let window = |from: usize, to: usize| Tokens {
            ids: std::iter::once(start)
                .chain(body.get(from..to).unwrap_or_default().iter().copied())
                .chain(std::iter::once(end))
                .collect(),
            types: tokens
                .types
                .get(..1)
                .into_iter()
                .chain(tokens.types.get(from + 1..to + 2))
                .flatten()
                .copied()
                .collect(),
        };
        match long {
            LongText::Refuse => {
                let message = format!("`inputs` must have less than {tokens_max} tokens. Given: {given} (text {at})");
                return Err(Error::new(ErrorKind::BatchTooLarge, message));
            }
            LongText::Truncate => pieces.push(window(0, room)),
            LongText::Windows if is_pair => {
                let message = format!("a pair has at most {tokens_max} tokens, not {given} (text {at})");
                return Err(Error::new(ErrorKind::BatchTooLarge, message));
            }
            LongText::Windows => {
                let cuts = cuts(body.len(), room, self.options.window_overlap);
                let windows_max = self.options.text_windows_max;
                if cuts.len() > windows_max {
                    let message =
                        format!("text {at} has {given} tokens, more than {windows_max} windows of {tokens_max} hold");
                    return Err(Error::new(ErrorKind::BatchTooLarge, message));
                }
                pieces.extend(cuts.into_iter().map(|(from, to)| window(from, to)));
            }
        }
        Ok(())
    }

    /// Tokens that wait for a batch.
    pub(crate) fn waiting_tokens(&self) -> usize {
        self.batcher.waiting_tokens()
    }

    /// After how many seconds it is worth asking again: what waits, at the speed so far; 1 to 30.
    pub(crate) fn retry_after_s(&self) -> u64 {
        let waiting = self.waiting_tokens();
        let rate = self.metrics.tokens_per_second().unwrap_or(f64::MAX).max(1.0);
        #[allow(clippy::cast_precision_loss, reason = "an estimate")]
        let seconds = (waiting as f64 / rate).ceil().clamp(1.0, 30.0);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 1 to 30")]
        let seconds = seconds as u64;
        seconds
    }

    /// Runs texts of several lengths through the model, so that the first request meets no cold cache or kernel.
    pub(crate) async fn warm_up(&self) -> Result<()> {
        let room = self.info().tokens_max.saturating_sub(2).max(1);
        for words in [1, 14, 62, 126, room] {
            let text = Input::from(vec!["a"; words.min(room)].join(" "));
            // Without a timeout: a GPU that compiles its kernels takes longer than any request may.
            self.judge(vec![text], Call::realtime(LongText::Truncate), Duration::MAX).await?;
        }
        Ok(())
    }

    /// Takes nothing more in, and ends once everything is answered.
    pub(crate) async fn stop(self: Arc<Self>) {
        self.batcher.close();
        let joined = tokio::task::spawn_blocking(move || self.batcher.join()).await;
        if let Err(error) = joined {
            tracing::error!(%error, "the model's threads could not be waited for");
        }
    }
}

/// The probabilities of raw scores: each by itself, or all of them together one.
fn normalized(row: &[f32], multi_label: bool) -> Vec<f32> {
    if multi_label {
        return row.iter().map(|score| 1.0 / (1.0 + (-score).exp())).collect();
    }
    let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = row.iter().map(|score| (score - top).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests;
