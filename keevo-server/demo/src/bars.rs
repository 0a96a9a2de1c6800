//! Progress bars, hidden where nobody watches a terminal.

use std::borrow::Cow;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Makes the progress bars of one run.
#[derive(Debug, Clone)]
pub struct Bars {
    all: MultiProgress,
}

impl Default for Bars {
    fn default() -> Self {
        Self { all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()) }
    }
}

impl Bars {
    /// Bars that are never drawn.
    pub fn hidden() -> Self {
        Self { all: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()) }
    }

    /// A bar over `total` steps. Standard error draws it if it is a terminal.
    pub fn bar(&self, what: impl Into<Cow<'static, str>>, total: usize) -> ProgressBar {
        let bar = self.all.add(ProgressBar::new(u64::try_from(total).unwrap_or(u64::MAX)));
        let template = "{msg:<22} {bar:30} {pos}/{len} {per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.with_message(what)
    }
}
