//! `keevo-cli man`: the help as man pages, a page a command.

use std::path::Path;

use serde_json::json;

use crate::failure::Failure;
use crate::output::{Format, show};
use crate::render::Done;
use crate::text::count;

/// Writes the pages into a folder.
pub(crate) fn run(out: &Path, output: Format) -> Result<(), Failure> {
    let command = crate::command();
    let pages = pages(&command);
    std::fs::create_dir_all(out)
        .and_then(|()| clap_mangen::generate_to(command, out))
        .map_err(|error| Failure::io(&format!("man pages cannot be written to {}", out.display()), error))?;
    let sentence = format!("wrote {} to {}", count(pages, "page"), out.display());
    show(output, &Done { sentence, json: json!({ "folder": out, "pages": pages }) })
}

/// A page for the command and one for each below it.
fn pages(command: &clap::Command) -> usize {
    command.get_subcommands().map(pages).fold(1, usize::saturating_add)
}
