//! Where words go: answers to standard output, all else to standard error.
//!
//! Invariant: a reader that has seen enough (`| head`) is no error; the process then ends with success.

use std::io::{self, ErrorKind, IsTerminal, Write};

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
    /// A JSON object a line: one for each row of a list, otherwise one in all.
    Jsonl,
}

/// An answer in both formats, rendered when it is shown.
pub(crate) trait Answer {
    /// For people, without a line feed at the end.
    fn table(&self) -> String;
    /// For programs.
    fn json(&self) -> Value;
    /// The field of [`Answer::json`] that is a list of rows, where the answer is one.
    fn list(&self) -> Option<&'static str> {
        None
    }
}

/// Writes an answer as one document.
pub(crate) fn show(format: Format, answer: &impl Answer) -> Result<(), Failure> {
    match format {
        Format::Table => say(&answer.table()),
        Format::Json => say(&format!("{:#}", answer.json())),
        Format::Jsonl => lines(answer),
    }
}

/// Writes each row as a line; that there are more rows goes to standard error.
fn lines(answer: &impl Answer) -> Result<(), Failure> {
    let mut document = answer.json();
    let rows = match answer.list() {
        Some(field) => document.get_mut(field).map(Value::take).unwrap_or_default(),
        None if document.is_array() => document.take(),
        None => return say(&document.to_string()),
    };
    let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
    rows.iter().try_for_each(|row| say(&row.to_string()))?;
    if document.get("more").and_then(Value::as_bool) == Some(true) {
        complain("there are more rows than --limit lets through");
    }
    Ok(())
}

/// Writes one answer of many: a line each.
pub(crate) fn show_line(format: Format, answer: &impl Answer) -> Result<(), Failure> {
    match format {
        Format::Table => say(&answer.table()),
        Format::Json | Format::Jsonl => say(&answer.json().to_string()),
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

/// Whether a stream takes colours: it is a terminal, and nobody has said that there are to be none.
pub(crate) fn has_colours(stream: &impl IsTerminal) -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    stream.is_terminal() && set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb")
}

/// Tells of a failure on standard error, its kind in red; `place` = what comes first, such as the program's name.
pub(crate) fn complain_of(place: &str, failure: &Failure) {
    let text = failure.to_string();
    match text.split_once(':').filter(|_| has_colours(&io::stderr())) {
        Some((kind, rest)) => complain(&format!("{place}: \u{1b}[1;31m{kind}\u{1b}[0m:{rest}")),
        None => complain(&format!("{place}: {text}")),
    }
}

/// Writes text and a line feed to standard error; there is nobody to tell when that fails.
pub(crate) fn complain(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}
