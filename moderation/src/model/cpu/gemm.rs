//! Matrix products with weights that were packed once: `C = A · Wᵀ`.
//!
//! Columns come in panels of [`COLS`]. A matrix of `rows × width` is kept panel by panel, each as `rows` lines of
//! [`COLS`] numbers, so that a panel of the result is one slice that one thread writes:
//!
//! ```text
//! weights  panel 0: k=0: [w00 … w0,31] k=1: …   result  panel 0: row 0: [c0 … c31] row 1: …
//! left     tile 0:  k=0: [a0 … a11]    k=1: …           panel 1: row 0: [c32 … c63] …
//! ```
//!
//! The left side is packed in tiles of up to 12 rows, as many as the registers of the processor hold.
//! Invariant: sums run over `k` in order, in one accumulator each, so that a result depends neither on the number
//! of threads nor on the other texts of a batch.

#![allow(clippy::used_underscore_binding, reason = "the token only proves what the processor can do")]
#![allow(clippy::inline_always, reason = "a function that is not inlined is not compiled for the level of its caller")]

use archmage::prelude::*;
use rayon::prelude::*;

/// Columns of a panel.
pub(super) const COLS: usize = 32;

/// One line of a panel.
pub(super) type Line = [f32; COLS];

/// The right side of a product, in panels.
#[derive(Debug, Clone, Default)]
pub(super) struct Panels {
    /// Panel by panel, `depth` lines each.
    lines: Vec<Line>,
    depth: usize,
}

impl Panels {
    /// Packs `weights`, which has one row of `depth` numbers for each column of the result, as models keep them.
    /// The last panel is filled with zeros.
    pub(super) fn pack(weights: &[f32], depth: usize) -> Self {
        let depth = depth.max(1);
        let mut lines = Vec::with_capacity((weights.len() / depth).div_ceil(COLS) * depth);
        for block in weights.chunks(depth * COLS) {
            for k in 0..depth {
                let mut line = [0.0; COLS];
                for (slot, row) in line.iter_mut().zip(block.chunks_exact(depth)) {
                    *slot = row.get(k).copied().unwrap_or_default();
                }
                lines.push(line);
            }
        }
        Self { lines, depth }
    }

    /// Appends the panels of another matrix of the same depth.
    pub(super) fn append(&mut self, other: Self) {
        self.depth = other.depth;
        self.lines.extend(other.lines);
    }

    /// How many panels there are.
    pub(super) fn count(&self) -> usize {
        self.lines.len() / self.depth.max(1)
    }

    /// The panels from `from` up to `to`, each as `depth` lines.
    pub(super) fn between(&self, from: usize, to: usize) -> &[Line] {
        self.lines.get(from * self.depth..to * self.depth).unwrap_or_default()
    }
}

/// The left side of a product, in tiles of equal height; the last may be lower.
#[derive(Debug, Default)]
pub(super) struct Tiles {
    numbers: Vec<f32>,
    rows: usize,
    height: usize,
    depth: usize,
}

impl Tiles {
    /// Packs `rows` rows of `depth` numbers that lie in panels of `rows` lines.
    pub(super) fn pack(panels: &[Line], rows: usize, depth: usize) -> Self {
        let height = tile_height(rows, Level::best().rows_max());
        let mut numbers = vec![0.0; rows * depth];
        let pack = |(tile, out): (usize, &mut [f32])| {
            let first = tile * height;
            let high = out.len() / depth.max(1);
            for (panel, part) in panels.chunks_exact(rows.max(1)).zip(out.chunks_mut(high * COLS)) {
                let lines = panel.get(first..first + high).unwrap_or_default();
                pack_tile(lines, part, high);
            }
        };
        let size = height * depth;
        if numbers.len() >= 1 << 14 {
            numbers.par_chunks_mut(size).enumerate().for_each(pack);
        } else if size > 0 {
            numbers.chunks_mut(size).enumerate().for_each(pack);
        }
        Self { numbers, rows, height, depth }
    }

