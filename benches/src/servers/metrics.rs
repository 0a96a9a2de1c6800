//! What nodes tell of themselves at `/metrics`: Prometheus' text format, as far as it is needed here.

use std::collections::BTreeMap;

/// Metrics without labels, by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Adds what a page says to the sums. Lines with labels, comments and what is no number are passed over.
    pub(crate) fn add(&mut self, page: &str) {
        for line in page.lines().filter(|line| !line.starts_with('#') && !line.contains('{')) {
            let Some((name, value)) = line.split_once(' ') else { continue };
            if let Ok(value) = value.trim().parse::<f64>() {
                *self.0.entry(name.to_owned()).or_default() += value;
            }
        }
    }

    /// The metric `name`; `None` where it is not told.
    pub(crate) fn value(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// How much the counter `name` has grown since `before`; `None` where it is not told.
    pub(crate) fn since(&self, before: &Self, name: &str) -> Option<f64> {
        Some(self.0.get(name)? - before.0.get(name).copied().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_over_nodes_and_told_as_differences() {
        let page = "# HELP a_total Things.\n# TYPE a_total counter\na_total 7\nb{shard=\"1\"} 9\n\nc 1.5\nd x\n";
        let mut before = Metrics::default();
        before.add(page);
        let mut after = before.clone();
        after.add(page);
        assert_eq!(after.since(&before, "a_total"), Some(7.0));
        assert_eq!(after.since(&before, "c"), Some(1.5));
        assert_eq!((after.since(&before, "b"), after.since(&before, "d")), (None, None));
    }
}
