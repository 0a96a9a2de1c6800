//! Products with weights of 8 bits: each column of the result has its own scale, each row of the left side too.
//!
//! A weight is `scale · w` with w in −127…127; a number of the left side is `scale · (u − 128)` with u in 1…255. Then
//! `c = left_scale · right_scale · (Σ u·w − 128 · Σ w)`, and the sums of weights are known beforehand. Processors with
//! VNNI multiply 64 such pairs in one instruction; the others run the same sums one by one, to the same bits.
//!
//! Invariant: Σ u·w stays below 2³¹: 255 · 127 · 65,536, and no configuration asks for more depth.

#![allow(clippy::used_underscore_binding, reason = "the token only proves what the processor can do")]
#![allow(clippy::inline_always, reason = "a function that is not inlined is not compiled for the level of its caller")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "numbers are scaled into the range of the smaller type first; sums are rounded like every f32"
)]

use archmage::prelude::*;
use rayon::prelude::*;

use super::gemm::{COLS, Line, tile_height};

/// The highest tile whose sums stay in registers.
const ROWS_MAX: usize = 12;

/// Four weights of each of the 32 columns of a panel, column by column.
type Quads = [[i8; 4]; COLS];

/// The right side of a product in 8 bits.
#[derive(Debug, Clone, Default)]
pub(super) struct Int8Panels {
    /// Panel by panel, `quads` each.
    numbers: Vec<Quads>,
    quads: usize,
    /// A line a panel: the scale of each column.
    scales: Vec<Line>,
    /// A line a panel: 128 times the sum of each column's weights.
    offsets: Vec<[i32; COLS]>,
}

impl Int8Panels {
    /// Quantises and packs weights that have a row of `depth` numbers for each column of the result.
    pub(super) fn pack(weights: &[f32], depth: usize) -> Self {
        let depth = depth.max(1);
        let mut packed = Self { quads: depth.div_ceil(4), ..Self::default() };
        for block in weights.chunks(depth * COLS) {
            let (mut scales, mut offsets) = ([0.0; COLS], [0; COLS]);
            let mut panel = vec![[[0_i8; 4]; COLS]; packed.quads];
            let rows = block.chunks_exact(depth);
            for (column, ((row, scale), offset)) in rows.zip(&mut scales).zip(&mut offsets).enumerate() {
                *scale = largest(row) / 127.0;
                let turn = if *scale > 0.0 { 1.0 / *scale } else { 0.0 };
                for (quad, numbers) in panel.iter_mut().zip(row.chunks(4)) {
                    for (slot, number) in quad.get_mut(column).into_iter().flatten().zip(numbers) {
                        // In −127…127 by the choice of the scale.
                        *slot = (number * turn).round() as i8;
                        *offset += 128 * i32::from(*slot);
                    }
                }
            }
            packed.numbers.extend(panel);
            packed.scales.push(scales);
            packed.offsets.push(offsets);
        }
        packed
    }

    /// Appends the panels of another matrix of the same depth.
    pub(super) fn append(&mut self, other: Self) {
        self.quads = other.quads;
        self.numbers.extend(other.numbers);
        self.scales.extend(other.scales);
        self.offsets.extend(other.offsets);
    }

    /// How many panels there are.
    pub(super) fn count(&self) -> usize {
        self.scales.len()
    }
}

fn largest(row: &[f32]) -> f32 {
    row.iter().fold(0.0, |most: f32, x| most.max(x.abs()))
}

/// The left side in 8 bits, each row quantised by itself, in tiles of equal height; the last may be lower.
#[derive(Debug)]
pub(super) struct Int8Tiles {
    /// Tile by tile, `quads` columns of as many groups of four as the tile is high.
    numbers: Vec<[u8; 4]>,
    quads: usize,
    height: usize,
    /// A scale a row.
    scales: Vec<f32>,
}

