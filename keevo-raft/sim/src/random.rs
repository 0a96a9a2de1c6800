//! Dice: the numbers that a seed decides.

use keevo_core::{Random, SeededRandom};

/// A stream of random decisions. Two streams of one seed are independent of each other.
#[derive(Debug)]
pub struct Dice(SeededRandom);

impl Dice {
    /// The stream `number` of `seed`.
    pub fn new(seed: u64, number: u64) -> Self {
        let mixed = SeededRandom::new(seed ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93)).next_u64();
        Self(SeededRandom::new(mixed))
    }

    /// The next 64 bits.
    pub fn next_u64(&self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound`; 0 when that is 0.
    pub fn below(&self, bound: u64) -> u64 {
        self.next_u64().checked_rem(bound).unwrap_or_default()
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// Whether something happens that does so in `percent` of all cases.
    pub fn chance(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of `choices`; `None` when there is none.
    pub fn pick<'a, T>(&self, choices: &'a [T]) -> Option<&'a T> {
        let bound = u64::try_from(choices.len()).unwrap_or(u64::MAX);
        usize::try_from(self.below(bound)).ok().and_then(|at| choices.get(at))
    }
}
