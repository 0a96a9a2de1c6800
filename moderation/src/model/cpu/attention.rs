//! Attention within each text of a packed batch: `softmax(q · kᵀ) · v`, one head of one text at a time.
//!
//! Both products go through the same kernel as the layers' do. Invariant: no query sees a key of another text.

use rayon::prelude::*;

use super::gemm::{COLS, Level, Line, Panels};
use super::math;

/// Below that many scores, a task for each head costs more than it gains.
const SCORES_A_TASK_MIN: usize = 4_096;

/// The keys and values of a packed batch: half of the panels each, all of as many lines as there are rows.
pub(super) struct Keys<'a> {
    pub(super) lines: &'a [Line],
    /// Text `t` has the rows from `bounds[t]` up to `bounds[t + 1]`.
    pub(super) bounds: &'a [usize],
    pub(super) heads: usize,
    pub(super) head_size: usize,
}

/// Attends for each query; text `t` has the queries from `bounds[t]` up to `bounds[t + 1]`. In panels, as they are.
pub(super) fn attend(queries: &[Line], bounds: &[usize], keys: &Keys<'_>) -> Vec<Line> {
    let rows = bounds.last().copied().unwrap_or_default();
    let tasks: Vec<(usize, [usize; 2], [usize; 2])> = bounds
        .array_windows()
        .zip(keys.bounds.array_windows())
        .flat_map(|(asked, known)| (0..keys.heads).map(|head| (head, *asked, *known)))
        .collect();
    let scores: usize = tasks.iter().map(|(_, asked, known)| (asked[1] - asked[0]) * (known[1] - known[0])).sum();
    let together = (SCORES_A_TASK_MIN * tasks.len() / scores.max(1)).max(1);
    let results: Vec<Vec<f32>> = tasks
        .par_iter()
        .with_min_len(together)
        .map(|(head, asked, known)| one_head(queries, rows, *asked, keys, *known, *head))
        .collect();
    let mut out = vec![[0.0; COLS]; queries.len()];
    for ((head, [from, _], _), result) in tasks.iter().zip(&results) {
        for (row, numbers) in result.chunks_exact(keys.head_size.max(1)).enumerate() {
            write_row(&mut out, rows, from + row, head * keys.head_size, numbers);
        }
    }
    out
}

fn one_head(
    queries: &[Line],
    rows: usize,
    [from, to]: [usize; 2],
    keys: &Keys<'_>,
    [first, end]: [usize; 2],
    head: usize,
) -> Vec<f32> {
    let (size, column, known) = (keys.head_size, head * keys.head_size, end - first);
    let all = keys.bounds.last().copied().unwrap_or_default();
    let (key_lines, value_lines) = keys.lines.split_at(keys.lines.len() / 2);
    let mut gathered = vec![0.0; known * size];
    for (row, out) in (first..end).zip(gathered.chunks_exact_mut(size.max(1))) {
        read_row(key_lines, all, row, column, out);
    }
    let right = Panels::pack(&gathered, size);
    let values = gather_values(value_lines, all, first..end, column, size);

    let level = Level::best();
    let width = known.div_ceil(COLS);
    let mut result = vec![0.0; (to - from) * size];
    let mut scores = vec![[0.0; COLS]; level.rows_max() * width];
    let mut sums = vec![[0.0; COLS]; level.rows_max()];
    let (mut tile, mut row) = (Vec::new(), vec![0.0; size]);
    let starts = (from..to).step_by(level.rows_max());
    for (start, result) in starts.zip(result.chunks_mut(level.rows_max() * size)) {
        let high = result.len() / size.max(1);
        tile.clear();
        tile.resize(size * high, 0.0);
        for at in 0..high {
            read_row(queries, rows, start + at, column, &mut row);
            spread(&row, &mut tile, at, high);
        }
        let sums = sums.get_mut(..high).unwrap_or_default();
        for panel in 0..right.count() {
            level.tile(high, &tile, right.between(panel, panel + 1), sums);
            for (line, sum) in scores.iter_mut().skip(panel).step_by(width.max(1)).zip(sums.iter()) {
                *line = *sum;
            }
        }
        tile.clear();
        tile.resize(known * high, 0.0);
        for (at, weights) in scores.chunks_exact_mut(width.max(1)).take(high).enumerate() {
            math::softmax(weights, known);
            spread(weights.as_flattened().get(..known).unwrap_or_default(), &mut tile, at, high);
        }
        for (number, panel) in values.chunks_exact(known.max(1)).enumerate() {
            level.tile(high, &tile, panel, sums);
            for (out, sum) in result.chunks_exact_mut(size.max(1)).zip(sums.iter()) {
                for (slot, x) in out.iter_mut().skip(number * COLS).zip(sum) {
                    *slot = *x;
                }
            }
        }
    }
    result
}

