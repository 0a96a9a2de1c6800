//! What went wrong, as it is shown: the kind, what happened, what to do.
//!
//! Invariant: kind and exit code are those of `keevo_core::ERROR_TABLE`; only the advice may be more specific.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use keevo_core::{ERROR_TABLE, Error, ErrorKind};

/// An error with, perhaps, better advice than its kind has.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    error: Error,
    advice: Option<String>,
    /// It was shown already.
    told: bool,
}

impl Failure {
    /// The error with its own advice: whole sentences.
    pub(crate) fn with_advice(error: Error, advice: impl Into<String>) -> Self {
        Self { error, advice: Some(advice.into()), told: false }
    }

    /// The same failure with other advice: whole sentences.
    pub(crate) fn advise(self, advice: String) -> Self {
        Self { advice: Some(advice), ..self }
    }

    /// The same failure, which somebody has been shown.
    pub(crate) fn told(self) -> Self {
        Self { told: true, ..self }
    }

    /// Whether it was shown already.
    pub(crate) fn is_told(&self) -> bool {
        self.told
    }

    /// A failure of this machine: reading standard input, say.
    pub(crate) fn io(what: &str, error: std::io::Error) -> Self {
        let said = Error::new(ErrorKind::Io, format!("{what}: {error}")).with_source(error);
        Self::with_advice(said, "Check the file, pipe or terminal, then run the command again.")
    }

    /// What the caller can do about it.
    pub(crate) fn kind(&self) -> ErrorKind {
        self.error.kind()
    }

    /// The exit code of the process.
    pub(crate) fn exit_code(&self) -> u8 {
        self.kind().row().exit_code
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, advice: None, told: false }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.advice {
            Some(advice) => {
                write!(f, "{}: {}. {advice}", self.kind(), self.error.message().trim_end_matches('.'))
            }
            None => self.error.fmt(f),
        }
    }
}

/// The exit codes and the kinds that have them, for the help and the README.
pub(crate) fn exit_codes() -> String {
    let mut by_code: BTreeMap<u8, Vec<&str>> = BTreeMap::new();
    for row in ERROR_TABLE {
        by_code.entry(row.exit_code).or_default().push(row.name);
    }
    let mut text = String::from("Exit codes:\n  0  done, or a watch ended by Ctrl-C");
    for (code, names) in by_code {
        write!(text, "\n  {code}  {}", names.join(", ")).expect("a string takes all text");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_replaces_that_of_the_kind() {
        let error = Error::new(ErrorKind::NotFound, "no record under a/b.");
        assert_eq!(Failure::from(error.clone()).to_string(), "NOT_FOUND: no record under a/b. Check the name or id.");
        assert_eq!(Failure::with_advice(error, "Look.").to_string(), "NOT_FOUND: no record under a/b. Look.");
    }

    #[test]
    fn the_readme_has_the_exit_codes() {
        let readme = include_str!("../README.md");
        for line in exit_codes().lines() {
            assert!(readme.contains(line), "README.md lacks the line {line:?}");
        }
    }
}
