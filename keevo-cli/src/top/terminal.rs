//! A terminal as ratatui draws on it and keys come from it, by crossterm's commands and the bytes of standard input.
//!
//! Invariant: the terminal is as it was before once this is dropped, also by a panic.

use std::io::{self, Read, Stdout, Write};

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::style::{Attribute, Color as Ink, Print, SetAttribute, SetForegroundColor};
use crossterm::terminal::{self, Clear, ClearType as Part, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{execute, queue};
use ratatui::backend::{Backend, ClearType, WindowSize};
use ratatui::buffer::Cell;
use ratatui::layout::{Position, Size};
use ratatui::style::{Color, Modifier};
use tokio::sync::mpsc;

use super::screen::Key;

/// Keys that may wait.
const KEYS_MAX: usize = 64;

/// A screen of its own on the terminal of standard output.
#[derive(Debug)]
pub(super) struct Tty {
    out: Stdout,
}

impl Tty {
    /// Takes the terminal over.
    pub(super) fn open() -> io::Result<Self> {
        terminal::enable_raw_mode()?;
        let mut tty = Self { out: io::stdout() };
        execute!(tty.out, EnterAlternateScreen, Hide)?;
        Ok(tty)
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        // Whoever has closed the terminal needs none that is in order.
        drop(execute!(self.out, SetAttribute(Attribute::Reset), Show, LeaveAlternateScreen));
        drop(terminal::disable_raw_mode());
    }
}

fn ink(color: Color) -> Ink {
    match color {
        Color::Red => Ink::Red,
        Color::Yellow => Ink::Yellow,
        Color::DarkGray => Ink::DarkGrey,
        _ => Ink::Reset,
    }
}

impl Backend for Tty {
    type Error = io::Error;

    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        for (x, y, cell) in content {
            queue!(self.out, MoveTo(x, y), SetAttribute(Attribute::Reset), SetForegroundColor(ink(cell.fg)))?;
            if cell.modifier.contains(Modifier::BOLD) {
                queue!(self.out, SetAttribute(Attribute::Bold))?;
            }
            queue!(self.out, Print(cell.symbol()))?;
        }
        Ok(())
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        queue!(self.out, Hide)
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        queue!(self.out, Show)
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        // It is hidden, and nobody draws from where it is.
        Ok(Position::ORIGIN)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        let Position { x, y } = position.into();
        queue!(self.out, MoveTo(x, y))
    }

    fn clear(&mut self) -> io::Result<()> {
        self.clear_region(ClearType::All)
    }

    fn clear_region(&mut self, clear_type: ClearType) -> io::Result<()> {
        let part = match clear_type {
            ClearType::All => Part::All,
            ClearType::AfterCursor => Part::FromCursorDown,
            ClearType::BeforeCursor => Part::FromCursorUp,
            ClearType::CurrentLine => Part::CurrentLine,
            ClearType::UntilNewLine => Part::UntilNewLine,
        };
        queue!(self.out, SetAttribute(Attribute::Reset), Clear(part))
    }

    fn size(&self) -> io::Result<Size> {
        let (width, height) = terminal::size()?;
        Ok(Size { width, height })
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize { columns_rows: self.size()?, pixels: Size::default() })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The keys that are pressed from now on. They are read on a thread of its own, which ends with the process.
pub(super) fn keys() -> mpsc::Receiver<Key> {
    let (key_tx, key_rx) = mpsc::channel(KEYS_MAX);
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        while let Ok(count) = io::stdin().lock().read(&mut bytes) {
            let pressed = bytes.get(..count).unwrap_or_default();
            if count == 0 || parse(pressed).into_iter().any(|key| key_tx.blocking_send(key).is_err()) {
                return;
            }
        }
    });
    key_rx
}

/// The keys that a terminal in raw mode says were pressed. What is none of those that `top` knows is left out.
fn parse(bytes: &[u8]) -> Vec<Key> {
    const SEQUENCES: [(&[u8], Key); 12] = [
        (b"\x1b[A", Key::Up),
        (b"\x1bOA", Key::Up),
        (b"\x1b[B", Key::Down),
        (b"\x1bOB", Key::Down),
        (b"\x1b[5~", Key::PageUp),
        (b"\x1b[6~", Key::PageDown),
        (b"\x1b[H", Key::Home),
        (b"\x1bOH", Key::Home),
        (b"\x1b[1~", Key::Home),
        (b"\x1b[F", Key::End),
        (b"\x1bOF", Key::End),
        (b"\x1b[4~", Key::End),
    ];
    let mut keys = Vec::new();
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        if let Some((sequence, key)) = SEQUENCES.iter().find(|(sequence, _)| rest.starts_with(sequence)) {
            keys.push(*key);
            rest = rest.get(sequence.len()..).unwrap_or_default();
            continue;
        }
        match first {
            // An unknown sequence is passed over up to its last letter.
            0x1b if after.first().is_some_and(|next| matches!(next, b'[' | b'O')) => {
                let end = after.iter().skip(1).position(|byte| matches!(byte, b'@'..=b'~'));
                rest = end.and_then(|end| after.get(end + 2..)).unwrap_or_default();
                continue;
            }
            0x1b => keys.push(Key::Esc),
            0x03 => keys.push(Key::Interrupt),
            b' '..=b'~' => keys.push(Key::Char(char::from(first))),
            _ => {}
        }
        rest = after;
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_what_a_terminal_sends() {
        assert_eq!(parse(b"q"), [Key::Char('q')]);
        assert_eq!(parse(b"\x1b"), [Key::Esc]);
        assert_eq!(parse(b"\x03"), [Key::Interrupt]);
        assert_eq!(parse(b"\x1b[A\x1b[B\x1b[5~s\x1bOF"), [Key::Up, Key::Down, Key::PageUp, Key::Char('s'), Key::End]);
        assert_eq!(parse(b"\x1b[15;2~h"), [Key::Char('h')], "F5 with shift is none of ours");
        assert_eq!(parse("é\n\x1b[".as_bytes()), []);
        for length in 0..6 {
            // Whatever comes, it is read to its end.
            parse(&b"\x1b[\x1b[1;"[..length]);
        }
    }
}
