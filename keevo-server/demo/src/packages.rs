//! The Debian package index: which package depends on which.
//!
//! Invariant: every dependency names a package of the index, none names its own package, and none comes twice.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// A package and what it depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// The packages it depends on, by name; all alternatives.
    pub depends: Vec<String>,
}

/// Reads the text of `apt-cache dumpavail`. Several versions of a package count as one with all their dependencies.
pub(crate) fn parse(text: &str) -> Vec<Package> {
    let mut index: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        let Some((field, value)) = line.split_once(':') else {
            if line.is_empty() {
                current = None;
            }
            continue;
        };
        match field {
            "Package" => {
                index.entry(value.trim()).or_default();
                current = Some(value.trim());
            }
            "Depends" | "Pre-Depends" => {
                if let Some(depends) = current.and_then(|name| index.get_mut(name)) {
                    depends.extend(value.split([',', '|']).filter_map(package_name));
                }
            }
            _ => {}
        }
    }
    let known: BTreeSet<&str> = index.keys().copied().collect();
    index
        .into_iter()
        .map(|(name, depends)| Package {
            name: name.to_owned(),
            depends: depends.into_iter().filter(|one| *one != name && known.contains(one)).map(str::to_owned).collect(),
        })
        .collect()
}

/// The name in `name:arch (>= version) [arch]`.
fn package_name(dependency: &str) -> Option<&str> {
    let name = dependency.trim().split([' ', '(', ':', '[']).next()?;
    (!name.is_empty()).then_some(name)
}

/// How many packages depend on each.
pub(crate) fn follower_counts(packages: &[Package]) -> BTreeMap<&str, u64> {
    let mut counts = BTreeMap::new();
    for dependency in packages.iter().flat_map(|package| &package.depends) {
        *counts.entry(dependency.as_str()).or_insert(0) += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_lose_versions_architectures_and_strangers() {
        let text = "Package: a\nVersion: 1\nPre-Depends: b (>= 2)\nDepends: c:any | d, gone, a, b\nDescription: x\n Depends: d\n\n\
                    Package: b\n\nPackage: c\nDepends: b [amd64]\n\nPackage: d\n\nPackage: d\nDepends: c\n";
        let found = parse(text);
        let edges: Vec<_> = found.iter().map(|one| (one.name.as_str(), one.depends.join(","))).collect();
        let expected = [("a", "b,c,d"), ("b", ""), ("c", "b"), ("d", "c")];
        assert_eq!(edges, expected.map(|(name, depends)| (name, depends.to_owned())));
        assert_eq!(follower_counts(&found), BTreeMap::from([("b", 2), ("c", 2), ("d", 1)]));
    }
}
