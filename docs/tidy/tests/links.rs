//! Every relative link in the documentation leads somewhere, down to the heading.

use std::path::{Component, Path, PathBuf};

use keevo_tidy::{files, has_extension, markdown, root, text};

/// `target`, relative to the folder of `from`, with its `..` resolved; `None` where it leaves the tree.
fn resolve(from: &str, target: &str) -> Option<PathBuf> {
    let mut path = Path::new(from).parent()?.to_path_buf();
    for part in Path::new(target).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir => path = path.parent()?.to_path_buf(),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

/// What is wrong with the link `target` in the file `from`.
fn complaint(from: &str, target: &str) -> Option<String> {
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let Some(path) = (if path.is_empty() { Some(PathBuf::from(from)) } else { resolve(from, path) }) else {
        return Some("leaves the tree".into());
    };
    if !root().join(&path).exists() {
        return Some("does not exist".into());
    }
    let path = path.to_str()?;
    if !anchor.is_empty() && has_extension(path, &["md"]) {
        let there = text(path).expect("an existing file can be read")?;
        if !markdown::anchors(&there).iter().any(|one| one == anchor) {
            return Some("names a heading that is not there".into());
        }
    }
    None
}

#[test]
fn every_relative_link_resolves() {
    let mut seen = 0;
    let mut complaints = Vec::new();
    for from in files().expect("the tree can be read").iter().filter(|path| has_extension(path, &["md"])) {
        let Some(text) = text(from).expect("a listed file can be read") else { continue };
        for target in markdown::links(&text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            complaints.extend(complaint(from, &target).map(|why| format!("{from}: {target} {why}")));
        }
    }
    assert!(seen > 0, "no link was met");
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn broken_links_are_noticed() {
    assert_eq!(complaint("README.md", "LICENSE"), None);
    assert!(complaint("README.md", "no/such.md").is_some());
    assert!(complaint("README.md", "../outside.md").is_some());
    assert!(complaint("README.md", "docs/GLOSSARY.md#no-such-heading").is_some());
}
