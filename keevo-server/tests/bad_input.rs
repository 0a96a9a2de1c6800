//! Bad input and faults as a user meets them: real daemons, real calls, and one golden file of what they are told.
//!
//! The calls are those of a client in another language, so that the server's checks are seen and not those of
//! `RemoteEngine`. `UPDATE_EXPECT=1` writes `testdata/bad-input.txt` anew; read the difference before it is kept.

#![allow(clippy::indexing_slicing, reason = "a test may panic where it is wrong")]

mod bad_input {
    pub(crate) mod chat;
    pub(crate) mod daemon;
    pub(crate) mod faults;
    pub(crate) mod feeds;
    pub(crate) mod golden;
    pub(crate) mod kv;
    pub(crate) mod limits;
    pub(crate) mod starts;
    pub(crate) mod wire;
}

use std::collections::BTreeMap;

use bad_input::daemon::Keevod;
use bad_input::golden::Golden;
use bad_input::wire::Wire;
use bad_input::{chat, faults, feeds, kv, limits, starts};
use keevo_core::ErrorKind;

const HEAD: &str = "\
What a user is told of bad input and of faults, by real daemons over real gRPC. A line for each case, with the error
kind, the gRPC code (- where no call is involved) and the exit code of keevo-cli or keevod; below it the sentence, as
both programs print it. At a limit, what is allowed is shown beside what is not.
";

/// The failures that must never be taken for one another, by the name that opens their section.
const CLASSES: [(&str, ErrorKind); 10] = [
    ("Wrong key sizes", ErrorKind::KeySize),
    ("Oversized batches", ErrorKind::BatchTooLarge),
    ("Batches across partitions", ErrorKind::CrossPartition),
    ("Unknown keyspaces", ErrorKind::UnknownKeyspace),
    ("Bad configuration", ErrorKind::Config),
    ("A port in use", ErrorKind::AddressInUse),
    ("A data folder of another cluster", ErrorKind::WrongCluster),
    ("A newer format", ErrorKind::NewerFormat),
    ("A missing quorum", ErrorKind::NoQuorum),
    ("A deadline", ErrorKind::DeadlineExceeded),
];

/// One node, all of whose services get bad input; at the end it still serves good input.
async fn one_node() -> Golden {
    let dir = tempfile::tempdir().expect("a folder");
    let mut golden = Golden::default();
    let mut node = Keevod::start_dev(&dir.path().join("one")).await;
    let wire = Wire::connect(&node).await;
    limits::run(&mut golden, &wire).await;
    kv::run(&mut golden, &wire).await;
    feeds::run(&mut golden, &wire).await;
    chat::run(&mut golden, &wire).await;
    wire.good_input_still_works().await;
    assert!(node.is_running(), "the daemon has survived");
    assert!(!node.log().contains("panicked"), "{}", node.log());
    golden
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_bad_input_and_faults_are_told_as_the_golden_file_says() {
    let (calls, starts, faults) = tokio::join!(one_node(), starts::run(), faults::run());
    let mut sections: BTreeMap<&str, Golden> = BTreeMap::new();
    for part in [calls, starts, faults] {
        for (name, section) in part.sections() {
            sections.entry(name).or_default().append(section);
        }
    }
    let (mut text, mut wrong) = (HEAD.to_owned(), Vec::new());
    for (name, kind) in CLASSES {
        let section = sections.remove(name).unwrap_or_else(|| panic!("nothing was tried for: {name}"));
        let others: Vec<_> = section.kinds.iter().filter(|one| **one != kind).collect();
        if !section.kinds.contains(&kind) || !others.is_empty() {
            wrong.push(format!("{name}: {others:?}, not only {kind}"));
        }
        text.push_str(&section.text(name));
    }
    for (name, section) in sections {
        text.push_str(&section.text(name));
    }
    expect_test::expect_file!["testdata/bad-input.txt"].assert_eq(&text);
    assert!(wrong.is_empty(), "{wrong:?}");
    for (at, (name, kind)) in CLASSES.iter().enumerate() {
        assert!(CLASSES[..at].iter().all(|(_, other)| other != kind), "{name} shares its kind with another");
    }
}
