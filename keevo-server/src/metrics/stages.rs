//! The stages of writes as a histogram in Prometheus' text format.

use std::fmt::Write;
use std::time::Duration;

use keevo_raft::{STAGE_BUCKETS_US, Stage, StageTimes};

const NAME: &str = "keevo_write_stage_seconds";

/// The times of every stage.
pub(super) fn render(times: &[(Stage, StageTimes)]) -> String {
    let mut text = format!(
        "# HELP {NAME} Time that the stages of writes took here; docs/METRICS.md says what each is.\n\
         # TYPE {NAME} histogram\n"
    );
    for (stage, times) in times {
        let stage = stage.name();
        let mut below = 0;
        for (count, end) in times.buckets.iter().zip(STAGE_BUCKETS_US) {
            below += count;
            let end = Duration::from_micros(end).as_secs_f64();
            line(&mut text, "bucket", &format!("stage=\"{stage}\",le=\"{end}\""), &below);
        }
        // The counters are read one after the other, while others count.
        let count = times.count.max(below);
        line(&mut text, "bucket", &format!("stage=\"{stage}\",le=\"+Inf\""), &count);
        let labels = format!("stage=\"{stage}\"");
        line(&mut text, "sum", &labels, &Duration::from_micros(times.micros).as_secs_f64());
        line(&mut text, "count", &labels, &count);
    }
    text
}

fn line(text: &mut String, part: &str, labels: &str, value: &impl std::fmt::Display) {
    writeln!(text, "{NAME}_{part}{{{labels}}} {value}").expect("a string takes all text");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_end_with_all() {
        let mut flush = StageTimes { count: 4, micros: 12_000_000, ..StageTimes::default() };
        flush.buckets[0] = 1;
        flush.buckets[2] = 2;
        let text = render(&[(Stage::Flush, flush)]);
        for expected in [
            "# TYPE keevo_write_stage_seconds histogram",
            "keevo_write_stage_seconds_bucket{stage=\"flush\",le=\"0.00025\"} 1",
            "keevo_write_stage_seconds_bucket{stage=\"flush\",le=\"0.0005\"} 1",
            "keevo_write_stage_seconds_bucket{stage=\"flush\",le=\"0.001\"} 3",
            "keevo_write_stage_seconds_bucket{stage=\"flush\",le=\"10\"} 3",
            "keevo_write_stage_seconds_bucket{stage=\"flush\",le=\"+Inf\"} 4",
            "keevo_write_stage_seconds_sum{stage=\"flush\"} 12",
            "keevo_write_stage_seconds_count{stage=\"flush\"} 4",
        ] {
            assert!(text.lines().any(|line| line == expected), "{expected} is missing in\n{text}");
        }
    }
}
