//! Every file keeps to the tree's rules on shape and wording.

use keevo_tidy::{files, has_extension, is_written, text};

/// What may lie at the top, besides dotfiles.
const TOP_LEVEL: &[&str] = &[
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "benches",
    "chat",
    "docs",
    "feeds",
    "fuzz",
    "keevo-cli",
    "keevo-core",
    "keevo-raft",
    "keevo-server",
    "moderation",
];

const LINES_MAX: usize = 500;

/// Runs `check` on every text among the files that `chosen` picks, and fails with all that it complains of.
fn every(chosen: impl Fn(&str) -> bool, check: impl Fn(&str, &str) -> Vec<String>) {
    let mut seen = 0;
    let mut complaints = Vec::new();
    for path in files().expect("the tree can be read").iter().filter(|path| chosen(path)) {
        if let Some(text) = text(path).expect("a listed file can be read") {
            seen += 1;
            complaints.extend(check(path, &text));
        }
    }
    assert!(seen > 0, "the rule met no file at all");
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

/// The lines of `text` that hold one of `words`, as complaints.
fn lines_with(path: &str, text: &str, words: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let lower = line.to_lowercase();
        for word in words.iter().filter(|word| lower.contains(word.as_str())) {
            found.push(format!("{path}:{}: holds '{word}'", number + 1));
        }
    }
    found
}

fn is_rust(path: &str) -> bool {
    has_extension(path, &["rs"])
}

#[test]
fn no_file_is_long() {
    every(
        |path| has_extension(path, &["rs", "ts", "tsx", "proto"]),
        |path, text| {
            let lines = text.lines().count();
            if lines > LINES_MAX { vec![format!("{path}: {lines} lines, more than {LINES_MAX}")] } else { vec![] }
        },
    );
}

#[test]
fn every_rust_file_says_what_it_is() {
    every(is_rust, |path, text| {
        let opens = text.lines().find(|line| !line.trim().is_empty());
        if opens.is_some_and(|line| line.starts_with("//! ")) {
            vec![]
        } else {
            vec![format!("{path}: does not open with `//! ` and what it is")]
        }
    });
}

#[test]
fn modules_are_files_beside_their_folder() {
    every(
        is_rust,
        |path, _| {
            if path.ends_with("/mod.rs") { vec![format!("{path}: name it after its folder")] } else { vec![] }
        },
    );
}

#[test]
fn nothing_is_left_undone() {
    // Spelled apart, so that this file does not hold them.
    let words = ["todo", "unimplemented"].map(|word| format!("{word}!(")).to_vec();
    every(is_rust, |path, text| lines_with(path, text, &words));
}

#[test]
fn no_path_of_one_machine() {
    let words: Vec<String> = ["work", "root", "home"].iter().map(|folder| format!("/{folder}/")).collect();
    every(is_written, |path, text| lines_with(path, text, &words));
}

#[test]
fn the_tree_speaks_of_keevo_alone() {
    let words = [["sub", "agent"], ["sub-", "agent"], ["clau", "de"], ["anthro", "pic"]].map(|word| word.concat());
    every(is_written, |path, text| lines_with(path, text, &words));
}

#[test]
fn ignored_tests_say_why() {
    let bare = format!("#[{}]", "ignore");
    every(is_rust, |path, text| lines_with(path, text, std::slice::from_ref(&bare)));
}

#[test]
fn lines_end_in_lf_and_the_file_in_one() {
    every(is_written, |path, text| {
        let mut found = Vec::new();
        if text.contains('\r') {
            found.push(format!("{path}: holds carriage returns"));
        }
        if !text.is_empty() && (!text.ends_with('\n') || text.ends_with("\n\n")) {
            found.push(format!("{path}: does not end in exactly one line feed"));
        }
        found
    });
}

#[test]
fn the_top_level_is_the_agreed_one() {
    let files = files().expect("the tree can be read");
    let tops = files.iter().filter_map(|path| path.split('/').next());
    let strangers: Vec<&str> = tops.filter(|top| !top.starts_with('.') && !TOP_LEVEL.contains(top)).collect();
    assert!(strangers.is_empty(), "at the top level, and not agreed on: {strangers:?}");
}
