//! The functions between the matrix products: GELU, softmax and layer normalisation, written as plain loops that
//! the compiler turns into vector code for each level of the processor.
//!
//! Invariant: no fused multiply-add, so that every level gives the same bits.

#![allow(clippy::inline_always, reason = "a function that is not inlined is not compiled for the level of its caller")]
#![allow(clippy::excessive_precision, reason = "constants are written as they are published")]

use archmage::prelude::*;

use super::gemm::{COLS, Line};

/// erf(x) as a quotient of polynomials in x², for |x| ≤ 4 (beyond, erf is 1 in f32): within 4 units in the last place.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let s = x * x;
    let mut p = -2.726_142_3e-10;
    for a in [2.770_681_4e-8, -2.101_024e-6, -5.692_506_5e-5, -7.349_906e-4, -2.954_599_8e-3, -0.016_096_033] {
        p = p * s + a;
    }
    let mut q = -1.456_607_2e-5;
    for b in [-2.133_740_5e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2] {
        q = q * s + b;
    }
    x * p / q
}

/// eˣ for x ≤ 0: 2ⁿ by the exponent's bits times a polynomial for what is left; 0 below −87.
#[inline(always)]
fn exp(x: f32) -> f32 {
    let x = x.max(-87.0);
    // Adding and taking away 1.5 · 2²³ rounds to the nearest whole number.
    let shifted = x * std::f32::consts::LOG2_E + 12_582_912.0;
    let whole = shifted - 12_582_912.0;
    let rest = x - whole * 0.693_359_4 + whole * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1] {
        p = p * rest + c;
    }
    let power = f32::from_bits(shifted.to_bits().wrapping_shl(23).wrapping_add(0x3f80_0000));
    (p * rest * rest + rest + 1.0) * power
}

/// Adds a line of biases to each line.
#[autoversion]
pub(super) fn add_bias(lines: &mut [Line], bias: &Line) {
    for line in lines {
        for (x, b) in line.iter_mut().zip(bias) {
            *x += b;
        }
    }
}

/// Adds a line of biases to each line and applies GELU (the exact one, by erf).
#[autoversion]
pub(super) fn bias_gelu(lines: &mut [Line], bias: &Line) {
    for line in lines {
        for (x, b) in line.iter_mut().zip(bias) {
            let sum = *x + b;
            *x = 0.5 * sum * (1.0 + erf(sum * std::f32::consts::FRAC_1_SQRT_2));
        }
    }
}

/// Adds a line of biases and the lines of what goes around the layer.
#[autoversion]
pub(super) fn bias_residual(lines: &mut [Line], bias: &Line, residual: &[Line]) {
    for (line, around) in lines.iter_mut().zip(residual) {
        for ((x, b), r) in line.iter_mut().zip(bias).zip(around) {
            *x += b + r;
        }
    }
}

/// Turns the first `width` numbers of `row` into weights that sum to one, and zeroes the rest.
#[autoversion]
pub(super) fn softmax(row: &mut [Line], width: usize) {
    let flat = row.as_flattened_mut();
    let (row, rest) = flat.split_at_mut(width.min(flat.len()));
    rest.fill(0.0);
    let mut most = [f32::NEG_INFINITY; 16];
    let (blocks, tail) = row.as_chunks::<16>();
    for block in blocks {
        for (m, x) in most.iter_mut().zip(block) {
            *m = if *x > *m { *x } else { *m };
        }
    }
    let most = most.iter().chain(tail).fold(f32::NEG_INFINITY, |a, b| a.max(*b));
    for x in row.iter_mut() {
        *x = exp(*x - most);
    }
    let mut sums = [0.0; 16];
    let (blocks, tail) = row.as_chunks::<16>();
    for block in blocks {
        for (s, x) in sums.iter_mut().zip(block) {
            *s += x;
        }
    }
    let scale = 1.0 / (sums.iter().sum::<f32>() + tail.iter().sum::<f32>());
    for x in row {
        *x *= scale;
    }
}

