//! Makes the bundled extract anew: `cargo run -p keevo-demo --example extract -- FULL_DATA_FOLDER OUT_FOLDER`.
//!
//! The full data is what `.ci/demo-data.sh` fetches; the result belongs into `keevo-server/demo/data/`.

use std::path::PathBuf;

use keevo_core::{Error, Result};

fn main() -> Result<()> {
    let mut paths = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(full), Some(out)) = (paths.next(), paths.next()) else {
        return Err(Error::invalid("name the folder of the full data and the folder to write to"));
    };
    let full = keevo_demo::Dataset::read(&full)?;
    keevo_demo::write_extract(&keevo_demo::make_extract(&full), &out)
}
