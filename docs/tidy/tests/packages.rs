//! Who may import whom, and under which licences: docs/ARCHITECTURE.md and `.deny.toml`, checked against
//! `cargo metadata`.
//!
//! Only normal dependencies count for the import arrows: tests and build scripts may use more.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::LazyLock;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};
use keevo_tidy::{deny, root, spdx, text};

/// The packages of this workspace that each of them may use.
const ARROWS: &[(&str, &[&str])] = &[
    (
        "keevo-benches",
        &[
            "keevo-chat",
            "keevo-client",
            "keevo-core",
            "keevo-demo",
            "keevo-feeds",
            "keevo-moderation",
            "keevo-proto",
            "keevo-raft",
            "keevo-server",
        ],
    ),
    ("keevo-archive", &["keevo-core", "keevo-raft"]),
    ("keevo-chat", &["keevo-core"]),
    ("keevo-chat-gateway", &["keevo-chat", "keevo-core", "keevo-gateway", "keevo-search"]),
    ("keevo-cli", &["keevo-client", "keevo-core", "keevo-proto", "keevo-tls"]),
    ("keevo-client", &["keevo-core", "keevo-proto", "keevo-tls"]),
    ("keevo-core", &[]),
    ("keevo-demo", &["keevo-chat", "keevo-core", "keevo-feeds"]),
    ("keevo-faults", &["keevo-client", "keevo-core", "keevo-proto"]),
    ("keevo-feeds", &["keevo-core"]),
    (
        "keevo-fuzz",
        &[
            "keevo-archive",
            "keevo-chat",
            "keevo-client",
            "keevo-core",
            "keevo-feeds",
            "keevo-moderation",
            "keevo-proto",
            "keevo-raft",
            "keevo-search",
            "keevo-server",
        ],
    ),
    ("keevo-gateway", &["keevo-core", "keevo-feeds"]),
    ("keevo-moderation", &["keevo-client", "keevo-core", "keevo-proto"]),
    ("keevo-moderation-policy", &["keevo-core"]),
    ("keevo-proto", &["keevo-core"]),
    ("keevo-raft", &["keevo-core"]),
    (
        "keevo-server",
        &[
            "keevo-archive",
            "keevo-chat",
            "keevo-chat-gateway",
            "keevo-client",
            "keevo-core",
            "keevo-demo",
            "keevo-feeds",
            "keevo-gateway",
            "keevo-moderation-policy",
            "keevo-proto",
            "keevo-raft",
            "keevo-search",
            "keevo-streams",
            "keevo-tls",
        ],
    ),
    ("keevo-search", &["keevo-chat", "keevo-core"]),
    ("keevo-sim", &["keevo-chat", "keevo-core", "keevo-feeds", "keevo-raft"]),
    ("keevo-streams", &["keevo-core"]),
    ("keevo-tidy", &[]),
    ("keevo-tls", &["keevo-core"]),
];

/// Libraries that only the named packages may use.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("openraft", &["keevo-raft"]),
    ("raft-engine", &["keevo-raft"]),
    // To the benchmarks it is a peer: Keevo is compared with the crate itself.
    ("rocksdb", &["keevo-benches", "keevo-core", "keevo-raft"]),
    ("tantivy", &["keevo-search"]),
];

/// Libraries that the named packages must not use: neither the data model, nor consensus, nor the typed layers
/// know of a network.
const NEVER_IN: &[(&str, &[&str])] = &[
    ("axum", &["keevo-chat", "keevo-core", "keevo-feeds", "keevo-raft"]),
    ("hyper", &["keevo-chat", "keevo-core", "keevo-feeds", "keevo-raft"]),
    ("tonic", &["keevo-chat", "keevo-core", "keevo-feeds", "keevo-raft"]),
];

/// Packages with a lint table of their own: the workspace's, but that `unsafe_code` is denied and one module allows it.
const OWN_LINTS: &[&str] = &["keevo-moderation"];

static METADATA: LazyLock<Metadata> = LazyLock::new(|| {
    let locked = ["--locked", "--all-features"].map(str::to_owned);
    MetadataCommand::new()
        .current_dir(root())
        .other_options(locked)
        .exec()
        .expect("cargo metadata runs, and Cargo.lock is up to date")
});

/// The names of all packages that some build takes in. The metadata also lists what a feature of theirs merely mentions:
/// rustls-webpki so "has" ring wherever rustls is built on aws-lc-rs.
fn built() -> BTreeSet<String> {
    let listing = Command::new("cargo")
        .args(["tree", "--locked", "--workspace", "--all-features", "--target", "all"])
        .args(["--edges", "all", "--prefix", "none", "--format", "{p}"])
        .current_dir(root())
        .output()
        .expect("cargo tree runs");
    let text = String::from_utf8(listing.stdout).expect("it prints names");
    let names: BTreeSet<String> = text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    assert!(names.contains("keevo-core"), "cargo tree lists nothing: {}", String::from_utf8_lossy(&listing.stderr));
    names
}

/// The members of the workspace, each with the names of its normal dependencies.
fn members() -> Vec<(&'static Package, Vec<&'static str>)> {
    let used = |package: &'static Package| {
        package.dependencies.iter().filter(|one| one.kind == DependencyKind::Normal).map(|one| one.name.as_str())
    };
    METADATA.workspace_packages().into_iter().map(|package| (package, used(package).collect())).collect()
}

fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn packages_import_along_the_arrows() {
    let members = members();
    let ours: Vec<&str> = members.iter().map(|(package, _)| package.name.as_str()).collect();
    let mut complaints = Vec::new();
    for (package, used) in &members {
        let name = package.name.as_str();
        let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == name) else {
            complaints.push(format!("{name}: a new package; give it a row in ARROWS and in docs/ARCHITECTURE.md"));
            continue;
        };
        let stray = used.iter().filter(|one| ours.contains(one) && !allowed.contains(one));
        complaints.extend(stray.map(|one| format!("{name} must not use {one}")));
    }
    assert!(ours.len() >= ARROWS.len(), "packages of ARROWS that are not in the workspace: it has {ours:?}");
    none(&complaints);
}

#[test]
fn libraries_stay_where_they_belong() {
    let mut complaints = Vec::new();
    for (package, used) in members() {
        let name = package.name.as_str();
        for (library, homes) in ONLY_IN {
            if used.contains(library) && !homes.contains(&name) {
                complaints.push(format!("{name} must not use {library}: only {homes:?} may"));
            }
        }
        for (library, strangers) in NEVER_IN {
            if used.contains(library) && strangers.contains(&name) {
                complaints.push(format!("{name} must not use {library}"));
            }
        }
    }
    none(&complaints);
}

#[test]
fn rocksdb_is_optional() {
    // The benchmarks build everything anyway, and RocksDB is one of their peers.
    for (package, _) in members().into_iter().filter(|(package, _)| package.name.as_str() != "keevo-benches") {
        for one in package.dependencies.iter().filter(|one| one.name == "rocksdb") {
            assert!(
                one.optional,
                "{}: RocksDB stands behind a feature, so that most tests build without it",
                package.name
            );
        }
    }
}

/// Seeded defects are for `make mutants` alone: nothing turns their feature on by itself, neither a package's defaults
/// nor what one package asks of another.
#[test]
fn no_default_build_has_a_mutant() {
    let mut complaints = Vec::new();
    let mut known = 0;
    for (package, _) in members() {
        for (feature, parts) in &package.features {
            known += usize::from(feature == "mutants");
            let turns_it_on = parts.iter().any(|part| part == "mutants" || part.ends_with("/mutants"));
            if feature != "mutants" && turns_it_on {
                complaints.push(format!("{}: the feature {feature} turns mutants on", package.name));
            }
        }
        for one in package.dependencies.iter().filter(|one| one.features.iter().any(|feature| feature == "mutants")) {
            complaints.push(format!("{} asks {} for its mutants", package.name, one.name));
        }
    }
    assert!(known >= 2, "the feature has another name now: this test checks nothing");
    none(&complaints);
}

#[test]
fn every_package_keeps_the_workspace_lints() {
    let mut complaints = Vec::new();
    let workspace = text("Cargo.toml").expect("Cargo.toml can be read").expect("it is UTF-8");
    let lints = workspace.lines().skip_while(|line| *line != "[workspace.lints.rust]");
    let lints = lints.take_while(|line| {
        line.is_empty() || line.starts_with('#') || line.starts_with("[workspace.lints") || line.contains(" = ")
    });
    let ours: Vec<&str> = lints.filter(|line| line.contains(" = ") && !line.starts_with("unsafe_code")).collect();
    assert!(ours.len() > 20, "the workspace's lints could not be read: {ours:?}");
    for (package, _) in members() {
        let manifest = std::fs::read_to_string(&package.manifest_path).expect("cargo has just read it");
        if OWN_LINTS.contains(&package.name.as_str()) {
            let lacks = ours.iter().filter(|line| !manifest.lines().any(|own| own == **line));
            complaints.extend(lacks.map(|line| format!("{}: lacks the workspace's lint `{line}`", package.name)));
        } else if !manifest.contains("[lints]\nworkspace = true") {
            complaints.push(format!("{}: lacks `[lints] workspace = true`", package.name));
        }
    }
    none(&complaints);
}

#[test]
fn licences_bans_and_sources_are_within_the_rules() {
    let config = text(".deny.toml").expect(".deny.toml can be read").expect("it is UTF-8");
    let allowed = deny::list(&config, "licenses", "allow");
    let banned = deny::list(&config, "bans", "deny");
    assert!(!allowed.is_empty() && !banned.is_empty(), "the lists of .deny.toml could not be read");
    let built = built();
    let mut complaints = Vec::new();
    for package in &METADATA.packages {
        let licence = package.license.as_deref().unwrap_or_default();
        if !spdx::is_allowed(licence, &allowed) {
            complaints.push(format!("{} {}: licence '{licence}' is not allowed", package.name, package.version));
        }
        if built.contains(package.name.as_str()) && banned.iter().any(|one| *one == package.name.as_str()) {
            complaints.push(format!("{} {}: is banned by .deny.toml", package.name, package.version));
        }
        if package.source.as_ref().is_some_and(|source| !source.is_crates_io()) {
            complaints.push(format!("{} {}: does not come from crates.io", package.name, package.version));
        }
    }
    none(&complaints);
}