/// Normalises each row of a matrix in panels of `rows` lines over its first `width` columns; `gain` and `bias` have
/// a line a panel, zero beyond the width.
#[autoversion]
pub(super) fn layer_norm(panels: &mut [Line], rows: usize, width: usize, gain: &[Line], bias: &[Line], eps: f32) {
    #[allow(clippy::cast_precision_loss, reason = "widths are below 2^24")]
    let scale = 1.0 / width as f32;
    let mut means = vec![0.0_f32; rows];
    let mut spreads = vec![0.0_f32; rows];
    for panel in panels.chunks_exact(rows.max(1)) {
        for (mean, line) in means.iter_mut().zip(panel) {
            *mean += sum(line) * scale;
        }
    }
    let mut left = width;
    for panel in panels.chunks_exact_mut(rows.max(1)) {
        let here = left.min(COLS);
        left -= here;
        for ((mean, spread), line) in means.iter().zip(&mut spreads).zip(panel) {
            for x in line.iter_mut() {
                *x -= mean;
            }
            if let Some(beyond) = line.get_mut(here..) {
                beyond.fill(0.0);
            }
            let mut squares = *line;
            for x in &mut squares {
                *x *= *x;
            }
            *spread += sum(&squares) * scale;
        }
    }
    for spread in &mut spreads {
        *spread = 1.0 / (*spread + eps).sqrt();
    }
    for ((panel, gain), bias) in panels.chunks_exact_mut(rows.max(1)).zip(gain).zip(bias) {
        for (line, spread) in panel.iter_mut().zip(&spreads) {
            for ((x, g), b) in line.iter_mut().zip(gain).zip(bias) {
                *x = *x * spread * g + b;
            }
        }
    }
}

/// The sum of a line, in eight chains: quicker, and with a smaller error, than from left to right.
#[inline(always)]
fn sum(line: &Line) -> f32 {
    let mut sums = [0.0; 8];
    for block in line.as_chunks::<8>().0 {
        for (s, x) in sums.iter_mut().zip(block) {
            *s += x;
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss, reason = "small whole numbers")]
mod tests {
    use super::*;

    #[test]
    fn erf_is_right_where_tables_say_so() {
        // Abramowitz and Stegun, table 7.1.
        let table = [(0.0, 0.0), (0.1, 0.112_462_916), (0.5, 0.520_499_878), (1.0, 0.842_700_793)];
        let table =
            table.into_iter().chain([(1.5, 0.966_105_146), (2.0, 0.995_322_265), (3.0, 0.999_977_91), (9.0, 1.0)]);
        for (x, expected) in table {
            assert!((erf(x) - expected).abs() < 3e-7, "erf({x}) = {}", erf(x));
            assert!((erf(-x) + expected).abs() < 3e-7, "erf(-{x}) = {}", erf(-x));
        }
    }

    #[test]
    fn exp_follows_the_library() {
        for step in 0..8_700_u16 {
            let x = -f32::from(step) / 100.0;
            let expected = x.exp();
            assert!((exp(x) - expected).abs() <= 4e-7 * expected, "exp({x}) = {} for {expected}", exp(x));
        }
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn weights_of_a_softmax_sum_to_one() {
        for width in [1, 15, 16, 17, 31, 32, 33, 64] {
            let mut row = [[9e9; COLS]; 2];
            for (at, x) in row.as_flattened_mut().iter_mut().take(width).enumerate() {
                *x = (at % 7) as f32;
            }
            softmax(&mut row, width);
            let total: f32 = row.as_flattened().iter().sum();
            assert!((total - 1.0).abs() < 1e-5, "{width}: {total}");
            assert!(row.as_flattened().iter().skip(width).all(|x| *x == 0.0));
        }
    }

    #[test]
    fn rows_are_normalised_over_their_width_alone() {
        let width = 40;
        let mut panels = vec![[7.0; COLS]; 2];
        for column in 0..width {
            panels[column / COLS][column % COLS] = column as f32;
        }
        layer_norm_of(&mut panels, width);
        let row: Vec<f32> = panels.iter().flatten().copied().collect();
        let mean: f32 = row.iter().take(width).sum::<f32>() / width as f32;
        let spread: f32 = row.iter().take(width).map(|x| x * x).sum::<f32>() / width as f32;
        assert!(mean.abs() < 1e-6 && (spread - 1.0).abs() < 1e-5, "{mean} {spread}");
        assert!(row.iter().skip(width).all(|x| *x == 0.0));
    }

    /// One row, whose padding is zero as the products leave it.
    fn layer_norm_of(panels: &mut [Line], width: usize) {
        let mut gain = vec![[0.0; COLS]; 2];
        for column in 0..width {
            gain[column / COLS][column % COLS] = 1.0;
        }
        for x in panels.as_flattened_mut().iter_mut().skip(width) {
            *x = 0.0;
        }
        layer_norm(panels, 1, width, &gain, &[[0.0; COLS]; 2], 1e-12);
    }
}