    /// Each tile: its first row, its height and its numbers.
    fn each(&self) -> impl Iterator<Item = (usize, usize, &[f32])> {
        let size = (self.height * self.depth).max(1);
        let tiles = self.numbers.chunks(size).enumerate();
        tiles.map(|(tile, numbers)| (tile * self.height, numbers.len() / self.depth.max(1), numbers))
    }
}

/// The height at which `rows` fall into tiles that are as equal as can be.
pub(super) fn tile_height(rows: usize, rows_max: usize) -> usize {
    rows.div_ceil(rows.div_ceil(rows_max).max(1)).max(1)
}

/// Turns lines of `high` rows into columns: `out[k * high + row] = lines[row][k]`.
fn pack_tile(lines: &[Line], out: &mut [f32], high: usize) {
    for (row, line) in lines.iter().enumerate() {
        for (column, number) in out.chunks_mut(high).zip(line) {
            if let Some(slot) = column.get_mut(row) {
                *slot = *number;
            }
        }
    }
}

/// Multiplies into `out`, which has a panel of as many lines as there are rows for each panel of `right`, and calls
/// `then` on each finished panel with its number: there biases and activations are applied while it is in the cache.
pub(super) fn multiply(left: &Tiles, right: &[Line], out: &mut [Line], then: impl Fn(usize, &mut [Line]) + Sync) {
    let (rows, depth) = (left.rows, left.depth.max(1));
    if rows == 0 {
        return;
    }
    let level = Level::best();
    out.par_chunks_mut(rows).zip(right.par_chunks_exact(depth)).enumerate().for_each(|(number, (out, panel))| {
        for (first, high, tile) in left.each() {
            let end = (first + high).min(out.len());
            level.tile(high, tile, panel, out.get_mut(first..end).unwrap_or_default());
        }
        then(number, out);
    });
}

/// What the processor can do.
#[derive(Debug, Clone, Copy)]
pub(super) enum Level {
    #[cfg(target_arch = "x86_64")]
    Avx512(X64V4Token),
    #[cfg(target_arch = "x86_64")]
    Avx2(X64V3Token),
    Portable,
}

impl Level {
    /// The best level of this processor: asked of it once, then remembered.
    pub(super) fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(token) = X64V4Token::summon() {
                return Self::Avx512(token);
            }
            if let Some(token) = X64V3Token::summon() {
                return Self::Avx2(token);
            }
        }
        Self::Portable
    }

    /// The highest tile whose sums stay in registers.
    pub(super) fn rows_max(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => 12,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => 3,
            Self::Portable => 4,
        }
    }

    /// One tile by one panel.
    pub(super) fn tile(self, high: usize, tile: &[f32], panel: &[Line], out: &mut [Line]) {
        macro_rules! by_height {
            ($kernel:ident, $token:expr, $($high:literal)*) => {
                match high {
                    $($high => $kernel::<$high>($token, tile.as_chunks().0, panel, out),)*
                    _ => portable(high, tile, panel, out),
                }
            };
        }
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(token) => by_height!(avx512, token, 1 2 3 4 5 6 7 8 9 10 11 12),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(token) => by_height!(avx2, token, 1 2 3),
            Self::Portable => portable(high, tile, panel, out),
        }
    }
}

