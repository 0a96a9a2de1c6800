//! A batch as the GPU reads it: one tensor of whole numbers, uploaded in one go.
//!
//! ```text
//! bounds (texts + 1) │ ids (rows) │ types (rows) │ positions (rows)
//! ```
//!
//! Invariant: bounds rise from 0 to `rows`, and the tokens of text `t` are the rows from `bounds[t]` up to
//! `bounds[t + 1]`. A bucket may hold fewer texts and tokens than its size: texts of no tokens and one of filling
//! tokens stand behind the real ones, and each text attends to itself alone.

use candle_core::{Device, Result, Tensor};

use crate::classify::Tokens;

/// The sizes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Size {
    /// Texts, the filling one included.
    pub(super) texts: usize,
    /// Tokens of all texts.
    pub(super) rows: usize,
    /// The tokens of the longest text, or more.
    pub(super) longest: usize,
}

/// The most texts and tokens of a batch that a recorded graph runs.
const GRAPH_TEXTS_MAX: usize = 8;
const GRAPH_ROWS_MAX: usize = 1_024;

impl Size {
    /// The exact size of a batch.
    pub(super) fn of(batch: &[Tokens]) -> Self {
        let lengths = || batch.iter().map(|text| text.ids.len());
        Self { texts: batch.len(), rows: lengths().sum(), longest: lengths().max().unwrap_or_default() }
    }

    /// The bucket that a small batch falls into: at least one text and one token larger, since both are filled up.
    /// There are at most 4 · 28 buckets.
    pub(super) fn bucket(batch: &[Tokens]) -> Option<Self> {
        let exact = Self::of(batch);
        let texts = exact.texts.next_power_of_two() + 1;
        let step = match exact.rows {
            0..128 => 16,
            128..512 => 32,
            _ => 64,
        };
        let rows = (exact.rows + 1).next_multiple_of(step);
        (exact.texts <= GRAPH_TEXTS_MAX && rows <= GRAPH_ROWS_MAX).then_some(Self { texts, rows, longest: rows })
    }

    /// How many numbers a batch of this size has.
    pub(super) fn numbers(self) -> usize {
        self.texts + 1 + 3 * self.rows
    }
}

/// The numbers of a batch, filled up to `size`.
pub(super) fn numbers(batch: &[Tokens], size: Size) -> Vec<u32> {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let mut numbers = Vec::with_capacity(size.numbers());
    let mut bound = 0;
    numbers.push(0);
    for text in batch {
        bound += text.ids.len();
        numbers.push(count(bound));
    }
    if batch.len() < size.texts {
        numbers.resize(size.texts, count(bound));
        numbers.push(count(size.rows));
    }
    let filling = std::iter::repeat_n(0, size.rows - bound);
    numbers.extend(batch.iter().flat_map(|text| text.ids.iter().copied()).chain(filling.clone()));
    numbers.extend(batch.iter().flat_map(|text| text.types.iter().copied()).chain(filling.clone()));
    numbers.extend(batch.iter().flat_map(|text| 0..count(text.ids.len())).chain(filling));
    numbers
}

/// A batch on the GPU.
#[derive(Debug)]
pub(super) struct Packed {
    /// All of it; the others are parts.
    pub(super) whole: Tensor,
    pub(super) bounds: Tensor,
    /// Where each text begins.
    pub(super) firsts: Tensor,
    pub(super) ids: Tensor,
    pub(super) types: Tensor,
    pub(super) positions: Tensor,
    pub(super) size: Size,
}

impl Packed {
    /// Uploads a batch, filled up to `size`.
    pub(super) fn upload(batch: &[Tokens], size: Size, device: &Device) -> Result<Self> {
        let whole = Tensor::from_vec(numbers(batch, size), size.numbers(), device)?;
        let part = |number: usize| whole.narrow(0, size.texts + 1 + number * size.rows, size.rows);
        Ok(Self {
            bounds: whole.narrow(0, 0, size.texts + 1)?,
            firsts: whole.narrow(0, 0, size.texts)?,
            ids: part(0)?,
            types: part(1)?,
            positions: part(2)?,
            whole,
            size,
        })
    }

    /// Puts another batch into the same memory.
    pub(super) fn replace(&self, batch: &[Tokens], device: &Device) -> Result<()> {
        let fresh = Tensor::from_vec(numbers(batch, self.size), self.size.numbers(), device)?;
        self.whole.slice_set(&fresh, 0, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(length: usize) -> Tokens {
        Tokens { ids: vec![7; length], types: vec![1; length] }
    }

    #[test]
    fn a_batch_lies_in_one_row_of_numbers() {
        let batch = [text(2), text(1)];
        assert_eq!(numbers(&batch, Size::of(&batch)), [0, 2, 3, 7, 7, 7, 1, 1, 1, 0, 1, 0]);
        let size = Size { texts: 4, rows: 5, longest: 5 };
        let filled = [0, 2, 3, 3, 5, 7, 7, 7, 0, 0, 1, 1, 1, 0, 0, 0, 1, 0, 0, 0];
        assert_eq!(numbers(&batch, size), filled);
        assert_eq!(filled.len(), size.numbers());
    }

    #[test]
    fn buckets_have_room_for_what_fills_them() {
        for texts in 1..=GRAPH_TEXTS_MAX {
            for length in 1..=128 {
                let batch = vec![text(length); texts];
                let bucket = Size::bucket(&batch);
                let Some(size) = bucket else {
                    assert!(texts * length > GRAPH_ROWS_MAX - 64);
                    continue;
                };
                assert!(size.texts > texts && size.rows > texts * length && size.rows <= GRAPH_ROWS_MAX);
                assert_eq!(numbers(&batch, size).len(), size.numbers());
            }
        }
        assert_eq!(Size::bucket(&vec![text(1); 9]), None);
    }
}
