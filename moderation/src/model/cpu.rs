//! The model on the processor: packed batches, weights packed once, in f32 or with products of 8 bits.
//!
//! All tokens of a batch lie in one sequence without padding; only attention knows where a text begins and ends.
//! Invariant: a text's scores do not depend on the texts beside it, nor on the number of threads.

mod attention;
mod gemm;
mod int8;
mod layer;
mod math;

use std::fmt;

use keevo_core::{Error, ErrorKind, Result};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use self::gemm::{COLS, Line};
use self::layer::{Layer, Linear, Norm};
use super::config::Config;
use super::weights::Weights;
use crate::classify::Tokens;

/// The most tokens that go through the layers together: their activations stay in the cache of a core or two.
const GROUP_TOKENS_MAX: usize = 512;
/// Below that, splitting a batch between threads costs more than it gains: they share the products instead.
const GROUP_TOKENS_MIN: usize = 128;

/// A model whose weights lie ready for the processor.
pub(crate) struct CpuModel {
    config: Config,
    words: Vec<f32>,
    positions: Vec<f32>,
    types: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
    pooler: Linear,
    classifier: Linear,
    labels: usize,
    threads: ThreadPool,
}

impl fmt::Debug for CpuModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CpuModel").field("config", &self.config).finish_non_exhaustive()
    }
}

impl CpuModel {
    /// Packs the weights. `int8` quantises those of the layers; `threads` is at least 1.
    pub(crate) fn load(
        config: &Config,
        weights: &Weights<'_>,
        labels: usize,
        int8: bool,
        threads: usize,
    ) -> Result<Self> {
        let pool = ThreadPoolBuilder::new().num_threads(threads).thread_name(|n| format!("classify-{n}")).build();
        let threads = pool.map_err(|error| {
            Error::new(ErrorKind::ResourceExhausted, format!("cannot start {threads} threads: {error}"))
        })?;
        let hidden = config.hidden_size;
        let table = |name: &str, rows: usize| weights.of_bert(&format!("embeddings.{name}.weight"), &[rows, hidden]);
        let layer = |number| Layer::load(config, weights, number, int8);
        Ok(Self {
            words: table("word_embeddings", config.vocab_size)?,
            positions: table("position_embeddings", config.max_position_embeddings)?,
            types: table("token_type_embeddings", config.type_vocab_size)?,
            norm: Norm::load(weights, "embeddings.LayerNorm", config)?,
            layers: threads
                .install(|| (0..config.num_hidden_layers).into_par_iter().map(layer).collect::<Result<_>>())?,
            pooler: Linear::load(weights, "bert.pooler.dense", hidden, hidden, false)?,
            classifier: Linear::load(weights, "classifier", labels, hidden, false)?,
            labels,
            threads,
            config: config.clone(),
        })
    }

    /// Raw scores of each text: their tokens were checked before.
    pub(crate) fn forward(&self, batch: &[Tokens]) -> Vec<Vec<f32>> {
        let groups = groups(batch, self.threads.current_num_threads());
        self.threads.install(|| groups.par_iter().flat_map_iter(|group| self.group(group)).collect())
    }

    fn group(&self, group: &[Tokens]) -> Vec<Vec<f32>> {
        let mut bounds = vec![0];
        for text in group {
            bounds.push(bounds.last().copied().unwrap_or_default() + text.ids.len());
        }
        let rows = bounds.last().copied().unwrap_or_default();
        let mut x = self.embed(group, rows);
        let last = self.layers.len().saturating_sub(1);
        for (number, layer) in self.layers.iter().enumerate() {
            x = if number == last { layer.forward_first_rows(&x, &bounds) } else { layer.forward(&x, &bounds) };
        }
        self.scores(&x, group.len())
    }

    fn embed(&self, group: &[Tokens], rows: usize) -> Vec<Line> {
        let hidden = self.config.hidden_size;
        let mut x = vec![[0.0; COLS]; hidden.div_ceil(COLS) * rows];
        let mut row = 0;
        for text in group {
            for (position, (id, kind)) in text.ids.iter().zip(&text.types).enumerate() {
                let word = row_of(&self.words, *id as usize, hidden);
                let place = row_of(&self.positions, position, hidden);
                let kind = row_of(&self.types, *kind as usize, hidden);
                let lines = x.iter_mut().skip(row).step_by(rows.max(1));
                for (((line, word), place), kind) in
                    lines.zip(word.chunks(COLS)).zip(place.chunks(COLS)).zip(kind.chunks(COLS))
                {
                    for (((x, w), p), k) in line.iter_mut().zip(word).zip(place).zip(kind) {
                        *x = w + p + k;
                    }
                }
                row += 1;
            }
        }
        self.norm.apply(&mut x, rows);
        x
    }

    fn scores(&self, first_rows: &[Line], texts: usize) -> Vec<Vec<f32>> {
        let mut pooled = self.pooler.apply(first_rows, texts);
        for x in pooled.as_flattened_mut() {
            *x = x.tanh();
        }
        let scores = self.classifier.apply(&pooled, texts);
        let row = |text| {
            let lines = scores.iter().skip(text).step_by(texts.max(1));
            lines.flatten().take(self.labels).copied().collect()
        };
        (0..texts).map(row).collect()
    }
}

fn row_of(table: &[f32], row: usize, width: usize) -> &[f32] {
    table.get(row * width..(row + 1) * width).unwrap_or_default()
}

/// Splits a batch, in order, into groups of about as many tokens each: none too large for the caches, and where
/// there is enough to do one for each thread.
fn groups(batch: &[Tokens], threads: usize) -> Vec<&[Tokens]> {
    let total: usize = batch.iter().map(|text| text.ids.len()).sum();
    let count = total.div_ceil(GROUP_TOKENS_MAX).max((total / GROUP_TOKENS_MIN).min(threads)).max(1);
    // As many for one thread as for another.
    let count = if count > threads { count.next_multiple_of(threads.max(1)) } else { count };
    let share = total.div_ceil(count).max(1);
    let (mut groups, mut rest, mut end, mut tokens) = (Vec::with_capacity(count), batch, 0, 0);
    for text in batch {
        if end > 0 && tokens + text.ids.len() / 2 > share * (groups.len() + 1) {
            let (group, left) = rest.split_at(end);
            groups.push(group);
            (rest, end) = (left, 0);
        }
        tokens += text.ids.len();
        end += 1;
    }
    groups.push(rest);
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_keep_the_order_and_share_the_tokens() {
        let text = |length: usize| Tokens { ids: vec![0; length], types: vec![0; length] };
        let batch: Vec<Tokens> = (0..256).map(|number| text(5 + number * 7 % 56)).collect();
        let total: usize = batch.iter().map(|text| text.ids.len()).sum();
        for threads in [1, 2, 3, 16] {
            let groups = groups(&batch, threads);
            assert_eq!(groups.concat(), batch, "{threads}");
            let most = groups.iter().map(|group| group.iter().map(|text| text.ids.len()).sum::<usize>()).max();
            assert!(most.unwrap() <= total.div_ceil(groups.len()) + 61, "{threads}: {most:?}");
        }
        assert_eq!(groups(&[text(32)], 8).len(), 1);
        assert_eq!(groups(&[], 8), [&[] as &[Tokens]]);
    }
}
