//! What serving needs of a model: tokens of a text, and raw scores of a batch of them.
//!
//! Invariant: a [`Classify`] answers one row of scores a text, in the texts' order, one score a label, and never a
//! number that is none (NaN): that is an error.

use keevo_core::Result;

/// What a model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// Its name: that of the bundled model, or of its folder.
    pub name: String,
    /// Names its weights: verdicts are stored with it.
    pub version: String,
    /// Its labels, in the order of the scores.
    pub labels: Vec<String>,
    /// The most tokens of one text, with the special ones.
    pub tokens_max: usize,
    /// Whether each label is judged by itself (sigmoid); else one of them is chosen (softmax).
    pub multi_label: bool,
    /// Where it runs: `cpu`, or the name of a GPU.
    pub device: String,
    /// The type of its numbers, as `float32`.
    pub dtype: String,
}

/// A text as the model reads it: the first token is the model's mark of a start, the last one its mark of an end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tokens {
    /// The tokens' ids.
    pub ids: Vec<u32>,
    /// 0 for tokens of the first text, 1 for those of the second; as many as there are ids.
    pub types: Vec<u32>,
}

/// A model that judges texts.
pub trait Classify: Send + Sync + 'static {
    /// What it is.
    fn info(&self) -> &ModelInfo;

    /// The tokens of a text, or of a pair of texts, however many there are.
    fn encode(&self, text: &str, pair: Option<&str>) -> Result<Tokens>;

    /// Raw scores (logits) of each. Blocks; called from threads of its own. Each input has 2 to `tokens_max` tokens.
    fn classify(&self, batch: &[Tokens]) -> Result<Vec<Vec<f32>>>;
}
