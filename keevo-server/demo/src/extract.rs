//! The bundled extract: a small, masked, real part of the full data, for machines without a network.
//!
//! Invariant: it is closed: every dependency, change and thread in it names a package or mail that is in it too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use keevo_core::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::dataset::{Dataset, gunzip, io};
use crate::packages::Package;

const PACKAGES: &str = "packages.jsonl.gz";
const CHANGES: &str = "changes.jsonl.gz";
const MAILS: &str = "mails.jsonl.gz";
/// How many packages the extract has, and how many of them are the most followed ones.
const PACKAGES_KEPT: usize = 1_500;
const TOP_KEPT: usize = 300;
const CHANGES_KEPT: usize = 400;
const MAILS_KEPT: usize = 300;
/// Of so many lists at most so many mails each; the longest text in characters.
const MAILS_PER_LIST: usize = 60;
const MAIL_CHARS: usize = 600;

/// The bundled extract.
pub fn bundled() -> Result<Dataset> {
    Ok(Dataset {
        packages: decode(PACKAGES, include_bytes!("../data/packages.jsonl.gz"))?,
        changes: decode(CHANGES, include_bytes!("../data/changes.jsonl.gz"))?,
        mails: decode(MAILS, include_bytes!("../data/mails.jsonl.gz"))?,
    })
}

/// The extract of a full data set: the most followed packages and an even sample of the others, changes of the most
/// followed, and the first mails of the lists.
pub fn make_extract(full: &Dataset) -> Dataset {
    let packages = sample_packages(&full.packages, PACKAGES_KEPT);
    let kept: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let ranked = full.most_followed(usize::MAX);
    let mut by_package: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for change in &full.changes {
        by_package.entry(&change.package).or_default().push(change.clone());
    }
    let ranked = ranked.iter().filter(|(name, _)| kept.contains(name));
    let changes = ranked.filter_map(|(name, _)| by_package.remove(name)).flatten().take(CHANGES_KEPT).collect();
    Dataset { packages: packages.clone(), changes, mails: sample_mails(full) }
}

/// At most `limit` packages: the most followed ones and an even sample of the others, with the dependencies among them.
pub(crate) fn sample_packages(all: &[Package], limit: usize) -> Vec<Package> {
    if all.len() <= limit {
        return all.to_vec();
    }
    let counts = crate::packages::follower_counts(all);
    let mut ranked: Vec<(&str, u64)> = counts.into_iter().collect();
    ranked.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let top: BTreeSet<&str> = ranked.iter().take(TOP_KEPT.min(limit)).map(|(name, _)| *name).collect();
    let room = limit - top.len();
    let others: Vec<&str> =
        all.iter().map(|package| package.name.as_str()).filter(|name| !top.contains(name)).collect();
    let step = others.len().checked_div(room).unwrap_or(1).max(1);
    let kept: BTreeSet<&str> = top.iter().copied().chain(others.into_iter().step_by(step).take(room)).collect();
    let sampled = all.iter().filter(|package| kept.contains(package.name.as_str()));
    sampled
        .map(|package| Package {
            name: package.name.clone(),
            depends: package.depends.iter().filter(|name| kept.contains(name.as_str())).cloned().collect(),
        })
        .collect()
}

/// The first mails of each list, shortened. They are in the order of time, so a reply's start is among them.
fn sample_mails(full: &Dataset) -> Vec<crate::mails::Mail> {
    let mut per_list: BTreeMap<&str, usize> = BTreeMap::new();
    let mut mails = Vec::new();
    for mail in full.mails.iter().filter(|mail| !mail.list.starts_with("unlisted-")) {
        let count = per_list.entry(&mail.list).or_default();
        if *count < MAILS_PER_LIST && mails.len() < MAILS_KEPT {
            *count += 1;
            let mut mail = mail.clone();
            mail.text = mail.text.chars().take(MAIL_CHARS).collect();
            mails.push(mail);
        }
    }
    mails
}

/// Writes the files of an extract into a folder.
pub fn write_extract(extract: &Dataset, folder: &Path) -> Result<()> {
    encode(&extract.packages, &folder.join(PACKAGES))?;
    encode(&extract.changes, &folder.join(CHANGES))?;
    encode(&extract.mails, &folder.join(MAILS))
}

fn decode<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<Vec<T>> {
    let text = gunzip(Path::new(name), bytes)?;
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(serde_json::from_slice)
        .collect::<Result<_, _>>()
        .map_err(|error| Error::corrupt(format!("{name} of the bundled extract does not parse")).with_source(error))
}

fn encode<T: Serialize>(rows: &[T], path: &Path) -> Result<()> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    for row in rows {
        let line = serde_json::to_vec(row)
            .map_err(|error| Error::invalid("a row cannot be written as JSON").with_source(error))?;
        gzip.write_all(&line).and_then(|()| gzip.write_all(b"\n")).map_err(|error| io(path, error))?;
    }
    let bytes = gzip.finish().map_err(|error| io(path, error))?;
    fs::write(path, bytes).map_err(|error| io(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_extract_is_skewed_closed_and_masked() {
        let extract = bundled().expect("the extract");
        assert!(extract.packages.len() >= 1_000 && extract.changes.len() >= 300 && extract.mails.len() >= 250);
        assert!(extract.most_followed(1)[0].1 >= 500);
        let names: BTreeSet<&str> = extract.packages.iter().map(|package| package.name.as_str()).collect();
        let named = extract.packages.iter().flat_map(|package| package.depends.iter());
        assert!(
            named.chain(extract.changes.iter().map(|change| &change.package)).all(|name| names.contains(name.as_str()))
        );
        let ids: BTreeSet<(&str, &str)> =
            extract.mails.iter().map(|mail| (mail.list.as_str(), mail.id.as_str())).collect();
        let replies = extract.mails.iter().filter_map(|mail| Some((mail.list.as_str(), mail.parent.as_deref()?)));
        assert!(replies.clone().count() > 10);
        assert!(replies.into_iter().all(|parent| ids.contains(&parent)));
        for mail in &extract.mails {
            for text in [&mail.text, &mail.subject, &mail.from] {
                let left = text.match_indices('@').any(|(at, _)| {
                    text[..at].ends_with(char::is_alphanumeric) && text[at + 1..].starts_with(char::is_alphanumeric)
                });
                assert!(!left, "an address is left in {}", mail.id);
            }
        }
        for change in &extract.changes {
            assert!(!change.maintainer.contains('@'), "{}", change.maintainer);
        }
    }

    #[test]
    fn an_extract_of_an_extract_is_written_and_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let extract = make_extract(&bundled().expect("the extract"));
        write_extract(&extract, folder.path()).expect("written");
        let bytes = fs::read(folder.path().join(MAILS)).expect("the file");
        assert_eq!(decode::<crate::mails::Mail>(MAILS, &bytes).expect("mails"), extract.mails);
        assert!(decode::<crate::mails::Mail>(MAILS, b"no gzip").is_err());
    }
}
