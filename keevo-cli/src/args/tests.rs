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
    assert_eq!((put.value.to_str(), put.at.keyspace.name.as_str()), (Some("-"), "other"));
    assert_eq!((put.ttl, put.if_revision, put.if_absent), (Some(Duration::from_mins(10)), Some(7), false));
}

#[test]
fn the_examples_of_the_help_parse() {
    let all = [
        EXAMPLES,
        apilog::EXAMPLES,
        app::EXAMPLES,
        auth::AUDIT_EXAMPLES,
        auth::EXAMPLES,
        cert::EXAMPLES,
        kv::EXAMPLES,
        moderation::EXAMPLES,
        cluster::EXAMPLES,
        feed::EXAMPLES,
        chat::EXAMPLES,
    ]
    .join("\n");
    let examples: Vec<&str> = all.lines().filter_map(|line| line.strip_prefix("  keevo-cli ")).collect();
    assert!(examples.len() > 20, "{} examples", examples.len());
    for example in examples {
        // As a shell would: no comments, no redirections, quotes hold words together.
        let command = example.split(['#', '<', '>']).next().unwrap_or_default();
        let quoted = command.split('\'').enumerate();
        let words: Vec<&str> = quoted
            .flat_map(|(place, part)| if place % 2 == 1 { vec![part] } else { part.split_whitespace().collect() })
            .collect();
        assert!(parse(&words).is_ok(), "{example}: {:?}", parse(&words).err());
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
        &["completions", "tcsh"],
    ] {
        assert!(parse(line).is_err(), "{line:?}");
    }
}
