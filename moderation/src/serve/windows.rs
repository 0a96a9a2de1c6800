//! Long texts: cut into windows that overlap, and the windows' scores put together again.
//!
//! ```text
//! [CLS] a b c d e f g h [SEP]   with room for 6, overlap 2:
//! [CLS] a b c d [SEP]   [CLS] c d e f [SEP]   [CLS] e f g h [SEP]
//! ```
//!
//! Invariant: every token is in a window, and whatever is shorter than the overlap stands whole in one of them. The
//! text's probability of a label is the largest of its windows: a long text is as bad as its worst passage.

/// Where the windows of a text of `tokens` tokens (without the two special ones) begin and end; each has at most
/// `room` of them, and shares `overlap` with the one before.
pub(crate) fn cuts(tokens: usize, room: usize, overlap: usize) -> Vec<(usize, usize)> {
    let room = room.max(1);
    let step = room.saturating_sub(overlap).max(1);
    let mut cuts = Vec::new();
    let mut start = 0;
    loop {
        let end = (start + room).min(tokens);
        cuts.push((start, end));
        if end == tokens {
            return cuts;
        }
        start += step;
    }
}

/// The probabilities of a text from those of its windows: the largest of each label.
pub(crate) fn largest(windows: &[Vec<f32>]) -> Vec<f32> {
    let mut merged = windows.first().cloned().unwrap_or_default();
    for window in windows.iter().skip(1) {
        for (kept, other) in merged.iter_mut().zip(window) {
            *kept = kept.max(*other);
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_is_one_window() {
        assert_eq!(cuts(0, 510, 64), [(0, 0)]);
        assert_eq!(cuts(510, 510, 64), [(0, 510)]);
    }

    #[test]
    fn windows_overlap_and_cover_everything() {
        assert_eq!(cuts(8, 4, 2), [(0, 4), (2, 6), (4, 8)]);
        assert_eq!(cuts(511, 510, 64), [(0, 510), (446, 511)]);
        for tokens in 1..200 {
            let cuts = cuts(tokens, 16, 5);
            assert_eq!(cuts.last().expect("one at least").1, tokens);
            for pair in cuts.windows(2) {
                assert!(pair[0].1 - pair[1].0 >= 5 || pair[1].1 == tokens, "{tokens}: {pair:?}");
                assert!(pair[1].0 <= pair[0].1 - 5, "{tokens}: {pair:?}");
            }
        }
    }

    #[test]
    fn an_overlap_as_wide_as_the_window_still_ends() {
        assert_eq!(cuts(5, 3, 3), [(0, 3), (1, 4), (2, 5)]);
        assert_eq!(cuts(3, 0, 9).len(), 3);
    }

    #[test]
    fn the_worst_window_counts() {
        assert_eq!(largest(&[vec![0.1, 0.9], vec![0.5, 0.2]]), [0.5, 0.9]);
        assert!(largest(&[]).is_empty());
    }
}
