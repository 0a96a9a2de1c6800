//! Every command against one node, with each output for programs: one JSON document, or one object a line.

#![allow(clippy::indexing_slicing, reason = "a test may panic where it is wrong")]

mod apilog {
    #![allow(dead_code, reason = "other tests use all of it")]
    pub(crate) mod node;
}

use std::process::Command;

use apilog::node::{Node, SECRET};
use serde_json::Value;

const COMMANDS: &str = include_str!("testdata/commands.txt");

/// The words of a line, of which quotes hold some together.
fn words(line: &str) -> Vec<String> {
    let line = line.split(" #").next().unwrap_or_default();
    let quoted = line.split('\'').enumerate();
    let parts =
        quoted.flat_map(|(place, part)| if place % 2 == 1 { vec![part] } else { part.split_whitespace().collect() });
    parts.map(str::to_owned).collect()
}

/// The values that stand for names in later lines.
struct Known(Vec<(&'static str, String)>);

impl Known {
    fn filled(&self, word: &str) -> String {
        self.0.iter().fold(word.to_owned(), |word, (name, value)| word.replace(name, value))
    }

    /// Remembers the ids that an answer has.
    fn learn(&mut self, words: &[String], answer: &Value) {
        let begins: Vec<&str> = words.iter().map(String::as_str).take(3).collect();
        let found = match begins.as_slice() {
            ["app", "create", _] => Some(("%app", &answer["app"])),
            ["auth", "key", "create"] => Some(("%key", &answer["id"])),
            ["feed", "add", _] => Some(("%activity", &answer["id"])),
            _ => None,
        };
        if let Some((name, value)) = found {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            self.0.retain(|(known, _)| *known != name);
            self.0.push((name, value));
        }
    }
}

#[test]
fn every_command_answers_in_the_format_that_was_asked_for() {
    let node = Node::start(2);
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().display().to_string();
    for (name, text) in [
        ("feeds.jsonl", "{\"user\":{\"id\":\"carl\"}}\n"),
        ("chat.jsonl", "{\"user\":{\"id\":\"carl\",\"role\":\"user\"}}\n"),
        ("words.txt", "darn\nheck\n"),
        ("policy.json", "{}"),
    ] {
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    for (number, format) in [(1, "json"), (2, "jsonl")] {
        let mut known = Known(vec![("%node", node.grpc.clone()), ("%n", number.to_string()), ("%dir", dir.clone())]);
        for line in COMMANDS.lines().filter(|line| !line.starts_with('#')) {
            let (kind, command) = line.split_once(' ').expect("a kind and a command");
            if kind == "apart" {
                continue;
            }
            let args: Vec<String> = words(command).iter().map(|word| known.filled(word)).collect();
            let mut program = Command::new(env!("CARGO_BIN_EXE_keevo-cli"));
            let program = program.env("KEEVO_ENDPOINTS", &node.grpc).env("KEEVO_APP_SECRET", SECRET);
            let program = program.env("XDG_CONFIG_HOME", folder.path()).env("KEEVO_CONTEXT", "");
            let output = program.args(&args).args(["--output", format]).output().expect("the program starts");
            let (out, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success() || kind == "verdict", "{args:?}: {out}{said}");
            let parsed = |text: &str| {
                serde_json::from_str::<Value>(text)
                    .unwrap_or_else(|error| panic!("{args:?} --output {format}: {error}: {out}"))
            };
            match (kind, format) {
                ("data", _) => {}
                ("document" | "verdict", "json") => known.learn(&args, &parsed(&out)),
                ("document" | "verdict", _) => {
                    out.lines().map(parsed).for_each(|answer| known.learn(&args, &answer));
                }
                // A watch ends with its answer, which json spreads over lines.
                ("lines", _) if args.iter().any(|arg| arg == "--watch") => {
                    parsed(out.lines().next().expect("it has begun"));
                }
                ("lines", _) => out.lines().for_each(|line| drop(parsed(line))),
                _ => panic!("{kind} is no kind"),
            }
        }
    }
}

#[test]
fn what_destroys_is_told_by_a_dry_run_and_needs_a_yes_where_nobody_can_be_asked() {
    let node = Node::start(1);
    let run = |args: &[&str]| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_keevo-cli"));
        let program = program.env("KEEVO_ENDPOINTS", &node.grpc).env("KEEVO_CONTEXT", "").args(args);
        let output = program.output().expect("the program starts");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    for key in ["user/ann", "user/anna", "user/bob"] {
        node.done(&["kv", "put", key, "12345"]);
    }
    node.done(&["chat", "create", "lobby", "--by", "ann", "--member", "bob"]);
    node.done(&["chat", "send", "lobby", "--user", "ann", "Hello"]);
    node.done(&["auth", "role", "set", "sales", "--allow", "read *"]);
    node.done(&["auth", "key", "create", "--role", "sales"]);
    let range = ["kv", "delete-range", "user", "--prefix", "an"];
    let (code, out, said) = run(&[&range[..], &["--dry-run", "--output", "json"]].concat());
    let plan: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &plan["keys"], &plan["value_bytes"]), (Some(0), &2.into(), &10.into()), "{said}");
    assert_eq!(plan["dry_run"], true);
    for (args, told) in [
        (&range[..], "would remove 2 keys with 10 bytes of values"),
        (&["app", "delete", "1"], "1 key"),
        (&["auth", "role", "remove", "sales"], "1 grant: 1 API key"),
        (&["chat", "erase-user", "ann"], "of the kind message"),
        (&["cluster", "remove", "1"], "2 replicas would move to 0 other nodes, and it leads 2"),
    ] {
        let (code, _, said) = run(args);
        assert!(code == Some(2) && said.contains("--dry-run") && said.contains("--yes"), "{args:?}: {said}");
        let (code, out, said) = run(&[args, &["--dry-run"]].concat());
        assert!(code == Some(0) && out.contains(told), "{args:?}: {out}{said}");
    }
    assert_eq!(node.json(&["kv", "scan", "user"])["records"].as_array().map(Vec::len), Some(3), "nothing was done");
    assert_eq!(run(&[&range[..], &["--yes", "--dry-run"]].concat()).0, Some(2));
    let (code, _, said) = run(&[&range[..], &["--yes"]].concat());
    assert_eq!(code, Some(0), "{said}");
    let left = node.json(&["kv", "scan", "user"]);
    assert_eq!((&left["records"][0]["sort"], left["records"].as_array().map(Vec::len)), (&"bob".into(), Some(1)));
    assert_eq!(run(&["app", "delete", "77", "--dry-run"]).0, Some(4));
    let entry = "0".repeat(47) + "1";
    let decide = ["moderation", "decide", "1", entry.as_str(), "remove", "--reviewer", "eve"];
    let (code, _, said) = run(&decide);
    assert!(code == Some(2) && said.contains("--dry-run") && said.contains("--yes"), "{said}");
    let (code, _, said) = run(&[&decide[..], &["--dry-run"]].concat());
    assert!(code == Some(4) && said.contains("nothing in the queue of app 1"), "{said}");
    assert_eq!(run(&[&decide[..], &["--yes"]].concat()).0, Some(4), "it is asked for, and is not there");
}

#[test]
fn a_compaction_says_what_it_reclaimed_and_shows_the_levels() {
    let node = Node::start(1);
    let mut noise = 1_u64;
    for number in 0..20 {
        // What cannot be compressed.
        let mut next = || {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            format!("{noise:016x}")
        };
        let value: String = (0..2_000).map(|_| next()).collect();
        node.done(&["kv", "put", &format!("a/{number}"), &value]);
    }
    node.done(&["flush"]);
    node.done(&["kv", "delete-range", "a"]);
    let seen = node.done(&["compact", "--watch", "--output", "jsonl"]);
    let seen: Vec<Value> = seen.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let last = seen.last().expect("an answer");
    let number = |name: &str| last[name].as_u64().unwrap_or_else(|| panic!("{last} has no {name}"));
    assert!(seen.len() > 16, "a line a step: {}", seen.len());
    assert!(number("before_bytes") > number("now_bytes"), "{last}");
    assert_eq!(number("reclaimed_bytes"), number("before_bytes") - number("now_bytes"));
    assert!(seen.iter().all(|one| one["levels"].is_array() && one["pending_bytes"].is_u64()));
    for args in
        [&["compact", "--shard", "1"][..], &["compact", "--range", "01..02"], &["compact", "--keyspace", "default"]]
    {
        assert!(node.done(args).contains("MiB now"), "{args:?}");
    }
    assert_eq!(node.cli(&["compact", "--shard", "77"]).0, Some(4));
    assert_eq!(node.cli(&["compact", "--shard", "77", "--all-nodes"]).0, Some(4));
    assert_eq!(node.cli(&["compact", "--keyspace", "nothing"]).0, Some(4));
    assert_eq!(node.cli(&["compact", "--range", "02..01"]).0, Some(2));
}
