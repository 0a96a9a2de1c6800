//! The book: every page is a chapter, and every chapter a page.

use std::collections::BTreeSet;

use keevo_tidy::{files, has_extension, markdown, text};

/// Folders whose pages are added when the book is built: they grow with every measurement.
const ADDED_LATER: &[&str] = &["docs/evidence/", "docs/tidy/"];

#[test]
fn every_page_is_a_chapter_once() {
    let summary = text("docs/SUMMARY.md").expect("it can be read").expect("it is UTF-8");
    let named = markdown::links(&summary);
    let chapters: BTreeSet<String> = named.iter().map(|one| format!("docs/{one}")).collect();
    assert_eq!(chapters.len(), named.len(), "a page is listed twice");
    let missing: Vec<String> = files()
        .expect("the tree can be read")
        .into_iter()
        .filter(|path| path.starts_with("docs/") && has_extension(path, &["md"]) && path != "docs/SUMMARY.md")
        .filter(|path| !ADDED_LATER.iter().any(|folder| path.starts_with(folder)))
        .filter(|path| !chapters.contains(path))
        .collect();
    assert!(chapters.len() > 40, "the list could not be read");
    assert!(missing.is_empty(), "give each a line in docs/SUMMARY.md: {missing:?}");
}

#[test]
fn every_chapter_begins_with_its_title() {
    let summary = text("docs/SUMMARY.md").expect("it can be read").expect("it is UTF-8");
    let untitled: Vec<String> = markdown::links(&summary)
        .into_iter()
        .filter(|page| {
            let page = text(&format!("docs/{page}")).ok().flatten().unwrap_or_default();
            !page.starts_with("# ") || page.lines().skip(1).any(|line| line.starts_with("# ") && !page.contains("```"))
        })
        .collect();
    assert!(untitled.is_empty(), "{untitled:?}");
}
