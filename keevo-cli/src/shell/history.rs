//! The shell's history: lines of earlier shells, in a file that its owner alone can read.
//!
//! Invariant: a line that looks as if it held a secret is written nowhere. What cannot be kept is forgotten: a shell works
//! without its history.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use crate::files::{self, OWNER_ONLY};

/// How many lines are kept.
pub(super) const LINES_MAX: usize = 1_000;
/// The largest file that is read.
const BYTES_MAX: u64 = 4 << 20;
/// The longest line that is kept, in bytes.
const LINE_BYTES_MAX: usize = 4_096;
/// What a line with a secret has in it.
const SECRET: [&str; 9] = ["passw", "secret", "token", "api_key", "api-key", "apikey", "bearer", "private", "keevo_"];
/// Names that have the like in them and hold none.
const HARMLESS: [&str; 3] = ["--secret-file", "--api-key-file", "--api-key-variable"];

/// Whether a line may be kept.
pub(super) fn is_kept(line: &str) -> bool {
    let plain = HARMLESS.iter().fold(line.to_lowercase(), |line, harmless| line.replace(harmless, ""));
    let blank = line.trim().is_empty() || line.starts_with(char::is_whitespace);
    !blank && line.len() <= LINE_BYTES_MAX && !SECRET.iter().any(|secret| plain.contains(secret))
}

/// The file of the history.
#[derive(Debug)]
pub(super) struct History {
    path: Option<PathBuf>,
}

impl History {
    /// The lines of earlier shells, the newest last, and where further ones go.
    pub(super) fn open(path: Option<PathBuf>) -> (Self, Vec<String>) {
        let text = path.as_ref().and_then(|path| files::text_of(path, BYTES_MAX).ok().flatten()).unwrap_or_default();
        let all: Vec<&str> = text.lines().filter(|line| is_kept(line)).collect();
        let lines = all.get(all.len().saturating_sub(LINES_MAX)..).unwrap_or_default();
        let lines: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
        let history = Self { path };
        if all.len() > LINES_MAX.saturating_mul(2) {
            history.rewrite(&lines);
        }
        (history, lines)
    }

    fn rewrite(&self, lines: &[String]) {
        let text = lines.join("\n") + "\n";
        drop(self.path.as_ref().map(|path| files::place(path, &text, OWNER_ONLY)));
    }

    /// Keeps a line, unless it looks as if it held a secret; says whether it may be shown again in this shell.
    pub(super) fn add(&self, line: &str) -> bool {
        if !is_kept(line) {
            return false;
        }
        drop(self.path.as_ref().map(|path| {
            files::make_folder_of(path)?;
            let mut file = OpenOptions::new().append(true).create(true).mode(OWNER_ONLY).open(path)?;
            file.set_permissions(PermissionsExt::from_mode(OWNER_ONLY))?;
            file.write_all(format!("{line}\n").as_bytes())
        }));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_kept_for_their_owner_alone_and_secrets_are_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keevo/history");
        let (history, lines) = History::open(Some(path.clone()));
        assert!(lines.is_empty());
        assert!(history.add("kv get a/b"));
        assert!(history.add("app create shop --secret-file x --api-key-file y"));
        for secret in [
            " kv get a/b",
            "kv put user/ann/Password x",
            "chat send c --user u 'my TOKEN is 5'",
            "context add x --api-key-file keevo_3f62_9a",
            "",
        ] {
            assert!(!history.add(secret), "{secret}");
        }
        let (_, lines) = History::open(Some(path.clone()));
        assert_eq!(lines, ["kv get a/b", "app create shop --secret-file x --api-key-file y"]);
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_long_history_is_cut_to_its_newest_lines() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("history");
        let lines: Vec<String> = (0..=2 * LINES_MAX).map(|number| format!("kv get a/{number}")).collect();
        let text = lines.join("\n") + "\n";
        std::fs::write(&path, text).expect("written");
        let (_, lines) = History::open(Some(path.clone()));
        assert_eq!((lines.len(), lines.last().map(String::as_str)), (LINES_MAX, Some("kv get a/2000")));
        assert_eq!(std::fs::read_to_string(&path).expect("cut").lines().count(), LINES_MAX);
    }
}
