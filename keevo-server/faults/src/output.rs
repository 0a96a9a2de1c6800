//! Lines on standard output.

use std::io::Write;

/// Prints a line. With standard output closed there is nobody to tell.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}
