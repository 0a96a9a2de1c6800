//! What the command line accepts, and what it makes of it.

use clap::{CommandFactory, Parser};

use super::*;

fn parse(line: &[&str]) -> Result<Command, String> {
    let line = std::iter::once("keevo-cli").chain(line.iter().copied());
    Cli::try_parse_from(line).map(|cli| cli.command).map_err(|error| error.to_string())
}

#[test]
fn the_definition_is_sound_and_every_command_is_explained() {
    Cli::command().debug_assert();
    let mut left = vec![Cli::command()];
    while let Some(command) = left.pop() {
        assert!(command.get_about().is_some(), "{} has no help", command.get_name());
        for arg in command.get_arguments().filter(|arg| !["help", "version"].contains(&arg.get_id().as_str())) {
            assert!(arg.get_help().is_some(), "{} {} has no help", command.get_name(), arg.get_id());
        }
        left.extend(command.get_subcommands().cloned());
    }
}

#[test]
fn a_put_takes_its_key_apart() {
    let line = ["kv", "put", "a\\x2fb/c/d", "-", "--ttl", "10m", "--if-revision", "7", "--keyspace", "other"];
    let Ok(Command::Kv(kv::Kv::Put(put))) = parse(&line) else { panic!("a put") };
    assert_eq!((put.at.key.0.as_ref(), put.at.key.1.as_ref()), (&b"a/b"[..], &b"c/d"[..]));
    assert_eq!((put.value.to_str(), put.at.keyspace.name.as_deref()), (Some("-"), Some("other")));
    assert_eq!((put.ttl, put.if_revision, put.if_absent), (Some(Duration::from_mins(10)), Some(7), false));
}

/// Every command with the path to it.
fn tree() -> Vec<(String, clap::Command)> {
    let (mut found, mut left) = (Vec::new(), vec![("keevo-cli".to_owned(), crate::command())]);
    while let Some((path, command)) = left.pop() {
        left.extend(command.get_subcommands().map(|one| (format!("{path} {}", one.get_name()), one.clone())));
        found.push((path, command));
    }
    found
}

#[test]
fn every_command_has_an_example_and_every_example_parses() {
    let mut seen = std::collections::BTreeSet::new();
    for (path, command) in tree() {
        let examples = crate::examples::lines(&command);
        let own = examples.iter().any(|example| crate::examples::calls(example, &path));
        assert!(own || path == "keevo-cli", "no example calls `{path}`: add one to those of its group");
        seen.extend(examples);
    }
    assert!(seen.len() > 60, "{} examples", seen.len());
    for example in seen {
        let words = words(example.trim().strip_prefix("keevo-cli ").unwrap_or_default());
        assert!(parse(&words).is_ok(), "{example}: {:?}", parse(&words).err());
    }
}

/// The words of a line as a shell has them: no comments, no redirections, quotes hold words together.
fn words(line: &str) -> Vec<&str> {
    let line = line.split(['#', '<', '>', '|']).next().unwrap_or_default();
    let quoted = line.split('\'').enumerate();
    quoted
        .flat_map(|(place, part)| if place % 2 == 1 { vec![part] } else { part.split_whitespace().collect() })
        .collect()
}

/// The commands that a test runs against a node in every format are all that there are.
#[test]
fn every_command_is_run_with_every_output_or_named_with_its_reason() {
    let lines: Vec<&str> =
        include_str!("../../tests/testdata/commands.txt").lines().filter(|line| !line.starts_with('#')).collect();
    let commands: Vec<String> = lines
        .iter()
        .filter_map(|line| line.split_once(' '))
        .map(|(_, command)| format!("keevo-cli {}", command.trim()))
        .collect();
    for (path, command) in tree().into_iter().filter(|(_, command)| !command.has_subcommands()) {
        let named = commands.iter().any(|line| crate::examples::calls(line, &path));
        assert!(named, "tests/testdata/commands.txt lacks `{path}`");
        let output = command.get_arguments().find(|arg| arg.get_long() == Some("output"));
        assert!(output.is_none(), "`{path}` has an --output of its own beside that of all commands");
    }
    for command in commands {
        let line = command.strip_prefix("keevo-cli ").unwrap_or_default().replace("%app", "1").replace("%n", "1");
        for format in ["table", "json", "jsonl"] {
            let words: Vec<&str> = words(&line).into_iter().chain(["--output", format]).collect();
            assert!(parse(&words).is_ok(), "{line}: {:?}", parse(&words).err());
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused_before_any_node_is_called() {
    for line in [
        &["kv", "put", "a/b"][..],
        &["kv", "put", "a/b", "1", "--if-absent", "--if-revision", "3"],
        &["kv", "put", "a/b", "1", "--ttl", "0s"],
        &["kv", "get", "a\\q/b"],
        &["kv", "scan", "a", "--limit", "0"],
        &["kv", "watch", "--prefix", "x"],
        &["cluster", "transfer", "1"],
        &["feed", "get", "user:a", "--limit", "1001"],
        &["feed", "remove", "user:a"],
        &["feed", "remove", "user:a", "--foreign-id", "x"],
        &["chat", "send", "c", "text", "--user", "u", "--custom", "[1]"],
        &["chat", "watch", "c", "--user", "u", "--resume", "abc"],
        &["chat", "add-member", "c"],
        &["apilog", "replay"],
        &["apilog", "replay", "--into", "a:1", "--rate", "0"],
        &["apilog", "search", "--from", "yesterday"],
        &["sink", "create", "a", "--keyspace", "k"],
        &["sink", "create", "a", "--keyspace", "k", "--kafka", "b:1"],
        &["sink", "create", "a", "--keyspace", "k", "--file", "--stdout"],
        &["sink", "create", "a", "--keyspace", "k", "--file", "--from", "0"],
        &["sink", "create", "a", "--keyspace", "k", "--file", "--tls"],
        &["completions", "tcsh"],
    ] {
        assert!(parse(line).is_err(), "{line:?}");
    }
}
