//! Writes what is made from the code: the API reference in `docs/api`, its list in `docs/SUMMARY.md`, and the table of
//! `docs/LIMITS.md`. `make reference` runs it.

use std::fs;
use std::io::Write;
use std::process::ExitCode;

use keevo_tidy::reference::PAGES;
use keevo_tidy::{made, root};

fn main() -> ExitCode {
    let Err(error) = write() else { return ExitCode::SUCCESS };
    // With standard error gone there is nobody to tell.
    drop(writeln!(std::io::stderr(), "reference: {error}"));
    ExitCode::FAILURE
}

fn write() -> Result<(), String> {
    let files = made()?;
    let failed = |path: &str, error: std::io::Error| format!("{path}: {error}");
    // Pages of protos that are gone go too.
    if root().join(PAGES).exists() {
        fs::remove_dir_all(root().join(PAGES)).map_err(|error| failed(PAGES, error))?;
    }
    fs::create_dir_all(root().join(PAGES)).map_err(|error| failed(PAGES, error))?;
    for (path, text) in files {
        fs::write(root().join(&path), text).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}
