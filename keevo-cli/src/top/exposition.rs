//! Prometheus' text format, as far as Keevo writes it: a name, labels in braces, a number.
//!
//! Invariant: a line that is none is passed over; what a node sends makes no caller fail.

use std::collections::BTreeMap;

/// Numbers by their labels.
type Series = Vec<(BTreeMap<String, String>, f64)>;

/// The metrics of a node.
#[derive(Debug, Clone, Default)]
pub(super) struct Exposition {
    series: BTreeMap<String, Series>,
}

impl Exposition {
    /// Reads a text.
    pub(super) fn parse(text: &str) -> Self {
        let mut series: BTreeMap<String, Series> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some((name, labels, value)) = parse_line(line) {
                series.entry(name.to_owned()).or_default().push((labels, value));
            }
        }
        Self { series }
    }

    /// All numbers of a metric, by their labels.
    pub(super) fn all(&self, name: &str) -> &[(BTreeMap<String, String>, f64)] {
        self.series.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// The number of a metric without labels.
    pub(super) fn value(&self, name: &str) -> Option<f64> {
        self.all(name).first().map(|(_, value)| *value)
    }

    /// The numbers of a metric of each shard.
    pub(super) fn by_shard(&self, name: &str) -> BTreeMap<u64, f64> {
        let shard = |labels: &BTreeMap<String, String>| labels.get("shard")?.parse().ok();
        self.all(name).iter().filter_map(|(labels, value)| Some((shard(labels)?, *value))).collect()
    }
}

fn parse_line(line: &str) -> Option<(&str, BTreeMap<String, String>, f64)> {
    let (name, rest) = line.split_at(line.find(['{', ' '])?);
    let (labels, value) = match rest.strip_prefix('{') {
        None => (BTreeMap::new(), rest),
        Some(inside) => {
            let (labels, value) = inside.rsplit_once('}')?;
            (parse_labels(labels)?, value)
        }
    };
    let value = value.trim().parse().ok()?;
    (!name.is_empty()).then_some((name, labels, value))
}

/// `name="value",name="value"`, where a value holds no quote that is not escaped.
fn parse_labels(text: &str) -> Option<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"")?;
        let end = end_of_value(after)?;
        let (value, after) = after.split_at_checked(end)?;
        labels.insert(name.trim_start_matches(',').to_owned(), value.replace("\\\"", "\""));
        rest = after.strip_prefix('"')?;
    }
    Some(labels)
}

/// Where the next quote stands that is not escaped.
fn end_of_value(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends.then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_nonsense_is_passed_over() {
        let text = "# HELP a b\n# TYPE a gauge\na 1\na{shard=\"2\",method=\"x,y\"} 2.5\nb{shard=\"3\"} 4\nb{shard=\"x\"} 5\n\
                    c{q=\"a\\\"}b\"} 6\nno\n{} 1\nd{shard=\"1\" 7\ne{shard=\"1\"} seven\n";
        let read = Exposition::parse(text);
        assert_eq!(read.value("a"), Some(1.0));
        assert_eq!(read.all("a").len(), 2);
        assert_eq!(read.all("a")[1].0.get("method").map(String::as_str), Some("x,y"));
        assert_eq!(read.by_shard("b"), [(3, 4.0)].into());
        assert_eq!(read.all("c")[0].0.get("q").map(String::as_str), Some("a\"}b"));
        assert!(read.all("d").is_empty() && read.all("e").is_empty() && read.value("no").is_none());
    }
}
