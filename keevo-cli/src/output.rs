//! Where words go: answers to standard output, all else to standard error.
//!
//! Invariant: a reader that has seen enough (`| head`) is no error; the process then ends with success.

use std::io::{self, ErrorKind, Write};

use clap::ValueEnum;
use serde_json::Value;

use crate::failure::Failure;

/// How answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// Tables and sentences, for people.
    #[default]
    Table,
    /// One JSON document; a watch writes one object a line.
    Json,
}

/// An answer in both formats, rendered when it is shown.
pub(crate) trait Answer {
    /// For people, without a line feed at the end.
    fn table(&self) -> String;
    /// For programs.
    fn json(&self) -> Value;
}

/// Writes an answer as one document.
pub(crate) fn show(format: Format, answer: &impl Answer) -> Result<(), Failure> {
    match format {
        Format::Table => say(&answer.table()),
        Format::Json => say(&format!("{:#}", answer.json())),
    }
}

/// Writes one answer of many: a line each.
pub(crate) fn show_line(format: Format, answer: &impl Answer) -> Result<(), Failure> {
    match format {
        Format::Table => say(&answer.table()),
        Format::Json => say(&answer.json().to_string()),
    }
}

/// Writes text and a line feed to standard output.
pub(crate) fn say(text: &str) -> Result<(), Failure> {
    raw(&[text.as_bytes(), b"\n"].concat())
}

/// Writes bytes as they are to standard output.
pub(crate) fn raw(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::io("the answer cannot be written", error)),
    }
}

/// Writes text and a line feed to standard error; there is nobody to tell when that fails.
pub(crate) fn complain(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}
