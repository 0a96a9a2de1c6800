//! The tree's own rules, as far as a machine can check them. The rules themselves are the tests of this package:
//! `tests/files.rs` (shape and wording of files), `tests/links.rs`, `tests/promises.rs`, `tests/reference.rs` and
//! `tests/book.rs` (documentation), `tests/packages.rs` (who may import whom, licences), `tests/packaging.rs` (what is shipped).
//!
//! Invariant: only reads, and only what belongs to the tree: files that git tracks or would track. What is made from the code
//! is written by `examples/reference.rs`.

pub mod deny;
pub mod limits;
pub mod markdown;
pub mod proto;
pub mod reference;
pub mod spdx;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

/// The extensions of files that people write: rules on wording hold for these, not for data.
pub const WRITTEN: &[&str] = &["rs", "proto", "ts", "tsx", "md", "toml", "sh", "yml", "yaml", "py", "sql"];

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The files of the tree, relative to its root, with `/` between the parts, sorted.
///
/// # Errors
/// Where a folder can't be read.
pub fn files() -> io::Result<Vec<String>> {
    let root = root();
    let mut files = match listed_by_git(&root) {
        Some(files) => files,
        None => walked(&root)?,
    };
    files.retain(|path| root.join(path).is_file());
    files.sort();
    Ok(files)
}

/// The text of a file of the tree; `None` where it is not UTF-8.
///
/// # Errors
/// Where it can't be read.
pub fn text(path: &str) -> io::Result<Option<String>> {
    Ok(String::from_utf8(fs::read(root().join(path))?).ok())
}

/// What is made from the code, by its path: the API reference, the book's list of it, and the table of limits.
///
/// # Errors
/// Names the file that can't be read, or what it lacks.
pub fn made() -> Result<BTreeMap<String, String>, String> {
    let files = files().map_err(|error| format!("the tree cannot be read: {error}"))?;
    let read = |path: &str| match text(path) {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err(format!("{path}: is no UTF-8")),
        Err(error) => Err(format!("{path}: {error}")),
    };
    let all = |chosen: &dyn Fn(&str) -> bool| {
        let chosen = files.iter().filter(|path| chosen(path));
        chosen.map(|path| Ok((path.clone(), read(path)?))).collect::<Result<Vec<_>, String>>()
    };
    let protos = all(&|path| path.starts_with(reference::PROTOS) && has_extension(path, &["proto"]))?;
    let mut made = reference::pages(&protos)?;
    let summary = reference::summary(&read("docs/SUMMARY.md")?, &made)?;
    made.insert("docs/SUMMARY.md".to_owned(), summary);
    let sources = all(&|path| limits::is_listed(path) && has_extension(path, &["rs"]))?;
    made.insert(limits::PAGE.to_owned(), limits::page(&read(limits::PAGE)?, &sources)?);
    Ok(made)
}

/// Whether `path` ends in one of `extensions`.
pub fn has_extension(path: &str, extensions: &[&str]) -> bool {
    Path::new(path).extension().and_then(|found| found.to_str()).is_some_and(|found| extensions.contains(&found))
}

/// Whether people write this file, so that rules on wording hold for it.
pub fn is_written(path: &str) -> bool {
    has_extension(path, WRITTEN) || path == "Makefile" || path.starts_with(".ci/")
}

fn listed_by_git(root: &Path) -> Option<Vec<String>> {
    let listing = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .ok()
        .filter(|listing| listing.status.success())?;
    let names = String::from_utf8(listing.stdout).ok()?;
    let files: Vec<String> = names.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    (!files.is_empty()).then_some(files)
}

/// For a tree that came without git: everything but build output.
fn walked(root: &Path) -> io::Result<Vec<String>> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = folder.join(&name);
            if !entry.file_type()?.is_dir() {
                files.push(path.to_string_lossy().into_owned());
            } else if !matches!(name.as_str(), ".git" | "target" | "node_modules") {
                folders.push(path);
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_and_the_walk_find_this_file() {
        let here = "docs/tidy/src/lib.rs".to_owned();
        assert!(files().unwrap().contains(&here));
        assert!(walked(&root()).unwrap().contains(&here));
    }

    #[test]
    fn extensions_are_whole() {
        assert!(has_extension("a/b.rs", &["rs"]));
        assert!(!has_extension("a/b.ers", &["rs"]));
        assert!(is_written(".ci/run") && is_written("Makefile") && !is_written("a/b.mbox"));
    }
}
