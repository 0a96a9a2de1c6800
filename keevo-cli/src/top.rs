//! `keevo-cli top`: the cluster as it is now, and what it does.
//!
//! ```text
//! gather ─▶ Sample ─┐
//!                   ├─▶ Picture (rates, rows) ─▶ view ─▶ a terminal, or text
//! gather ─▶ Sample ─┘
//! ```
//!
//! Invariant: only gathering talks to nodes; what is shown follows from two samples and is drawn without I/O.

mod exposition;
mod gather;
mod live;
mod picture;
mod quantile;
mod screen;
mod terminal;
mod view;

use std::time::Duration;

use crate::args::top::Top;
use crate::connect::Context;
use crate::failure::Failure;
use crate::output::show;
use gather::Gatherer;
use picture::Picture;
use view::Still;

/// The shortest time between two looks.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// The longest.
const INTERVAL_MAX: Duration = Duration::from_mins(1);

/// Watches the cluster, or takes one picture of it.
pub(crate) async fn run(context: &Context, top: Top) -> Result<(), Failure> {
    let interval = top.interval.clamp(INTERVAL_MIN, INTERVAL_MAX);
    let mut gatherer = Gatherer::new(context.clone());
    // A node that is away is told at once, and not on a screen that comes and goes.
    let before = gatherer.sample().await?;
    if !top.once {
        return live::run(gatherer, before, interval).await;
    }
    tokio::time::sleep(interval).await;
    let now = gatherer.sample().await?;
    show(context.output, &Still { picture: Picture::between(&before, &now), width: top.width })
}