impl Int8Tiles {
    /// Quantises `rows` rows of `depth` numbers that lie in panels of `rows` lines; zero beyond the depth.
    pub(super) fn pack(panels: &[Line], rows: usize, depth: usize) -> Self {
        let quads = depth.div_ceil(4).max(1);
        let height = tile_height(rows, ROWS_MAX);
        let mut most = vec![[0.0_f32; COLS]; rows];
        for panel in panels.chunks_exact(rows.max(1)) {
            for (most, line) in most.iter_mut().zip(panel) {
                widen(most, line);
            }
        }
        let scales: Vec<f32> = most.iter().map(|line| largest(line) / 127.0).collect();
        let mut numbers = vec![[128_u8; 4]; rows * quads];
        let pack = |((tile, out), scales): ((usize, &mut [[u8; 4]]), &[f32])| {
            let high = scales.len();
            for (panel, out) in panels.chunks_exact(rows.max(1)).zip(out.chunks_mut(high * COLS / 4)) {
                let lines = panel.get(tile * height..).unwrap_or_default();
                for (row, (line, scale)) in lines.iter().zip(scales).enumerate() {
                    let turn = if *scale > 0.0 { 1.0 / *scale } else { 0.0 };
                    let mut bytes = [0; COLS];
                    quantise(line, turn, &mut bytes);
                    for (slot, bytes) in out.iter_mut().skip(row).step_by(high).zip(bytes.as_chunks().0) {
                        *slot = *bytes;
                    }
                }
            }
        };
        numbers.par_chunks_mut(quads * height).enumerate().zip(scales.par_chunks(height)).for_each(pack);
        Self { numbers, quads, height, scales }
    }
}

#[autoversion]
fn widen(most: &mut Line, line: &Line) {
    for (m, x) in most.iter_mut().zip(line) {
        let x = x.abs();
        *m = if x > *m { x } else { *m };
    }
}

#[autoversion]
fn quantise(line: &Line, turn: f32, out: &mut [u8; COLS]) {
    for (slot, x) in out.iter_mut().zip(line) {
        // Adding 1.5 · 2²³ leaves the nearest whole number in the low bits; 1…255 after the shift by 128.
        *slot = (x * turn + 12_583_040.0).to_bits() as u8;
    }
}

/// Multiplies as [`super::gemm::multiply`] does, by the panels from `from` on, one for each panel of `out`.
pub(super) fn multiply(
    left: &Int8Tiles,
    right: &Int8Panels,
    from: usize,
    out: &mut [Line],
    then: impl Fn(usize, &mut [Line]) + Sync,
) {
    let rows = left.scales.len();
    if rows == 0 {
        return;
    }
    let kernel = Kernel::best();
    out.par_chunks_mut(rows).enumerate().for_each(|(number, out)| {
        let at = from + number;
        let panel = right.numbers.get(at * right.quads..(at + 1) * right.quads).unwrap_or_default();
        if let (Some(scales), Some(offsets)) = (right.scales.get(at), right.offsets.get(at)) {
            let tiles = left.numbers.chunks(left.quads * left.height);
            let rows = left.scales.chunks(left.height);
            for ((tile, row_scales), out) in tiles.zip(rows).zip(out.chunks_mut(left.height)) {
                kernel.tile(tile, panel, &Scales { rows: row_scales, columns: scales, offsets }, out);
            }
        }
        then(number, out);
    });
}

/// What turns sums of whole numbers back into numbers.
struct Scales<'a> {
    rows: &'a [f32],
    columns: &'a Line,
    offsets: &'a [i32; COLS],
}

