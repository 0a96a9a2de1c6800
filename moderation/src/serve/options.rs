//! How the sidecar serves: every limit in one place, with defaults that suit a CPU.

use std::collections::BTreeMap;
use std::time::Duration;

use keevo_core::{Error, Result};

/// Every limit of the serving side.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// The most tokens in one batch.
    pub batch_tokens_max: usize,
    /// The most texts and windows in one batch.
    pub batch_texts_max: usize,
    /// How long the first text of a batch waits for company, while there is any about.
    pub batch_wait: Duration,
    /// Threads that run the model.
    pub model_threads: usize,
    /// The most texts and windows that may wait.
    pub queue_texts_max: usize,
    /// The most tokens that may wait.
    pub queue_tokens_max: usize,
    /// The timeout of a request that names none, and the longest one.
    pub timeout: Duration,
    /// The most texts in one request.
    pub request_texts_max: usize,
    /// The most bytes in the body of a request.
    pub body_bytes_max: usize,
    /// The most windows that a long text is cut into; a longer one is refused.
    pub text_windows_max: usize,
    /// Tokens that two neighbouring windows share.
    pub window_overlap: usize,
    /// The most connections at a time, over HTTP.
    pub connections_max: usize,
    /// How long requests under way may take to end when the sidecar stops.
    pub drain: Duration,
    /// From which probability on a label counts as flagged where no other threshold is said.
    pub threshold: f32,
    /// Thresholds of single labels.
    pub thresholds: BTreeMap<String, f32>,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            batch_tokens_max: 4_096,
            batch_texts_max: 256,
            batch_wait: Duration::from_millis(1),
            model_threads: 1,
            queue_texts_max: 4_096,
            queue_tokens_max: 131_072,
            timeout: Duration::from_secs(10),
            request_texts_max: 256,
            body_bytes_max: 2 << 20,
            text_windows_max: 64,
            window_overlap: 64,
            connections_max: 4_096,
            drain: Duration::from_secs(10),
            threshold: 0.5,
            thresholds: BTreeMap::new(),
        }
    }
}

impl ServeOptions {
    /// The threshold of a label.
    pub fn threshold_of(&self, label: &str) -> f32 {
        self.thresholds.get(label).copied().unwrap_or(self.threshold)
    }

    /// Refuses what cannot work, saying which option and why. `labels` are the model's.
    pub fn check(&self, labels: &[String]) -> Result<()> {
        for (name, value) in [
            ("batch tokens", self.batch_tokens_max),
            ("batch texts", self.batch_texts_max),
            ("model threads", self.model_threads),
            ("queue texts", self.queue_texts_max),
            ("queue tokens", self.queue_tokens_max),
            ("texts of a request", self.request_texts_max),
            ("windows of a text", self.text_windows_max),
            ("connections", self.connections_max),
        ] {
            if value == 0 {
                return Err(Error::invalid(format!("the number of {name} must be at least 1")));
            }
        }
        if self.timeout.is_zero() {
            return Err(Error::invalid("the timeout must be at least 1 ms"));
        }
        for (label, threshold) in self
            .thresholds
            .iter()
            .map(|(label, value)| (label.as_str(), *value))
            .chain([("every label", self.threshold)])
        {
            if !(0.0..=1.0).contains(&threshold) {
                return Err(Error::invalid(format!(
                    "the threshold of {label} is {threshold}, but must be from 0 to 1"
                )));
            }
        }
        if let Some(stranger) = self.thresholds.keys().find(|label| !labels.contains(label)) {
            let known = labels.join(", ");
            return Err(Error::invalid(format!("the model has no label {stranger}; it has {known}")));
        }
        Ok(())
    }
}
