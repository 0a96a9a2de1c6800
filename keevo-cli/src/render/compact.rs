//! Compactions: levels while they change, and what was gained.

use keevo_proto::admin::v1 as pb;
use serde_json::{Map, Value, json};

use super::table;
use crate::output::Answer;
use crate::text::line;

/// How far a node's compaction is.
#[derive(Debug)]
pub(crate) struct Look<'a> {
    pub(crate) node: &'a str,
    pub(crate) step: &'a pb::CompactProgress,
}

impl Answer for Look<'_> {
    fn table(&self) -> String {
        let step = self.step;
        let rows = step.levels.iter().map(|one| {
            let score = format!("{}.{:02}", one.score_permille / 1_000, one.score_permille % 1_000 / 10);
            [line(&one.family), one.level.to_string(), one.files.to_string(), mib(one.bytes), score]
        });
        let levels = table(["Family", "Level", "Files", "MiB", "Score"], rows.collect(), "no table files");
        format!(
            "{} {}/{} {}: {} MiB now, {} before, {} yet to compact\n{levels}",
            line(self.node),
            step.done_steps,
            step.total_steps,
            line(&step.what),
            mib(step.now_bytes),
            mib(step.before_bytes),
            mib(step.pending_bytes),
        )
    }

    fn json(&self) -> Value {
        let mut object = fields(self.node, self.step);
        object.insert("done_steps".to_owned(), self.step.done_steps.into());
        object.insert("what".to_owned(), self.step.what.as_str().into());
        object.into()
    }
}

/// Mebibytes with a digit behind the point.
fn mib(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn fields(node: &str, step: &pb::CompactProgress) -> Map<String, Value> {
    let level = |one: &pb::CompactLevel| {
        json!({
            "family": one.family,
            "level": one.level,
            "files": one.files,
            "bytes": one.bytes,
            "score_permille": one.score_permille,
        })
    };
    super::object(json!({
        "endpoint": node,
        "steps": step.total_steps,
        "before_bytes": step.before_bytes,
        "now_bytes": step.now_bytes,
        "reclaimed_bytes": step.before_bytes.saturating_sub(step.now_bytes),
        "pending_bytes": step.pending_bytes,
        "levels": step.levels.iter().map(level).collect::<Vec<_>>(),
    }))
}

/// What the compactions of some nodes came to.
#[derive(Debug)]
pub(crate) struct Compacted(pub(crate) Vec<(String, pb::CompactProgress)>);

impl Answer for Compacted {
    fn table(&self) -> String {
        let one = |(node, last): &(String, pb::CompactProgress)| {
            // A node of an earlier version does not say.
            if last.before_bytes == 0 && last.now_bytes == 0 {
                return format!("compacted {}", line(node));
            }
            let reclaimed = last.before_bytes.saturating_sub(last.now_bytes);
            let [before, now, reclaimed] = [last.before_bytes, last.now_bytes, reclaimed].map(mib);
            format!("compacted {}: {before} MiB before, {now} MiB now, {reclaimed} MiB reclaimed", line(node))
        };
        self.0.iter().map(one).collect::<Vec<_>>().join("\n")
    }

    fn json(&self) -> Value {
        json!({ "compacted": self.0.iter().map(|(node, last)| fields(node, last)).collect::<Vec<_>>() })
    }

    fn list(&self) -> Option<&'static str> {
        Some("compacted")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_gains_are_told_in_both_formats() {
        let level =
            pb::CompactLevel { family: "data".into(), level: 6, files: 3, bytes: 5 << 20, score_permille: 1_250 };
        let step = pb::CompactProgress {
            done_steps: 1,
            total_steps: 4,
            what: "records".into(),
            levels: vec![level],
            pending_bytes: 3 << 19,
            before_bytes: 8 << 20,
            now_bytes: 5 << 20,
        };
        let look = Look { node: "a:1", step: &step };
        let shown = look.table();
        assert!(shown.starts_with("a:1 1/4 records: 5.0 MiB now, 8.0 before, 1.5 yet to compact\n"), "{shown}");
        assert!(shown.contains("data") && shown.contains("1.25"), "{shown}");
        assert_eq!(look.json()["levels"][0]["files"], 3);
        let all = Compacted(vec![("a:1".into(), step), ("b:1".into(), pb::CompactProgress::default())]);
        assert_eq!(all.table(), "compacted a:1: 8.0 MiB before, 5.0 MiB now, 3.0 MiB reclaimed\ncompacted b:1");
        assert_eq!(all.json()["compacted"][0]["reclaimed_bytes"], 3 << 20);
    }
}
