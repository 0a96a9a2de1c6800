//! What keevod is told of traces.

use keevo_core::Result;

use super::layers::Layers;

/// Where spans go, and of how many calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracesConfig {
    /// The collector: `http://host:port`.
    pub endpoint: String,
    /// Of a million calls without a trace of their own so many are traced.
    pub per_million: u32,
}

impl TracesConfig {
    pub(super) fn from_layers(layers: &Layers) -> Result<Option<Self>> {
        const RATIO: &str = "a number from 0 to 1";
        let ratio: f64 = layers.parse("traces_ratio", RATIO)?;
        if !(0.0..=1.0).contains(&ratio) {
            return Err(layers.refuse("traces_ratio", RATIO));
        }
        let endpoint = layers.text("traces_endpoint").to_owned();
        if endpoint.is_empty() {
            return Ok(None);
        }
        if !endpoint.starts_with("http://") {
            return Err(layers.refuse("traces_endpoint", "an address like http://127.0.0.1:4317"));
        }
        Ok(Some(Self { endpoint, per_million: millionths(ratio) }))
    }

    /// The share of calls that are traced, from 0 to 1.
    pub fn ratio(&self) -> f64 {
        f64::from(self.per_million) / 1e6
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 1")]
fn millionths(ratio: f64) -> u32 {
    (ratio * 1e6).round() as u32
}

#[cfg(test)]
mod tests {
    use keevo_core::ErrorKind;

    use super::*;

    #[test]
    fn nothing_is_traced_unless_it_is_said_where_to() {
        let config = |settings: &[(&str, &str)]| {
            let mut layers = Layers::defaults();
            for (name, value) in settings {
                layers.add_flag(name, value);
            }
            TracesConfig::from_layers(&layers)
        };
        assert_eq!(config(&[]).expect("good"), None);
        let to = ("traces_endpoint", "http://127.0.0.1:4317");
        assert!(config(&[to]).expect("good").is_some_and(|traces| traces.per_million == 10_000));
        let quarter = config(&[to, ("traces_ratio", "0.25")]).expect("good").expect("some");
        assert!((quarter.ratio() - 0.25).abs() < 1e-9);
        for bad in [("traces_ratio", "2"), ("traces_ratio", "x"), ("traces_endpoint", "127.0.0.1:4317")] {
            assert_eq!(config(&[bad]).expect_err("refused").kind(), ErrorKind::Config, "{bad:?}");
        }
    }
}
