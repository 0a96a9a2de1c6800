//! The result of `keevo-bench load`: a row a run, as a table or as JSON.

use serde::Serialize;

use crate::figures::per_second;
use crate::load::{Load, Measured};

/// The figures of one run; its field names are those of a comparison's `keevo` object.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Row {
    case: &'static str,
    clients: u32,
    value_bytes: usize,
    ops_per_s: f64,
    p50_us: u64,
    p99_us: u64,
    p999_us: u64,
    failed: u64,
}

impl Row {
    pub(crate) fn new(load: &Load, measured: &Measured) -> Self {
        let at = |quantile| measured.tally.latency_us.value_at_quantile(quantile);
        Self {
            case: load.case.name(),
            clients: load.clients,
            value_bytes: load.value_bytes,
            ops_per_s: per_second(measured.tally.ops, measured.elapsed),
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            failed: measured.tally.failed,
        }
    }

    /// The row as one JSON object.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The rows as a table.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(["case", "clients", "ops/s", "p50 µs", "p99 µs", "p99.9 µs", "failed"]);
    for row in rows {
        table.add_row([
            row.case.to_owned(),
            row.clients.to_string(),
            row.ops_per_s.to_string(),
            row.p50_us.to_string(),
            row.p99_us.to_string(),
            row.p999_us.to_string(),
            row.failed.to_string(),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::tests::run;
    use crate::load::Case;
    use std::time::Duration;

    #[test]
    fn a_row_is_json_and_a_line_of_the_table() {
        let (warm_up, measure) = (Duration::ZERO, Duration::from_secs(2));
        let load = Load {
            case: Case::Put,
            clients: 64,
            keys: 1,
            value_bytes: 256,
            warm_up,
            measure,
            round: 0,
            open_per_s: None,
        };
        let row = Row::new(&load, &run(2_468, 10, 2, 1));
        expect_test::expect![[
            r#"{"case":"put","clients":64,"value_bytes":256,"ops_per_s":1234.0,"p50_us":10,"p99_us":10,"p999_us":10,"failed":1}"#
        ]]
        .assert_eq(&row.json());
        assert!(table(&[row]).lines().last().is_some_and(|line| line.contains("1234")));
    }
}