/// The values of one head as the right side of a product whose depth is the keys.
fn gather_values(lines: &[Line], all: usize, rows: std::ops::Range<usize>, column: usize, size: usize) -> Vec<Line> {
    let known = rows.len();
    let mut values = vec![[0.0; COLS]; size.div_ceil(COLS) * known];
    let mut numbers = vec![0.0; size];
    for (at, row) in rows.enumerate() {
        read_row(lines, all, row, column, &mut numbers);
        write_row(&mut values, known, at, 0, &numbers);
    }
    values
}

/// Writes a row into column `at` of each group of `high`.
fn spread(row: &[f32], tile: &mut [f32], at: usize, high: usize) {
    for (slot, x) in tile.iter_mut().skip(at).step_by(high.max(1)).zip(row) {
        *slot = *x;
    }
}

/// Reads numbers of a row from `column` on, out of panels of `rows` lines.
fn read_row(lines: &[Line], rows: usize, row: usize, column: usize, out: &mut [f32]) {
    let mut skip = column % COLS;
    let mut out = out.iter_mut();
    for line in lines.iter().skip(column / COLS * rows + row).step_by(rows.max(1)) {
        for x in line.iter().skip(skip) {
            let Some(slot) = out.next() else { return };
            *slot = *x;
        }
        skip = 0;
    }
}

/// Writes numbers into a row from `column` on.
fn write_row(lines: &mut [Line], rows: usize, row: usize, column: usize, numbers: &[f32]) {
    let mut skip = column % COLS;
    let mut numbers = numbers.iter();
    for line in lines.iter_mut().skip(column / COLS * rows + row).step_by(rows.max(1)) {
        for slot in line.iter_mut().skip(skip) {
            let Some(x) = numbers.next() else { return };
            *slot = *x;
        }
        skip = 0;
    }
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss, reason = "small whole numbers")]
mod tests {
    use super::*;

    #[test]
    fn heads_attend_to_their_own_text_alone() {
        // Two texts of 3 and 40 tokens, three heads of 26 numbers: heads share panels.
        let (bounds, heads, size) = ([0, 3, 43], 3, 26);
        let (rows, width) = (43, 78);
        let number =
            |seed: usize, row: usize, column: usize| ((row * 31 + column * 17 + seed * 7) % 23) as f32 / 23.0 - 0.5;
        let matrix = |seed| {
            let mut lines = vec![[0.0; COLS]; 3 * rows];
            for row in 0..rows {
                let numbers: Vec<f32> = (0..width).map(|column| number(seed, row, column)).collect();
                write_row(&mut lines, rows, row, 0, &numbers);
            }
            lines
        };
        let keys = [matrix(1), matrix(2)].concat();
        let found = attend(&matrix(0), &bounds, &Keys { lines: &keys, bounds: &bounds, heads, head_size: size });
        for [from, to] in bounds.array_windows() {
            for (row, column) in (*from..*to).flat_map(|row| (0..width).map(move |column| (row, column))) {
                let head = column / size * size;
                let score = |key| -> f32 { (head..head + size).map(|c| number(0, row, c) * number(1, key, c)).sum() };
                let weights: Vec<f32> = (*from..*to).map(|key| score(key).exp()).collect();
                let total: f32 = weights.iter().sum();
                let sum: f32 = (*from..*to).zip(&weights).map(|(key, w)| w * number(2, key, column)).sum();
                let mut one = [0.0];
                read_row(&found, rows, row, column, &mut one);
                assert!((one[0] - sum / total).abs() < 1e-5, "row {row}, column {column}");
            }
        }
    }
}
