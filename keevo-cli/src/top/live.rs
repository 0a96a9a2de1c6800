//! The live screen: looks at the cluster at its pace, and at the keys at once.

use std::io::IsTerminal;
use std::time::Duration;

use keevo_core::{Error, ErrorKind};
use ratatui::Terminal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::gather::{Gatherer, Sample};
use super::picture::Picture;
use super::screen::{Key, Screen};
use super::terminal::{Tty, keys};
use super::view::draw;
use crate::failure::Failure;

/// Shows the cluster until a key ends it.
pub(super) async fn run(mut gatherer: Gatherer, first: Sample, interval: Duration) -> Result<(), Failure> {
    if !(std::io::stdout().is_terminal() && std::io::stdin().is_terminal()) {
        let error = Error::new(ErrorKind::Invalid, "a live view needs a terminal");
        return Err(Failure::with_advice(error, "Say --once for one picture as text."));
    }
    let no_terminal = |error| Failure::io("the terminal cannot be used", error);
    let mut resized = signal(SignalKind::window_change()).map_err(no_terminal)?;
    let mut terminal = Terminal::new(Tty::open().map_err(no_terminal)?).map_err(no_terminal)?;
    let mut keys = keys();
    let mut screen = Screen::new(Picture::between(&first, &first), interval);
    let mut before = first;
    let mut next = Instant::now() + interval.min(Duration::from_secs(1));
    loop {
        terminal.draw(|frame| draw(frame, &screen)).map_err(no_terminal)?;
        tokio::select! {
            key = keys.recv() => match key {
                Some(key) => if !screen.press(key) { return Ok(()) },
                None => return Ok(()),
            },
            _ = resized.recv() => {}
            () = sleep_until(next) => {
                next = Instant::now() + screen.interval;
                if screen.paused {
                    continue;
                }
                // A key that ends it need not wait for a node that does not answer.
                let sample = tokio::select! {
                    sample = gatherer.sample() => sample,
                    () = until_ended(&mut keys, &mut screen) => return Ok(()),
                };
                match sample {
                    Ok(now) => {
                        screen.show(Picture::between(&before, &now));
                        before = now;
                    }
                    Err(failure) => screen.trouble = Some(failure.to_string()),
                }
            }
        }
    }
}

/// Does what keys ask for until one asks for the end.
async fn until_ended(keys: &mut mpsc::Receiver<Key>, screen: &mut Screen) {
    while let Some(key) = keys.recv().await {
        if !screen.press(key) {
            return;
        }
    }
}
