//! The newest lines of the log of this process, kept in memory for whoever looks for a fault.
//!
//! ```text
//! tracing ─▶ a line ─┬─▶ standard error
//!                    └─▶ ring: LINES_MAX lines, BYTES_MAX bytes; the oldest go
//! ```
//!
//! Invariant: what is kept is bounded, and writing to standard error never waits for it longer than a push takes.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// How many lines are kept.
const LINES_MAX: usize = 4_096;
/// How many bytes of them.
const BYTES_MAX: usize = 1 << 20;
/// What is kept of one line.
const LINE_BYTES_MAX: usize = 4_096;

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<String>,
    bytes: usize,
    dropped: u64,
}

/// The newest lines of a log. Cheap to clone; clones share them.
#[derive(Debug, Clone, Default)]
pub struct RecentLog {
    ring: Arc<Mutex<Ring>>,
}

/// The log of this process.
static OF_PROCESS: LazyLock<RecentLog> = LazyLock::new(RecentLog::default);

impl RecentLog {
    /// That of this process: what is logged through it, and what its nodes show.
    pub fn of_process() -> Self {
        OF_PROCESS.clone()
    }

    /// Keeps a line, without colours, and cut where it is very long.
    pub fn push(&self, line: &str) {
        let mut line = without_colours(line.trim_end());
        if line.len() > LINE_BYTES_MAX {
            let end = (0..=LINE_BYTES_MAX).rev().find(|at| line.is_char_boundary(*at)).unwrap_or_default();
            line.truncate(end);
            line.push('…');
        }
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.bytes += line.len();
        ring.lines.push_back(line);
        while ring.lines.len() > LINES_MAX || ring.bytes > BYTES_MAX {
            let Some(oldest) = ring.lines.pop_front() else { break };
            ring.bytes = ring.bytes.saturating_sub(oldest.len());
            ring.dropped += 1;
        }
    }

    /// The lines, oldest first, and how many older ones are gone.
    pub fn lines(&self) -> (Vec<String>, u64) {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        (ring.lines.iter().cloned().collect(), ring.dropped)
    }
}

/// Takes out what colours a terminal: `ESC [ … m`.
fn without_colours(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let codes = part.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap_or(part.len());
        let rest = part.get(codes..).unwrap_or_default();
        text.push_str(rest.strip_prefix('m').unwrap_or(rest));
    }
    text
}

/// A line on its way to standard error and into the ring.
#[derive(Debug)]
pub struct Tee {
    recent: RecentLog,
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.recent.push(&String::from_utf8_lossy(bytes));
        io::stderr().lock().write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

impl<'a> MakeWriter<'a> for RecentLog {
    type Writer = Tee;

    fn make_writer(&'a self) -> Tee {
        Tee { recent: self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_lines_go_first_by_number_and_by_size() {
        let log = RecentLog::default();
        for number in 0..LINES_MAX + 3 {
            log.push(&format!("line {number}\n"));
        }
        let (lines, dropped) = log.lines();
        assert_eq!((lines.len(), dropped, lines[0].as_str()), (LINES_MAX, 3, "line 3"));
        let long = "é".repeat(LINE_BYTES_MAX);
        for _ in 0..2 * BYTES_MAX / LINE_BYTES_MAX {
            log.push(&long);
        }
        let (lines, _) = log.lines();
        assert!(lines.iter().map(String::len).sum::<usize>() <= BYTES_MAX);
        assert!(lines.iter().all(|line| line.ends_with('…') && line.len() <= LINE_BYTES_MAX + '…'.len_utf8()));
    }

    #[test]
    fn lines_are_kept_without_colours() {
        let log = RecentLog::default();
        log.push("\u{1b}[2m2026\u{1b}[0m \u{1b}[32m INFO\u{1b}[0m x=[1] \u{1b}[1;31mred\u{1b}[0m\n");
        assert_eq!(log.lines().0, ["2026  INFO x=[1] red"]);
    }
}
