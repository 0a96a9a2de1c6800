//! Progress of long commands, on standard error where that is a terminal; elsewhere nothing of it is shown.
//!
//! Invariant: standard output is not touched, so that what is exported can be piped.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};

use crate::failure::Failure;
use crate::output::say;

/// How progress is shown where the end is known.
const BAR: &str = "{prefix} [{bar:32}] {pos}/{len} {eta} left";
/// How it is shown where it is not.
const COUNTER: &str = "{spinner} {prefix}: {human_pos} in {elapsed} {msg}";

/// What the command that runs has exported.
static EXPORTED: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Counts what has no known end.
pub(crate) fn counter(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template(COUNTER).unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::no_length().with_style(style).with_prefix(what)
}

/// Counts up to an end.
pub(crate) fn bar(what: &'static str, length: usize) -> ProgressBar {
    let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    ProgressBar::new(length).with_style(style).with_prefix(what)
}

/// Writes a line of an export, and counts it where the lines themselves do not go to the terminal.
pub(crate) fn exported(line: &str) -> Result<(), Failure> {
    say(line)?;
    if !std::io::stdout().is_terminal() {
        let mut exported = EXPORTED.lock().unwrap_or_else(PoisonError::into_inner);
        exported.get_or_insert_with(|| counter("lines exported")).inc(1);
    }
    Ok(())
}

/// Takes what was shown of an export away.
pub(crate) fn ended() {
    let exported = EXPORTED.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(bar) = exported {
        bar.finish_and_clear();
    }
}
