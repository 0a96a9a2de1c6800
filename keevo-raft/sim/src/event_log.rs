//! What happened, line by line, and a hash over all of it: two runs of a seed must agree in every byte.

use std::collections::VecDeque;
use std::fmt::{self, Write};

/// How many lines are kept for a report when the whole log is not.
const TAIL_LINES: usize = 60;

/// The log of one run.
#[derive(Debug)]
pub(crate) struct EventLog {
    hash: u64,
    lines: u64,
    line: String,
    whole: Option<Vec<u8>>,
    tail: VecDeque<String>,
}

impl EventLog {
    /// An empty log; with `whole` all of it is kept, else its end.
    pub(crate) fn new(whole: bool) -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            lines: 0,
            line: String::new(),
            whole: whole.then(Vec::new),
            tail: VecDeque::new(),
        }
    }

    /// Adds a line.
    pub(crate) fn write(&mut self, now_ms: u64, what: fmt::Arguments<'_>) {
        self.line.clear();
        // Writing to a string does not fail.
        let _written = writeln!(self.line, "{now_ms:>7} {what}");
        for &byte in self.line.as_bytes() {
            // FNV-1a.
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.lines += 1;
        if let Some(whole) = &mut self.whole {
            whole.extend_from_slice(self.line.as_bytes());
        }
        if self.tail.len() >= TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(self.line.clone());
    }

    /// The hash over everything so far.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// How many lines there are.
    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    /// The last lines.
    pub(crate) fn tail(&self) -> String {
        self.tail.iter().map(String::as_str).collect()
    }

    /// The whole log, if it was kept.
    pub(crate) fn take_whole(&mut self) -> Option<Vec<u8>> {
        self.whole.take()
    }
}
