//! `keevod demo`.

use std::path::PathBuf;

use keevo_core::{Error, Result};

/// What the demo does.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// How many nodes.
    pub nodes: u64,
    /// Where the nodes' data is kept; `None` = in a temporary folder.
    pub dir: Option<PathBuf>,
    /// Downloaded data; `None` = the bundled extract.
    pub data: Option<PathBuf>,
    /// Whether to verify and stop.
    pub check: bool,
}

/// Runs the demo.
pub async fn demo(options: DemoOptions) -> Result<()> {
    Err(Error::invalid(format!("{options:?}")))
}
