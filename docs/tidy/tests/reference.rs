//! What is made from the code is what the code gives: the API reference, its list, and the table of limits.

use std::collections::BTreeSet;

use keevo_tidy::reference::PAGES;
use keevo_tidy::{files, made, text};

#[test]
fn what_is_made_from_the_code_is_current() {
    let made = made().expect("it is made");
    assert!(made.len() > 12, "there are few pages: {:?}", made.keys());
    let stale: Vec<&String> = made
        .iter()
        .filter(|(path, wanted)| text(path).ok().flatten().as_ref() != Some(*wanted))
        .map(|(path, _)| path)
        .collect();
    let files = files().expect("the tree can be read");
    let known: BTreeSet<&String> = made.keys().collect();
    let left: Vec<&String> = files.iter().filter(|path| path.starts_with(PAGES) && !known.contains(path)).collect();
    assert!(stale.is_empty() && left.is_empty(), "run `make reference`: stale {stale:?}, of no source {left:?}");
}

#[test]
fn every_limit_says_what_it_bounds() {
    let page = text(keevo_tidy::limits::PAGE).expect("it can be read").expect("it is UTF-8");
    let rows = page.lines().filter(|line| line.starts_with("| ") && line.contains("_MAX"));
    let mute: Vec<&str> = rows.clone().filter(|line| line.starts_with("|  |")).collect();
    assert!(rows.count() > 80, "the table could not be read");
    assert!(mute.is_empty(), "limits without a comment: {mute:?}");
}
