//! Drawing a screen: on a terminal, or as text.
//!
//! ```text
//! one line    cluster, nodes up, shards, load
//! curves      throughput | p50 | p99
//! table       nodes
//! table       shards
//! one line    keys, or what is wrong
//! ```
//!
//! Invariant: what comes from nodes was escaped before; colour says nothing that text does not say.

use std::convert::Infallible;
use std::time::Duration;

use ratatui::backend::TestBackend;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::widgets::{Block, Clear, Paragraph, Row, Sparkline, Table};
use ratatui::{Frame, Terminal};
use serde_json::Value;

use super::picture::{Load, NodeRow, Picture, ShardRow, UNREACHABLE};
use super::screen::{Screen, to_f64};
use crate::output::Answer;
use crate::text::time;

/// The height of the curves, with their frames.
const CURVES: u16 = 5;
/// The most rows of nodes before the shards get the rest.
const NODES_MAX: u16 = 12;
/// What a table takes beside its rows.
const FRAME: u16 = 3;

const HELP: &str = "\
q, Esc, Ctrl-C   quit
h, ?             this help
s                sort by: id, rate, latency and lag, memory and index
r                turn the order around
p, space         pause, and go on
+ and -          look twice, or half as often
up, down, page   scroll the shards

Rates are of the time between two looks. A node's calls are those of
clients: keys, feeds and chat. A shard's rates are those of its leader:
entries handed to the log, on its disk, committed, applied. Lag is how
many entries the replica furthest behind has yet to apply.";

/// A picture that is written as text, or as JSON.
#[derive(Debug)]
pub(super) struct Still {
    pub(super) picture: Picture,
    /// In characters.
    pub(super) width: u16,
}

impl Answer for Still {
    fn table(&self) -> String {
        let rows = |count: usize| u16::try_from(count).unwrap_or(u16::MAX / 4).min(u16::MAX / 4);
        let (nodes, shards) = (rows(self.picture.nodes.len()).min(NODES_MAX), rows(self.picture.shards.len()));
        let height = 2 + CURVES + nodes + shards + 2 * FRAME;
        text_of(&Screen::new(self.picture.clone(), Duration::from_secs(1)), self.width, height)
    }

    fn json(&self) -> Value {
        self.picture.json()
    }
}

/// A screen of such a size as text, without blanks at the ends of lines.
pub(super) fn text_of(screen: &Screen, width: u16, height: u16) -> String {
    let Ok(text) = drawn(screen, width, height);
    text
}