impl Scales<'_> {
    #[inline(always)]
    fn apply(&self, sums: &[[i32; COLS]], out: &mut [Line]) {
        for ((out, sums), row) in out.iter_mut().zip(sums).zip(self.rows) {
            for (((x, sum), offset), column) in out.iter_mut().zip(sums).zip(self.offsets).zip(self.columns) {
                *x = (sum - offset) as f32 * (row * column);
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Kernel {
    #[cfg(target_arch = "x86_64")]
    Vnni(X64V4xToken),
    Portable,
}

impl Kernel {
    fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(token) = X64V4xToken::summon() {
            return Self::Vnni(token);
        }
        Self::Portable
    }

    /// One tile by one panel.
    fn tile(self, tile: &[[u8; 4]], panel: &[Quads], scales: &Scales<'_>, out: &mut [Line]) {
        macro_rules! by_height {
            ($token:expr, $($high:literal)*) => {
                match out.len() {
                    $($high => vnni::<$high>($token, tile.as_chunks().0, panel, scales, out),)*
                    _ => portable(tile, panel, scales, out),
                }
            };
        }
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Vnni(token) => by_height!(token, 1 2 3 4 5 6 7 8 9 10 11 12),
            Self::Portable => portable(tile, panel, scales, out),
        }
    }
}

#[autoversion]
fn portable(tile: &[[u8; 4]], panel: &[Quads], scales: &Scales<'_>, out: &mut [Line]) {
    let high = out.len().max(1);
    for ((row, out), scale) in out.iter_mut().enumerate().zip(scales.rows) {
        let mut sums = [0_i32; COLS];
        for (left, right) in tile.iter().skip(row).step_by(high).zip(panel) {
            for (sum, weights) in sums.iter_mut().zip(right) {
                for (u, w) in left.iter().zip(weights) {
                    *sum += i32::from(*u) * i32::from(*w);
                }
            }
        }
        let one = Scales { rows: std::slice::from_ref(scale), ..*scales };
        one.apply(std::slice::from_ref(&sums), std::slice::from_mut(out));
    }
}

#[cfg(target_arch = "x86_64")]
#[arcane(import_intrinsics)]
fn vnni<const HIGH: usize>(
    _token: X64V4xToken,
    tile: &[[[u8; 4]; HIGH]],
    panel: &[Quads],
    scales: &Scales<'_>,
    out: &mut [Line],
) {
    let mut sums = [[_mm512_setzero_si512(); 2]; HIGH];
    for (left, right) in tile.iter().zip(panel) {
        let ([right0, right1], _) = right.as_flattened().as_chunks::<64>() else { return };
        let (right0, right1) = (_mm512_loadu_si512(right0), _mm512_loadu_si512(right1));
        for (sum, left) in sums.iter_mut().zip(left) {
            let left = _mm512_set1_epi32(i32::from_le_bytes(*left));
            sum[0] = _mm512_dpbusd_epi32(sum[0], left, right0);
            sum[1] = _mm512_dpbusd_epi32(sum[1], left, right1);
        }
    }
    let mut whole = [[0_i32; COLS]; HIGH];
    for (whole, sum) in whole.iter_mut().zip(&sums) {
        if let ([first, second], _) = whole.as_chunks_mut::<16>() {
            _mm512_storeu_si512(first, sum[0]);
            _mm512_storeu_si512(second, sum[1]);
        }
    }
    scales.apply(&whole, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f32::from(u16::try_from(state >> 16).unwrap()) / 32_768.0 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn products_are_near_those_of_the_numbers_and_the_same_by_either_kernel() {
        for (rows, depth, width) in [(1, 4, 1), (5, 33, 40), (12, 64, 32), (13, 100, 70), (30, 384, 64)] {
            let (left, right) = (numbers(rows * depth, 1), numbers(width * depth, 2));
            let mut panels = vec![[0.0; COLS]; depth.div_ceil(COLS) * rows];
            for row in 0..rows {
                for k in 0..depth {
                    panels[(k / COLS) * rows + row][k % COLS] = left[row * depth + k];
                }
            }
            let packed = Int8Panels::pack(&right, depth);
            let quantised = Int8Tiles::pack(&panels, rows, depth);
            let mut out = vec![[0.0; COLS]; packed.count() * rows];
            multiply(&quantised, &packed, 0, &mut out, |_, _| {});
            let (mut error, mut size) = (0.0, 0.0);
            for row in 0..rows {
                for column in 0..width {
                    let sum: f32 = (0..depth).map(|k| left[row * depth + k] * right[column * depth + k]).sum();
                    error += (sum - out[(column / COLS) * rows + row][column % COLS]).powi(2);
                    size += sum * sum;
                }
            }
            assert!((error / size).sqrt() < 2e-2, "{rows}×{depth}×{width}: {}", (error / size).sqrt());
            let high = quantised.height;
            let mut same = vec![[0.0; COLS]; high];
            let scales =
                Scales { rows: &quantised.scales[..high], columns: &packed.scales[0], offsets: &packed.offsets[0] };
            let tile = &quantised.numbers[..high * quantised.quads];
            portable(tile, &packed.numbers[..packed.quads], &scales, &mut same);
            assert_eq!(same, out[..high]);
        }
    }

    #[test]
    fn nothing_times_anything_is_nothing() {
        let packed = Int8Panels::pack(&[0.0; 64], 32);
        let rows = Int8Tiles::pack(&[[0.0; COLS]; 3], 3, 32);
        let mut out = vec![[1.0; COLS]; 3];
        multiply(&rows, &packed, 0, &mut out, |_, _| {});
        assert!(out.iter().flatten().all(|x| *x == 0.0));
    }
}