fn portable(high: usize, tile: &[f32], panel: &[Line], out: &mut [Line]) {
    for (row, out) in out.iter_mut().enumerate() {
        *out = [0.0; COLS];
        for (left, right) in tile.chunks_exact(high.max(1)).zip(panel) {
            let left = left.get(row).copied().unwrap_or_default();
            for (sum, right) in out.iter_mut().zip(right) {
                *sum += left * right;
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[arcane(import_intrinsics)]
fn avx512<const HIGH: usize>(_token: X64V4Token, tile: &[[f32; HIGH]], panel: &[Line], out: &mut [Line]) {
    let mut sums = [[_mm512_setzero_ps(); 2]; HIGH];
    for (left, right) in tile.iter().zip(panel) {
        let [right0, right1] = halves(right);
        let (right0, right1) = (_mm512_loadu_ps(right0), _mm512_loadu_ps(right1));
        for (sum, left) in sums.iter_mut().zip(left) {
            let left = _mm512_set1_ps(*left);
            sum[0] = _mm512_fmadd_ps(left, right0, sum[0]);
            sum[1] = _mm512_fmadd_ps(left, right1, sum[1]);
        }
    }
    for (out, sum) in out.iter_mut().zip(&sums) {
        if let ([out0, out1], []) = out.as_chunks_mut::<16>() {
            _mm512_storeu_ps(out0, sum[0]);
            _mm512_storeu_ps(out1, sum[1]);
        }
    }
}

/// The two halves of a line.
#[inline(always)]
fn halves(line: &Line) -> [&[f32; 16]; 2] {
    const NONE: &[f32; 16] = &[0.0; 16];
    match line.as_chunks::<16>() {
        ([first, second], _) => [first, second],
        _ => [NONE, NONE],
    }
}

#[cfg(target_arch = "x86_64")]
#[arcane(import_intrinsics)]
fn avx2<const HIGH: usize>(_token: X64V3Token, tile: &[[f32; HIGH]], panel: &[Line], out: &mut [Line]) {
    let mut sums = [[_mm256_setzero_ps(); 4]; HIGH];
    for (left, right) in tile.iter().zip(panel) {
        for (sum, left) in sums.iter_mut().zip(left) {
            let left = _mm256_set1_ps(*left);
            for (sum, right) in sum.iter_mut().zip(right.as_chunks::<8>().0) {
                *sum = _mm256_fmadd_ps(left, _mm256_loadu_ps(right), *sum);
            }
        }
    }
    for (out, sum) in out.iter_mut().zip(&sums) {
        for (out, sum) in out.as_chunks_mut::<8>().0.iter_mut().zip(sum) {
            _mm256_storeu_ps(out, *sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look random and are the same each time, between −1 and 1.
    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from(u16::try_from(state >> 16).unwrap()) / 32_768.0 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    fn panels_of(rows: usize, depth: usize, numbers: &[f32]) -> Vec<Line> {
        let mut panels = vec![[0.0; COLS]; depth.div_ceil(COLS) * rows];
        for row in 0..rows {
            for k in 0..depth {
                panels[(k / COLS) * rows + row][k % COLS] = numbers[row * depth + k];
            }
        }
        panels
    }

    #[test]
    fn products_are_those_of_the_definition() {
        for (rows, depth, width) in [(1, 1, 1), (7, 32, 40), (12, 26, 33), (13, 312, 70), (29, 96, 64), (64, 300, 31)] {
            let (left, right) = (numbers(rows * depth, 1), numbers(width * depth, 2));
            let packed = Panels::pack(&right, depth);
            let tiles = Tiles::pack(&panels_of(rows, depth, &left), rows, depth);
            let mut out = vec![[0.0; COLS]; packed.count() * rows];
            multiply(&tiles, packed.between(0, packed.count()), &mut out, |_, _| {});
            for row in 0..rows {
                for column in 0..width {
                    let sum: f64 = (0..depth)
                        .map(|k| f64::from(left[row * depth + k]) * f64::from(right[column * depth + k]))
                        .sum();
                    let found = f64::from(out[(column / COLS) * rows + row][column % COLS]);
                    assert!((sum - found).abs() < 1e-4, "{rows}×{depth}×{width} at {row},{column}: {found} for {sum}");
                }
            }
        }
    }

    #[test]
    fn every_level_agrees() {
        let depth = 50;
        for high in 1..=12 {
            let (tile, right) = (numbers(high * depth, 3), numbers(COLS * depth, 4));
            let panel = Panels::pack(&right, depth);
            let mut expected = vec![[0.0; COLS]; high];
            portable(high, &tile, panel.between(0, 1), &mut expected);
            let mut found = vec![[0.0; COLS]; high];
            Level::best().tile(high, &tile, panel.between(0, 1), &mut found);
            let pairs = expected.iter().flatten().zip(found.iter().flatten());
            assert!(pairs.clone().all(|(a, b)| (a - b).abs() < 1e-4), "height {high}");
        }
    }

    #[test]
    fn tiles_are_even() {
        assert_eq!([1, 12, 13, 32, 36].map(|rows| tile_height(rows, 12)), [1, 12, 7, 11, 12]);
    }
}
