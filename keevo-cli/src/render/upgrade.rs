//! The state of a rolling upgrade.

use keevo_proto::admin::v1 as pb;
use serde_json::{Value, json};

use super::table;
use crate::output::Answer;
use crate::text::line;

impl Answer for pb::UpgradeResponse {
    fn table(&self) -> String {
        let nodes = self.nodes.iter().map(|node| {
            let (version, levels) = match node.level_max {
                0 => ("-".to_owned(), "does not answer".to_owned()),
                max => (line(&node.version), format!("{} to {max}", node.level_min)),
            };
            [node.id.to_string(), version, levels]
        });
        let next = match (self.level == self.newest, self.obstacles.is_empty()) {
            (true, true) => ", the newest that its nodes know".to_owned(),
            (false, true) => format!("; all nodes know level {}: --finalize goes there, for good", self.newest),
            (_, false) => String::new(),
        };
        let mut lines = vec![table(["Node", "Version", "Levels"], nodes.collect(), "no nodes")];
        lines.push(format!("the cluster is at level {}{next}", self.level));
        lines.extend(self.obstacles.iter().map(|obstacle| format!("in the way: {}", line(obstacle))));
        lines.join("\n")
    }

    fn json(&self) -> Value {
        let nodes = self.nodes.iter().map(|node| {
            json!({
                "id": node.id,
                "version": node.version,
                "level_min": node.level_min,
                "level_max": node.level_max,
            })
        });
        json!({
            "level": self.level,
            "newest": self.newest,
            "nodes": nodes.collect::<Vec<_>>(),
            "obstacles": self.obstacles,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64, level_max: u32) -> pb::UpgradeNode {
        let version = if level_max == 0 { "" } else { "0.1.0" };
        pb::UpgradeNode { id, version: version.to_owned(), level_min: level_max.min(1), level_max }
    }

    #[test]
    fn each_state_says_what_to_do_next() {
        let state = |level, obstacles: &[&str], nodes| {
            let obstacles = obstacles.iter().map(|one| (*one).to_owned()).collect();
            pb::UpgradeResponse { level, newest: 2, nodes, obstacles }.table()
        };
        let waits = state(1, &["node 2 does not answer: start it, or remove it"], vec![node(1, 2), node(2, 0)]);
        assert!(waits.ends_with("at level 1\nin the way: node 2 does not answer: start it, or remove it"), "{waits}");
        assert!(waits.contains("does not answer") && waits.contains("1 to 2"), "{waits}");
        let ready = state(1, &[], vec![node(1, 2)]);
        assert!(ready.ends_with("at level 1; all nodes know level 2: --finalize goes there, for good"), "{ready}");
        assert!(state(2, &[], vec![node(1, 2)]).ends_with("at level 2, the newest that its nodes know"));
    }
}
