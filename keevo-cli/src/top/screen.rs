//! What the keys do, and what a screen remembers.
//!
//! Invariant: a key changes what is shown and never the cluster; what is remembered is bounded.

use std::collections::VecDeque;
use std::time::Duration;

use super::picture::{Load, NodeRow, Picture, ShardRow};
use super::{INTERVAL_MAX, INTERVAL_MIN};

/// The most looks that the curves show.
const HISTORY_MAX: usize = 240;
/// Rows that a page key moves by.
const PAGE: usize = 10;

/// A key that is pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Esc,
    /// Ctrl-C, which a terminal in raw mode sends as a key.
    Interrupt,
}

/// By what rows are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sort {
    /// Nodes and shards by their ids.
    #[default]
    Id,
    /// Nodes by calls a second, shards by entries applied a second; the most first.
    Rate,
    /// Nodes by p99, shards by lag; the worst first.
    Delay,
    /// Nodes by memory, shards by applied index; the most first.
    Size,
}

impl Sort {
    /// What it is called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Rate => "rate",
            Self::Delay => "latency and lag",
            Self::Size => "memory and index",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Id => Self::Rate,
            Self::Rate => Self::Delay,
            Self::Delay => Self::Size,
            Self::Size => Self::Id,
        }
    }
}

/// What is on the screen.
#[derive(Debug, Clone)]
pub(super) struct Screen {
    pub(super) picture: Picture,
    /// Oldest first.
    pub(super) history: VecDeque<Load>,
    pub(super) sort: Sort,
    pub(super) reversed: bool,
    pub(super) paused: bool,
    pub(super) help: bool,
    /// Shards that are scrolled past.
    pub(super) skipped: usize,
    pub(super) interval: Duration,
    /// Why the picture is an old one.
    pub(super) trouble: Option<String>,
}

impl Screen {
    pub(super) fn new(picture: Picture, interval: Duration) -> Self {
        let history = VecDeque::from([picture.load]);
        Self {
            picture,
            history,
            sort: Sort::default(),
            reversed: false,
            paused: false,
            help: false,
            skipped: 0,
            interval,
            trouble: None,
        }
    }

    /// Shows a new picture.
    pub(super) fn show(&mut self, picture: Picture) {
        self.trouble = None;
        self.history.push_back(picture.load);
        while self.history.len() > HISTORY_MAX {
            self.history.pop_front();
        }
        self.picture = picture;
    }

    /// Does what a key asks for; `false` when it asks for the end.
    pub(super) fn press(&mut self, key: Key) -> bool {
        match key {
            Key::Esc if self.help => self.help = false,
            Key::Interrupt | Key::Esc | Key::Char('q') => return false,
            Key::Char('h' | '?') => self.help = !self.help,
            Key::Char('s') => self.sort = self.sort.next(),
            Key::Char('r') => self.reversed = !self.reversed,
            Key::Char('p' | ' ') => self.paused = !self.paused,
            Key::Char('+') => self.interval = (self.interval / 2).max(INTERVAL_MIN),
            Key::Char('-') => self.interval = (self.interval * 2).min(INTERVAL_MAX),
            Key::Down | Key::Char('j') => self.scroll(1),
            Key::Up | Key::Char('k') => self.skipped = self.skipped.saturating_sub(1),
            Key::PageDown => self.scroll(PAGE),
            Key::PageUp => self.skipped = self.skipped.saturating_sub(PAGE),
            Key::Home => self.skipped = 0,
            Key::End => self.scroll(usize::MAX),
            Key::Char(_) => {}
        }
        true
    }

    fn scroll(&mut self, by: usize) {
        let last = self.picture.shards.len().saturating_sub(1);
        self.skipped = self.skipped.saturating_add(by).min(last);
    }

    /// The nodes as they are sorted.
    pub(super) fn nodes(&self) -> Vec<&NodeRow> {
        let of = |row: &NodeRow| match self.sort {
            Sort::Id => 0.0,
            Sort::Rate => row.load.calls,
            Sort::Delay => row.load.p99.unwrap_or(-1.0),
            Sort::Size => row.memory.unwrap_or(-1.0),
        };
        self.sorted(&self.picture.nodes, of, |row| row.id)
    }

    /// The shards as they are sorted.
    pub(super) fn shards(&self) -> Vec<&ShardRow> {
        let of = |row: &ShardRow| match self.sort {
            Sort::Id => 0.0,
            Sort::Rate => row.rates.map_or(-1.0, |rates| rates.applied),
            Sort::Delay => to_f64(row.lag),
            Sort::Size => to_f64(row.applied),
        };
        self.sorted(&self.picture.shards, of, |row| row.id)
    }

    /// The largest first, and equal ones by their ids.
    fn sorted<'a, T>(&self, rows: &'a [T], of: impl Fn(&T) -> f64, id: impl Fn(&T) -> u64) -> Vec<&'a T> {
        let mut rows: Vec<&T> = rows.iter().collect();
        rows.sort_by(|one, other| of(other).total_cmp(&of(one)).then_with(|| id(one).cmp(&id(other))));
        if self.reversed {
            rows.reverse();
        }
        rows
    }
}

#[allow(clippy::cast_precision_loss, reason = "it is compared with others like it, and shown in three digits")]
pub(super) fn to_f64(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::picture::tests::samples;

    fn screen() -> Screen {
        let (before, now) = samples();
        Screen::new(Picture::between(&before, &now), Duration::from_secs(1))
    }

    fn press(screen: &mut Screen, key: Key) -> bool {
        screen.press(key)
    }

    #[test]
    fn keys_sort_scroll_pause_and_end() {
        let mut screen = screen();
        let ids = |screen: &Screen| screen.shards().iter().map(|row| row.id).collect::<Vec<_>>();
        assert_eq!(ids(&screen), [1, 2]);
        press(&mut screen, Key::Char('r'));
        assert_eq!(ids(&screen), [2, 1]);
        press(&mut screen, Key::Char('r'));
        press(&mut screen, Key::Char('s'));
        assert_eq!((screen.sort, ids(&screen)), (Sort::Rate, vec![1, 2]));
        press(&mut screen, Key::Char('s'));
        assert_eq!((screen.sort, ids(&screen)), (Sort::Delay, vec![2, 1]), "shard 2 lags by 113");
        for _ in 0..5 {
            press(&mut screen, Key::Down);
        }
        assert_eq!(screen.skipped, 1, "the last row stays");
        press(&mut screen, Key::Home);
        assert_eq!(screen.skipped, 0);
        for _ in 0..20 {
            press(&mut screen, Key::Char('+'));
        }
        assert_eq!(screen.interval, INTERVAL_MIN);
        assert!(press(&mut screen, Key::Char('p')) && screen.paused);
        assert!(press(&mut screen, Key::Char('?')) && screen.help);
        assert!(press(&mut screen, Key::Esc) && !screen.help, "it leaves the help first");
        assert!(!press(&mut screen, Key::Esc));
        assert!(!press(&mut screen, Key::Char('q')));
        assert!(!press(&mut screen, Key::Interrupt));
        assert!(press(&mut screen, Key::Char('c')));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut screen = screen();
        screen.trouble = Some("away".to_owned());
        for _ in 0..2 * HISTORY_MAX {
            screen.show(screen.picture.clone());
        }
        assert_eq!((screen.history.len(), screen.trouble), (HISTORY_MAX, None));
    }
}
