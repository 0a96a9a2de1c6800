//! What the demo prints: text as it goes, and at the end one `name value` a line.
//!
//! Invariant: all of it goes to standard output; progress bars and warnings go to standard error.

use std::fmt::Display;
use std::io::Write;
use std::time::Duration;

use keevo_core::{Error, ErrorKind, Result};

/// Standard output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen;

#[allow(clippy::unused_self, reason = "what may print is handed a screen; what has none is silent")]
impl Screen {
    /// Prints a line. `Io` when nobody reads any more.
    pub(super) fn say(self, line: &str) -> Result<()> {
        writeln!(std::io::stdout(), "{line}")
            .map_err(|error| Error::new(ErrorKind::Io, "the output is closed").with_source(error))
    }

    /// Prints the title of a part.
    pub(super) fn title(self, title: &str) -> Result<()> {
        self.say(&format!("\n== {title}"))
    }
}

/// The figures of a run.
#[derive(Debug, Default)]
pub(super) struct Report {
    lines: Vec<String>,
}

impl Report {
    /// Adds a figure.
    pub(super) fn add(&mut self, name: &str, value: impl Display) {
        self.lines.push(format!("{name} {value}"));
    }

    /// Prints them all.
    pub(super) fn print(&self, screen: Screen) -> Result<()> {
        screen.title("figures")?;
        self.lines.iter().try_for_each(|line| screen.say(line))
    }
}

/// How many a second, rounded down.
pub(super) fn rate(count: u64, time: Duration) -> u64 {
    let micros = time.as_micros().max(1);
    u64::try_from(u128::from(count) * 1_000_000 / micros).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_second_whatever_the_time() {
        assert_eq!(rate(500, Duration::from_millis(250)), 2_000);
        assert_eq!(rate(0, Duration::ZERO), 0);
        assert_eq!(rate(u64::MAX, Duration::ZERO), u64::MAX);
    }
}
