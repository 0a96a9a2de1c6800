//! Where text goes: results to standard output, everything else to standard error.

use std::io::Write;

use clap::ValueEnum;
use keevo_core::{Error, ErrorKind, Result};

/// How a result looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// One JSON object a line.
    Json,
}

/// Prints a line of the result. `Io`: standard output is closed.
pub(crate) fn print(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|error| Error::new(ErrorKind::Io, "the output is closed").with_source(error))
}

/// Says something that is not part of the result.
pub(crate) fn note(line: &str) {
    // With standard error gone there is nobody to tell.
    drop(writeln!(std::io::stderr(), "keevo-bench: {line}"));
}
