//! `config.json` of a model in the layout of Hugging Face: what Keevo reads of it, and what it refuses.

use std::collections::BTreeMap;
use std::path::Path;

use keevo_core::{Error, ErrorKind, Result};
use serde::Deserialize;

/// The largest number of any dimension: bigger ones are a broken file, not a model.
const DIMENSION_MAX: usize = 1 << 20;

/// The shape of a BERT model that classifies sequences.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Config {
    model_type: Option<String>,
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) max_position_embeddings: usize,
    #[serde(default = "two")]
    pub(crate) type_vocab_size: usize,
    #[serde(default = "tiny")]
    pub(crate) layer_norm_eps: f32,
    #[serde(default = "gelu")]
    hidden_act: String,
    #[serde(default = "absolute")]
    position_embedding_type: String,
    problem_type: Option<String>,
    #[serde(default)]
    id2label: BTreeMap<String, String>,
    num_labels: Option<usize>,
}

fn two() -> usize {
    2
}

fn tiny() -> f32 {
    1e-12
}

fn gelu() -> String {
    "gelu".to_owned()
}

fn absolute() -> String {
    "absolute".to_owned()
}

impl Config {
    /// Reads and checks `config.json` of the folder `dir`.
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        let text = std::fs::read(&path).map_err(|error| {
            Error::new(ErrorKind::Config, format!("cannot read {}: {error}; name the model's folder", path.display()))
        })?;
        let config: Self = serde_json::from_slice(&text)
            .map_err(|error| refused(format!("{} is no configuration of a BERT model: {error}", path.display())))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        if let Some(other) = self.model_type.as_deref().filter(|name| *name != "bert") {
            return Err(refused(format!("the model is of type {other:?}; only \"bert\" can be served")));
        }
        if self.hidden_act != "gelu" {
            return Err(refused(format!("hidden_act is {:?}; only \"gelu\" can be served", self.hidden_act)));
        }
        if self.position_embedding_type != "absolute" {
            let found = &self.position_embedding_type;
            return Err(refused(format!("position_embedding_type is {found:?}; only \"absolute\" can be served")));
        }
        let dimensions = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("type_vocab_size", self.type_vocab_size),
        ];
        if let Some((name, found)) = dimensions.into_iter().find(|(_, size)| !(1..=DIMENSION_MAX).contains(size)) {
            return Err(refused(format!("{name} is {found}; it must lie between 1 and {DIMENSION_MAX}")));
        }
        if !(3..=DIMENSION_MAX).contains(&self.max_position_embeddings) {
            let found = self.max_position_embeddings;
            return Err(refused(format!("max_position_embeddings is {found}; a text needs at least 3")));
        }
        // Wider ones would not fit the 8-bit products; no BERT comes near.
        if self.hidden_size.max(self.intermediate_size) > 1 << 16 {
            return Err(refused("hidden_size and intermediate_size may be at most 65,536".to_owned()));
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let (size, heads) = (self.hidden_size, self.num_attention_heads);
            return Err(refused(format!("hidden_size {size} is no multiple of num_attention_heads {heads}")));
        }
        if !(self.layer_norm_eps >= 0.0 && self.layer_norm_eps.is_finite()) {
            return Err(refused("layer_norm_eps must be a number that is not below zero".to_owned()));
        }
        Ok(())
    }

    /// The width of one attention head.
    pub(crate) fn head_size(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// Whether each label is judged by itself. Only a model that says `single_label_classification` chooses one.
    pub(crate) fn multi_label(&self) -> bool {
        self.problem_type.as_deref() != Some("single_label_classification")
    }

    /// The labels in the order of the scores; `count` is how many rows the classifier has.
    pub(crate) fn labels(&self, count: usize) -> Result<Vec<String>> {
        if let Some(told) = self.num_labels.filter(|told| *told != count) {
            return Err(refused(format!("num_labels is {told}, but classifier.weight has {count} rows")));
        }
        if self.id2label.is_empty() {
            return Ok((0..count).map(|number| format!("LABEL_{number}")).collect());
        }
        let label = |number: usize| self.id2label.get(&number.to_string()).cloned();
        let labels: Option<Vec<String>> = (0..count).map(label).collect();
        let told = self.id2label.len();
        labels.filter(|_| told == count).ok_or_else(|| {
            refused(format!("id2label names {told} labels, but classifier.weight has {count} rows, 0 to {}", count - 1))
        })
    }
}

/// A model that cannot be served, and why.
pub(crate) fn refused(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"vocab_size":10,"hidden_size":8,"num_hidden_layers":1,"num_attention_heads":2,
        "intermediate_size":16,"max_position_embeddings":12,"id2label":{"0":"a","1":"b"}}"#;

    fn checked(change: impl Fn(&mut serde_json::Value)) -> Result<Config> {
        let mut json: serde_json::Value = serde_json::from_str(GOOD).unwrap();
        change(&mut json);
        let config: Config = serde_json::from_value(json).unwrap();
        config.check().map(|()| config)
    }

    #[test]
    fn what_is_left_out_has_the_usual_values() {
        let config = checked(|_| {}).unwrap();
        assert_eq!((config.type_vocab_size, config.head_size(), config.multi_label()), (2, 4, true));
        assert_eq!(config.labels(2).unwrap(), ["a", "b"]);
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        let cases: [(&str, serde_json::Value, &str); 8] = [
            ("model_type", "roberta".into(), "only \"bert\""),
            ("hidden_act", "relu".into(), "only \"gelu\""),
            ("position_embedding_type", "relative_key".into(), "only \"absolute\""),
            ("hidden_size", 0.into(), "hidden_size is 0"),
            ("hidden_size", 9.into(), "no multiple"),
            ("max_position_embeddings", 2.into(), "at least 3"),
            ("intermediate_size", 100_000.into(), "at most 65,536"),
            ("layer_norm_eps", (-1.0).into(), "layer_norm_eps"),
        ];
        for (key, value, words) in cases {
            let error = checked(|json| json[key] = value.clone()).unwrap_err();
            assert!(error.message().contains(words), "{key}: {error}");
        }
    }

    #[test]
    fn labels_must_be_as_many_as_scores() {
        let config = checked(|_| {}).unwrap();
        assert!(config.labels(3).unwrap_err().message().contains("names 2 labels"));
        let config = checked(|json| json["id2label"] = serde_json::json!({})).unwrap();
        assert_eq!(config.labels(1).unwrap(), ["LABEL_0"]);
        let config = checked(|json| json["num_labels"] = 5.into()).unwrap();
        assert!(config.labels(2).unwrap_err().message().contains("num_labels is 5"));
    }
}