fn drawn(screen: &Screen, width: u16, height: u16) -> Result<String, Infallible> {
    let mut terminal = Terminal::new(TestBackend::new(width, height))?;
    terminal.draw(|frame| draw(frame, screen))?;
    let buffer = terminal.backend().buffer();
    let lines = buffer.content().chunks(usize::from(width.max(1)));
    let lines = lines.map(|line| line.iter().map(ratatui::buffer::Cell::symbol).collect::<String>());
    Ok(lines.map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n"))
}

/// Draws a screen.
pub(super) fn draw(frame: &mut Frame<'_>, screen: &Screen) {
    let nodes = u16::try_from(screen.picture.nodes.len()).unwrap_or(NODES_MAX).clamp(1, NODES_MAX) + FRAME;
    let parts = [
        Constraint::Length(1),
        Constraint::Length(CURVES),
        Constraint::Length(nodes),
        Constraint::Min(FRAME),
        Constraint::Length(1),
    ];
    let [head, curves, node_table, shard_table, foot] = Layout::vertical(parts).areas(frame.area());
    frame.render_widget(Paragraph::new(headline(&screen.picture)).style(bold()), head);
    draw_curves(frame, screen, curves);
    frame.render_widget(nodes_table(screen), node_table);
    frame.render_widget(shards_table(screen), shard_table);
    let (text, style) = footer(screen);
    frame.render_widget(Paragraph::new(text).style(style), foot);
    if screen.help {
        draw_help(frame);
    }
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn bad() -> Style {
    Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)
}

fn headline(picture: &Picture) -> String {
    let (up, leaderless) = picture.health();
    // First what is wrong, which a narrow screen would cut off at the end.
    let wrong = if leaderless > 0 { format!(", {leaderless} WITHOUT A LEADER") } else { String::new() };
    format!(
        "cluster {}  {}/{} nodes up  {} shards{wrong}  {} calls/s  p50 {}  p99 {}  {}",
        picture.cluster.get(..8).unwrap_or(&picture.cluster),
        up,
        picture.nodes.len(),
        picture.shards.len(),
        rate(picture.load.calls),
        seconds(picture.load.p50),
        seconds(picture.load.p99),
        time(picture.now_ms)
    )
}

/// What a curve shows of a load.
type Curve = fn(&Load) -> f64;

fn draw_curves(frame: &mut Frame<'_>, screen: &Screen, area: Rect) {
    let [left, middle, right] = Layout::horizontal([Constraint::Fill(1); 3]).areas(area);
    let load = &screen.picture.load;
    let curves: [(Rect, String, Curve); 3] = [
        (left, format!(" {} calls/s ", rate(load.calls)), |load| load.calls),
        (middle, format!(" p50 {} ", seconds(load.p50)), |load| load.p50.unwrap_or(0.0) * 1e6),
        (right, format!(" p99 {} ", seconds(load.p99)), |load| load.p99.unwrap_or(0.0) * 1e6),
    ];
    for (area, title, of) in curves {
        let width = usize::from(area.width.saturating_sub(2));
        let newest = screen.history.len().saturating_sub(width);
        let points: Vec<u64> = screen.history.iter().skip(newest).map(|load| whole(of(load))).collect();
        let curve = Sparkline::default().block(Block::bordered().title(title)).data(points);
        frame.render_widget(curve, area);
    }
}

fn nodes_table(screen: &Screen) -> Table<'static> {
    let header = ["Node", "Address", "State", "Version", "Leads", "Copies", "Disk free", "Memory", "CPU", "Calls/s"];
    let header = header.into_iter().chain(["p50", "p99", "Behind"]);
    // 120 characters with frames and gaps.
    let widths = [4, 20, 13, 7, 5, 6, 9, 9, 4, 7, 8, 8, 6].map(Constraint::Length);
    let rows = screen.nodes().into_iter().map(node_row);
    let title = format!(" nodes, by {}{} ", screen.sort.name(), if screen.reversed { ", reversed" } else { "" });
    Table::new(rows, widths).header(Row::new(header).style(bold())).block(Block::bordered().title(title))
}

fn node_row(node: &NodeRow) -> Row<'static> {
    let cells = [
        node.id.to_string(),
        node.address.clone(),
        node.state.clone(),
        node.version.clone(),
        node.leaders.to_string(),
        node.replicas.to_string(),
        bytes(node.disk_free),
        bytes(node.memory),
        node.cpus.map_or_else(dash, |cpus| format!("{cpus:.1}")),
        rate(node.load.calls),
        seconds(node.load.p50),
        seconds(node.load.p99),
        format!("{}%", node.pressure / 10),
    ];
    let style = match node.state.as_str() {
        "up" => Style::new(),
        UNREACHABLE => bad(),
        _ => Style::new().fg(Color::Yellow),
    };
    Row::new(cells).style(style)
}

fn shards_table(screen: &Screen) -> Table<'static> {
    let header =
        ["Shard", "Leader", "Copies", "Applied", "Lag", "Submitted/s", "Flushed/s", "Committed/s", "Applied/s"];
    let widths = [6, 7, 7, 14, 9, 12, 12, 12, 12].map(Constraint::Length);
    let all = screen.shards();
    let skipped = screen.skipped.min(all.len().saturating_sub(1));
    let title = match skipped {
        0 => " shards ".to_owned(),
        _ => format!(" shards, from the {}. on ", skipped + 1),
    };
    let rows = all.into_iter().skip(skipped).map(shard_row);
    Table::new(rows, widths).header(Row::new(header).style(bold())).block(Block::bordered().title(title))
}

fn shard_row(shard: &ShardRow) -> Row<'static> {
    let of =
        |pick: fn(&super::picture::Rates) -> f64| shard.rates.as_ref().map_or_else(dash, |rates| rate(pick(rates)));
    let cells = [
        shard.id.to_string(),
        shard.leader.map_or_else(|| "NONE".to_owned(), |node| node.to_string()),
        format!("{}/{}", shard.up, shard.replicas),
        shard.applied.to_string(),
        shard.lag.to_string(),
        of(|rates| rates.submitted),
        of(|rates| rates.flushed),
        of(|rates| rates.committed),
        of(|rates| rates.applied),
    ];
    let style = match (shard.leader, shard.up < shard.replicas) {
        (None, _) => bad(),
        (Some(_), true) => Style::new().fg(Color::Yellow),
        (Some(_), false) => Style::new(),
    };
    Row::new(cells).style(style)
}

