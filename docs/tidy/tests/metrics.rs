//! The alert rules, their unit tests, the dashboard, the table of metrics and the runbook speak of the same things.
//!
//! That the table is what nodes show is tested where nodes run: `keevo-server/tests/security/metrics.rs`.

use std::collections::BTreeSet;

use keevo_tidy::{markdown, text};

const RULES: &str = "keevo-server/packaging/prometheus/keevo-alerts.yml";
const TESTS: &str = "keevo-server/packaging/prometheus/keevo-alerts-test.yml";
const DASHBOARD: &str = "keevo-server/packaging/grafana/keevo.json";
const TABLE: &str = "docs/METRICS.md";
const RUNBOOK: &str = "docs/OPERATIONS.md";

fn read(path: &str) -> String {
    text(path).expect("it can be read").expect("it is text")
}

/// The words of a text that are names of metrics, without the parts of histograms.
fn metrics(text: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let words = text.split(|c: char| !is_word(c)).filter(|word| word.starts_with("keevo_"));
    let parts = ["_bucket", "_sum", "_count"];
    words.map(|word| parts.iter().find_map(|part| word.strip_suffix(part)).unwrap_or(word).to_owned()).collect()
}

/// The names in the first column of the table of metrics.
fn documented() -> BTreeSet<String> {
    let table = read(TABLE);
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(name, _)| name.to_owned()).filter(|name| name.starts_with("keevo_")).collect()
}

/// The alerts of the rules, in order.
fn alerts() -> Vec<String> {
    read(RULES).lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(str::to_owned).collect()
}

#[test]
fn every_metric_that_is_named_is_in_the_table() {
    let documented = documented();
    assert!(documented.len() > 100, "the table was not found");
    for path in [RULES, TESTS, DASHBOARD, RUNBOOK] {
        let named = metrics(&read(path));
        assert!(!named.is_empty(), "{path} names no metric");
        // A module of the server, in a line of its log.
        let unknown: Vec<_> = named.difference(&documented).filter(|name| *name != "keevo_server").collect();
        assert!(unknown.is_empty(), "{path} names metrics that {TABLE} does not: {unknown:?}");
    }
}

#[test]
fn the_table_is_sorted() {
    let table = read(TABLE);
    let names: Vec<&str> = table.lines().filter_map(|line| line.strip_prefix("| `keevo_")?.split('`').next()).collect();
    let rows: Vec<&&str> = names.iter().collect();
    assert!(rows.windows(2).all(|pair| pair[0] < pair[1]), "sort the table of {TABLE} by name");
}

#[test]
fn every_alert_has_a_runbook_and_tests_and_every_runbook_an_alert() {
    let alerts = alerts();
    assert!(alerts.len() > 20, "the rules were not found");
    let (rules, tests, runbook) = (read(RULES), read(TESTS), read(RUNBOOK));
    let anchors = markdown::anchors(&runbook);
    for alert in &alerts {
        let anchor = alert.to_lowercase();
        assert!(anchors.contains(&anchor), "{RUNBOOK} has no section {alert}");
        assert!(rules.contains(&format!("runbook: {RUNBOOK}#{anchor}\n")), "{alert} names no runbook of its own");
        for what in ["fires", "is silent"] {
            assert!(tests.contains(&format!("- name: {alert} {what}\n")), "{TESTS} does not test that {alert} {what}");
        }
    }
    let sections: Vec<&str> = runbook.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert_eq!(sections, alerts, "the sections of the runbook are the alerts, in the order of the rules");
    for (section, body) in runbook.split("\n### ").skip(1).filter_map(|section| section.split_once('\n')) {
        for part in ["Look at:\n", "Do:\n", "When to worry: "] {
            assert!(body.contains(part), "the section {section} lacks '{}'", part.trim());
        }
    }
}
