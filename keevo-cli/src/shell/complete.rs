//! What Tab offers: commands, flags and values of the command line's own definition, keyspaces and contexts.
//!
//! Invariant: it calls no node; it knows the names that the shell was told when it began, and since.

use std::collections::BTreeSet;

use clap::{Arg, ArgAction, Command};

use super::words::{Begun, begun};

/// The most names of keyspaces that are remembered.
const NAMES_MAX: usize = 1_000;
/// Commands of the shell itself.
pub(super) const OWN: [&str; 2] = ["exit", "quit"];

/// Names that no definition has.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    pub(super) keyspaces: BTreeSet<String>,
    pub(super) contexts: BTreeSet<String>,
}

impl Names {
    /// Remembers the keyspaces that a line names.
    pub(super) fn learn(&mut self, words: &[String]) {
        let after =
            words.iter().zip(words.iter().skip(1)).filter(|(flag, _)| *flag == "--keyspace").map(|(_, name)| name);
        let joined = words.iter().filter_map(|word| word.strip_prefix("--keyspace="));
        for name in after.map(String::as_str).chain(joined) {
            if self.keyspaces.len() < NAMES_MAX {
                self.keyspaces.insert(name.to_owned());
            }
        }
    }
}

/// What is offered for the word at the cursor, and where that begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) start: usize,
    pub(super) words: Vec<String>,
    /// Whether names of files are offered.
    pub(super) files: bool,
}

/// Looks at a line up to the cursor. `root` is built, so that each command has the flags of those above it.
pub(super) fn offer(root: &Command, names: &Names, line: &str) -> Offer {
    let Begun { words, current, start, quote } = begun(line);
    let place = Place::find(root, &words);
    let (mut all, files) = place.candidates(root, names, &current);
    all.retain(|word| word.starts_with(&current));
    all.sort();
    all.dedup();
    let shown =
        |word: String| if quote.is_none() && word.contains(char::is_whitespace) { format!("'{word}'") } else { word };
    let start = if quote.is_some() && !files { start.saturating_add(1) } else { start };
    Offer { start, words: all.into_iter().map(shown).collect(), files }
}

/// Where in the command line the cursor is.
struct Place<'a> {
    command: &'a Command,
    /// The flag whose value comes next.
    flag: Option<&'a Arg>,
    /// How many arguments without a flag there are.
    given: usize,
}

impl<'a> Place<'a> {
    fn find(root: &'a Command, words: &[String]) -> Self {
        let mut place = Self { command: root, flag: None, given: 0 };
        for (at, word) in words.iter().enumerate() {
            if place.flag.take().is_some() || (at == 0 && word == root.get_name()) {
                continue;
            }
            if let Some(name) = word.strip_prefix("--") {
                place.flag = place.named(name).filter(|arg| takes_value(arg));
            } else if word.starts_with('-') && word.len() > 1 {
                let short = word.chars().nth(1);
                let found = place.command.get_arguments().find(|arg| arg.get_short() == short);
                place.flag = found.filter(|arg| takes_value(arg) && word.chars().count() == 2);
            } else if let Some(command) = place.command.find_subcommand(word) {
                (place.command, place.given) = (command, 0);
            } else {
                place.given = place.given.saturating_add(1);
            }
        }
        place
    }

    fn named(&self, name: &str) -> Option<&'a Arg> {
        self.command.get_arguments().find(|arg| arg.get_long() == Some(name))
    }

    /// Everything that may stand here, and whether names of files may.
    fn candidates(&self, root: &Command, names: &Names, current: &str) -> (Vec<String>, bool) {
        if let Some(arg) = self.flag {
            return values(arg, names);
        }
        if current.starts_with('-') {
            let shown = self.command.get_arguments().filter(|arg| !arg.is_hide_set());
            return (shown.filter_map(|arg| Some(format!("--{}", arg.get_long()?))).collect(), false);
        }
        let mut all = Vec::new();
        if self.given == 0 {
            let shown = self.command.get_subcommands().filter(|one| !one.is_hide_set());
            all.extend(shown.map(|one| one.get_name().to_owned()));
            if self.command.get_name() == root.get_name() {
                all.extend(OWN.map(str::to_owned));
            }
        }
        let argument = self.command.get_positionals().nth(self.given).or_else(|| self.command.get_positionals().last());
        let (more, files) = argument.map(|arg| values(arg, names)).unwrap_or_default();
        all.extend(more);
        (all, files)
    }
}

fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
}

/// What an argument's value may be, and whether it is a file.
fn values(arg: &Arg, names: &Names) -> (Vec<String>, bool) {
    let named: Vec<String> = arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    if !named.is_empty() {
        return (named, false);
    }
    match (arg.get_id().as_str(), arg.get_long()) {
        (_, Some("keyspace")) => (names.keyspaces.iter().cloned().collect(), false),
        ("context" | "context_name", _) => (names.contexts.iter().cloned().collect(), false),
        ("file" | "files" | "folder" | "dir", None) => (Vec::new(), true),
        _ => {
            let name = arg.get_value_names().and_then(|names| names.first());
            (Vec::new(), name.is_some_and(|name| matches!(name.as_str(), "FILE" | "DIR")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(line: &str) -> (usize, String) {
        let mut root = crate::command();
        root.build();
        let mut names = Names::default();
        names.learn(&["kv", "scan", "a", "--keyspace", "orders", "--keyspace=carts"].map(str::to_owned));
        names.contexts.insert("prod".to_owned());
        let offer = offer(&root, &names, line);
        (offer.start, offer.words.join(" "))
    }

    #[test]
    fn commands_flags_and_values_are_offered() {
        assert_eq!(offered("clu"), (0, "cluster".into()));
        assert_eq!(offered("kv ge"), (3, "get".into()));
        assert_eq!(offered("--output json kv del"), (17, "delete delete-range".into()));
        assert_eq!(offered("kv scan a --rev"), (10, "--reverse".into()));
        assert_eq!(offered("kv scan a --output j"), (19, "json jsonl".into()));
        assert_eq!(offered("kv get a/b --keyspace "), (22, "carts orders".into()));
        assert_eq!(offered("--context p"), (10, "prod".into()));
        assert_eq!(offered("context use "), (12, "prod".into()));
        assert_eq!(offered("completions z"), (12, "zsh".into()));
        assert_eq!(offered("ex"), (0, "exit".into()));
        assert_eq!(offered("help kv sc"), (8, "scan".into()));
        assert_eq!(offered("kv get --keyspace orders --ra"), (25, "--raw".into()));
        assert_eq!(offered("nothing of the like "), (20, String::new()));
    }

    #[test]
    fn files_are_offered_where_a_file_is_named() {
        let mut root = crate::command();
        root.build();
        let files = |line| offer(&root, &Names::default(), line).files;
        assert!(files("--ca ") && files("feed import ") && files("cert init ") && files("man --out "));
        assert!(!files("kv get ") && !files("kv scan --limit "));
    }
}
