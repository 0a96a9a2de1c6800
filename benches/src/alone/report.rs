//! Where the lines go: JSON at once, or a table at the end.

use keevo_core::Result;
use serde::Serialize;

use crate::output::{Output, print};

/// The lines of one command.
#[derive(Debug)]
pub(super) struct Report {
    output: Output,
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Report {
    /// No lines yet; `header` names the columns of the table.
    pub(super) fn new(output: Output, header: &[&'static str]) -> Self {
        Self { output, header: header.to_vec(), rows: Vec::new() }
    }

    /// Adds a line: as JSON, and as the cells of its row.
    pub(super) fn add(&mut self, line: &impl Serialize, cells: Vec<String>) -> Result<()> {
        self.rows.push(cells);
        match self.output {
            Output::Json => print(&serde_json::to_string(line).unwrap_or_default()),
            Output::Table => Ok(()),
        }
    }

    /// Prints the table, and what has to be known to read it.
    pub(super) fn finish(self, words: &str) -> Result<()> {
        match self.output {
            Output::Json => Ok(()),
            Output::Table => print(&format!("{}\n\n{words}", self.table())),
        }
    }

    fn table(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::ASCII_MARKDOWN);
        table.set_header(&self.header);
        for row in &self.rows {
            table.add_row(row);
        }
        for column in table.column_iter_mut() {
            column.set_cell_alignment(comfy_table::CellAlignment::Right);
        }
        table.to_string()
    }
}

/// A figure that may be unknown.
pub(super) fn known(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_row_a_line_and_unknown_figures_a_dash() {
        let mut report = Report::new(Output::Table, &["shards", "CPU %"]);
        report.add(&(), vec!["10".to_owned(), known(Some(1.234), 2)]).expect("kept");
        report.add(&(), vec!["100".to_owned(), known(None, 2)]).expect("kept");
        let lines = ["| shards | CPU % |", "|--------|-------|", "|     10 |  1.23 |", "|    100 |     – |"];
        assert_eq!(report.table(), lines.join("\n"));
    }
}
