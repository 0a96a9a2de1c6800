//! The result as a table, a row a side.

use comfy_table::CellAlignment;

use super::line::Line;
use crate::figures::Figures;

const HEADER: [&str; 11] =
    ["case", "clients", "system", "ops/s", "p50 µs", "p99 µs", "p99.9 µs", "CPU s", "RSS MiB", "B written/op", "ratio"];

/// All lines, with a column for failures where there are any.
pub(crate) fn table(lines: &[Line]) -> String {
    let failed = lines.iter().flat_map(sides).any(|(_, figures)| figures.failed > 0);
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(HEADER.into_iter().chain(failed.then_some("failed")));
    for line in lines {
        for (number, (name, figures)) in sides(line).into_iter().enumerate() {
            let ratio = line.ratio.filter(|_| number == 0).map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            let known = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
            let mut row = vec![
                line.case.to_owned(),
                line.clients.to_string(),
                name,
                format!("{:.0}", figures.ops_per_s),
                known(figures.p50_us.map(|value| value.to_string())),
                known(figures.p99_us.map(|value| value.to_string())),
                known(figures.p999_us.map(|value| value.to_string())),
                format!("{:.2}", figures.cpu_s),
                (figures.rss_bytes_max >> 20).to_string(),
                known(figures.bytes_written_per_op.map(|value| format!("{value:.0}"))),
                ratio,
            ];
            row.extend(failed.then(|| figures.failed.to_string()));
            table.add_row(row);
        }
    }
    for column in table.column_iter_mut().skip(1).filter(|column| column.index != 2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

fn sides(line: &Line) -> Vec<(String, &Figures)> {
    let mut sides = vec![("keevo".to_owned(), &line.keevo), (line.peer.name.name.clone(), &line.peer.figures)];
    sides.extend(line.keevo_unary.as_ref().map(|figures| ("keevo unary".to_owned(), figures)));
    sides
}
