//! Quantiles of what happened between two looks at a histogram.
//!
//! Invariant: a quantile lies in the bucket that holds it, and there is none where nothing happened.

use std::collections::BTreeMap;

use super::exposition::Exposition;

/// Calls between two looks: those up to each end in seconds, the largest of which is infinite.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Buckets(Vec<(f64, f64)>);

impl Buckets {
    /// The calls of the methods that `counts`, between two looks.
    pub(super) fn between(before: &Exposition, now: &Exposition, counts: impl Fn(&str) -> bool) -> Self {
        let mut ends: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
        for (sample, sign) in [(now, 1.0), (before, -1.0)] {
            for (labels, value) in sample.all("keevo_rpc_seconds_bucket") {
                let (Some(method), Some(end)) = (labels.get("method"), labels.get("le")) else { continue };
                let end: f64 = if end == "+Inf" { f64::INFINITY } else { end.parse().unwrap_or(f64::INFINITY) };
                if counts(method) {
                    // Ends are positive, so their bits are in their order.
                    ends.entry(end.to_bits()).or_insert((end, 0.0)).1 += sign * value;
                }
            }
        }
        Self(ends.into_values().collect())
    }

    /// The calls of both.
    pub(super) fn with(mut self, other: &Self) -> Self {
        if self.0.is_empty() {
            return other.clone();
        }
        for ((_, calls), (_, more)) in self.0.iter_mut().zip(&other.0) {
            *calls += more;
        }
        self
    }

    /// All calls.
    pub(super) fn calls(&self) -> f64 {
        self.0.last().map_or(0.0, |(_, calls)| calls.max(0.0))
    }

    /// The time in seconds that a share of the calls took at most; of those beyond the last end that end.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        let wanted = self.calls() * share;
        if self.calls() < 1.0 {
            return None;
        }
        let (mut low, mut below) = (0.0, 0.0);
        for (end, calls) in &self.0 {
            if *calls >= wanted {
                let inside = (calls - below).max(f64::MIN_POSITIVE);
                return Some(if end.is_finite() { low + (end - low) * ((wanted - below) / inside) } else { low });
            }
            (low, below) = (if end.is_finite() { *end } else { low }, *calls);
        }
        Some(low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(counts: [u32; 3]) -> Exposition {
        let [fast, slow, all] = counts;
        Exposition::parse(&format!(
            "keevo_rpc_seconds_bucket{{method=\"a\",le=\"0.001\"}} {fast}\n\
             keevo_rpc_seconds_bucket{{method=\"a\",le=\"0.01\"}} {slow}\n\
             keevo_rpc_seconds_bucket{{method=\"a\",le=\"+Inf\"}} {all}\n\
             keevo_rpc_seconds_bucket{{method=\"b\",le=\"+Inf\"}} 1000\n"
        ))
    }

    #[test]
    fn a_quantile_lies_in_its_bucket() {
        let buckets = Buckets::between(&sample([10, 10, 10]), &sample([60, 100, 110]), |method| method == "a");
        assert!((buckets.calls() - 100.0).abs() < 1e-9);
        let close = |share: f64, expected: f64| {
            let found = buckets.quantile(share).expect("calls");
            assert!((found - expected).abs() < 1e-9, "{share}: {found}");
        };
        close(0.25, 0.000_5);
        close(0.5, 0.001);
        close(0.7, 0.005_5);
        close(0.99, 0.01);
        assert_eq!(Buckets::default().quantile(0.5), None);
        let both = Buckets::default().with(&buckets).with(&buckets);
        assert!((both.calls() - 200.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_happened_where_the_counters_stand() {
        let buckets = Buckets::between(&sample([1, 2, 3]), &sample([1, 2, 3]), |_| true);
        assert_eq!(buckets.quantile(0.5), None);
    }
}