fn footer(screen: &Screen) -> (String, Style) {
    if let Some(trouble) = &screen.trouble {
        return (format!("OLD PICTURE: {trouble}"), bad());
    }
    let paused = if screen.paused { "PAUSED  " } else { "" };
    let every = screen.interval.as_millis();
    (format!("{paused}q quit  h help  s sort  r reverse  p pause  every {every} ms"), Style::new().fg(Color::DarkGray))
}

fn draw_help(frame: &mut Frame<'_>) {
    let area = frame.area();
    let lines = u16::try_from(HELP.lines().count()).unwrap_or(u16::MAX);
    let (width, height) = (74.min(area.width), (lines + 2).min(area.height));
    let middle = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    frame.render_widget(Clear, middle);
    frame.render_widget(Paragraph::new(HELP).block(Block::bordered().title(" keys ")), middle);
}

fn dash() -> String {
    "-".to_owned()
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a height, and not negative")]
fn whole(value: f64) -> u64 {
    value.max(0.0) as u64
}

/// Three digits, and thousands as k and M.
fn rate(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.1}M", value / 1e6),
        value if value >= 1e4 => format!("{:.1}k", value / 1e3),
        value if !(0.05..10.0).contains(&value) => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}

fn seconds(value: Option<f64>) -> String {
    match value {
        None => dash(),
        Some(value) if value >= 1.0 => format!("{value:.2} s"),
        Some(value) => format!("{:.2} ms", value * 1e3),
    }
}

fn bytes(value: Option<f64>) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let Some(value) = value else { return dash() };
    let unit = UNITS.iter().find(|(_, shift)| value >= to_f64(1 << shift));
    unit.map_or_else(|| format!("{value:.0} B"), |(name, shift)| format!("{:.1} {name}", value / to_f64(1 << shift)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::picture::tests::samples;

    fn screen() -> Screen {
        let (before, now) = samples();
        Screen::new(Picture::between(&before, &now), Duration::from_secs(2))
    }

    #[test]
    fn a_screen_shows_nodes_shards_and_what_is_wrong() {
        let mut screen = screen();
        let text = text_of(&screen, 120, 21);
        for part in [
            "cluster abababab  2/3 nodes up  2 shards, 1 WITHOUT A LEADER  200 calls/s  p50 0.50 ms  p99 0.99 ms",
            " nodes, by id ",
            "10.0.0.3:7101",
            "UNREACHABLE",
            "5.0 GiB",
            "256.0 MiB",
            "NONE",
            "q quit  h help",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(text.lines().any(|line| line.contains("2/3") && line.matches(" 50 ").count() == 4), "{text}");
        screen.trouble = Some("UNAVAILABLE: no node can be reached".to_owned());
        screen.sort = crate::top::screen::Sort::Rate;
        screen.skipped = 1;
        let text = text_of(&screen, 120, 21);
        for part in ["OLD PICTURE: UNAVAILABLE", " nodes, by rate ", " shards, from the 2. on "] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        screen.help = true;
        assert!(text_of(&screen, 120, 30).contains("turn the order around"));
        // Whatever the size of the terminal is, it is drawn.
        for (width, height) in [(1, 1), (20, 5), (80, 24), (300, 100)] {
            text_of(&screen, width, height);
        }
    }

    #[test]
    fn numbers_are_short() {
        for (value, expected) in [(0.0, "0"), (0.26, "0.3"), (99.4, "99"), (12_345.0, "12.3k"), (2.5e6, "2.5M")] {
            assert_eq!(rate(value), expected);
        }
        assert_eq!((seconds(Some(0.001_234)), seconds(Some(2.5))), ("1.23 ms".to_owned(), "2.50 s".to_owned()));
        assert_eq!((bytes(Some(3.0 * 1_073_741_824.0)), bytes(Some(5.0))), ("3.0 GiB".to_owned(), "5 B".to_owned()));
    }

    #[test]
    fn a_still_has_room_for_every_row() {
        let (before, now) = samples();
        let still = Still { picture: Picture::between(&before, &now), width: 120 };
        let text = still.table();
        assert!(text.contains("10.0.0.3:7101") && text.contains("NONE"), "{text}");
        assert!(text.lines().count() > 15 && !text.lines().any(|line| line.ends_with(' ')), "{text}");
        assert_eq!(still.json()["nodes"].as_array().map(Vec::len), Some(3));
    }
}
