//! Turning valid inputs into almost valid ones.
//!
//! Invariant: a mutator draws everything from its seed, so that a failure can be replayed.

use keevo_core::{Random, SeededRandom};

/// The longest input, in bytes: long enough for every header and list, short enough for many executions.
const BYTES_MAX: usize = 4_096;

/// Numbers that lengths, counts and tags go wrong at.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// Makes inputs from samples.
#[derive(Debug)]
pub struct Mutator {
    random: SeededRandom,
    samples: Vec<Vec<u8>>,
}

impl Mutator {
    /// A mutator of `samples` that replays `seed`.
    pub fn new(seed: u64, samples: Vec<Vec<u8>>) -> Self {
        Self { random: SeededRandom::new(seed), samples }
    }

    /// The next input: in one case of 16 wholly random, else a sample with one to eight mutations.
    pub fn input(&mut self) -> Vec<u8> {
        if self.samples.is_empty() || self.below(16) == 0 {
            let length = self.below(64);
            return self.noise(length);
        }
        let mut input = self.sample();
        for _ in 0..=self.below(8) {
            self.mutate(&mut input);
        }
        input.truncate(BYTES_MAX);
        input
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        match self.below(9) {
            0 => flip(input.get_mut(at), 1 << self.below(8)),
            1 => flip(input.get_mut(at), self.below(256)),
            2 => input.truncate(at),
            3 => {
                let length = self.below(16);
                let noise = self.noise(length);
                input.splice(at..at, noise);
            }
            4 => {
                let end = at + self.below(input.len() - at + 1);
                input.drain(at..end);
            }
            5 => {
                let end = at + self.below((input.len() - at).min(32) + 1);
                let part: Vec<u8> = input.drain(at..end).collect();
                let twice = [part.as_slice(), part.as_slice()].concat();
                input.splice(at..at, twice);
            }
            6 => self.splice_another(input, at),
            7 => self.write_edge(input, at),
            _ => self.write_varint(input, at),
        }
    }

    /// The head of the input with the tail of another sample.
    fn splice_another(&mut self, input: &mut Vec<u8>, at: usize) {
        let other = self.sample();
        let from = self.below(other.len() + 1);
        input.truncate(at);
        input.extend(other.into_iter().skip(from));
    }

    /// Overwrites a fixed-width number, in either byte order, with one of the [`EDGES`].
    fn write_edge(&mut self, input: &mut [u8], at: usize) {
        let edge = self.edge();
        let width = [1, 2, 4, 8].get(self.below(4)).copied().unwrap_or(8);
        let mut bytes = edge.to_le_bytes();
        if self.below(2) == 0 {
            bytes.get_mut(..width).unwrap_or_default().reverse();
        }
        for (to, from) in input.iter_mut().skip(at).zip(bytes.into_iter().take(width)) {
            *to = from;
        }
    }

    /// Replaces one byte by a protobuf number, which may change every length after it.
    fn write_varint(&mut self, input: &mut Vec<u8>, at: usize) {
        let mut rest = self.edge();
        let mut bytes = Vec::new();
        while rest >= 0x80 {
            bytes.push(low_byte(rest) | 0x80);
            rest >>= 7;
        }
        bytes.push(low_byte(rest));
        let end = (at + 1).min(input.len());
        input.splice(at..end, bytes);
    }

    fn edge(&mut self) -> u64 {
        let at = self.below(EDGES.len());
        EDGES.get(at).copied().unwrap_or(0)
    }

    fn sample(&mut self) -> Vec<u8> {
        let at = self.below(self.samples.len());
        self.samples.get(at).cloned().unwrap_or_default()
    }

    fn noise(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| low_byte(self.random.next_u64())).collect()
    }

    /// A number below `bound`; 0 for 0.
    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX);
        let drawn = self.random.next_u64().checked_rem(bound).unwrap_or(0);
        usize::try_from(drawn).unwrap_or(0)
    }
}

fn low_byte(number: u64) -> u8 {
    let [low, ..] = number.to_le_bytes();
    low
}

fn flip(byte: Option<&mut u8>, bits: usize) {
    if let Some(byte) = byte {
        *byte ^= u8::try_from(bits).unwrap_or(0xff);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays() {
        let inputs = |seed| {
            let mut mutator = Mutator::new(seed, vec![b"one sample".to_vec(), b"another".to_vec()]);
            (0..500).map(|_| mutator.input()).collect::<Vec<_>>()
        };
        assert_eq!(inputs(7), inputs(7));
        assert_ne!(inputs(7), inputs(8));
        assert!(inputs(7).iter().any(Vec::is_empty) && inputs(7).iter().any(|input| input.len() > 10));
    }

    #[test]
    fn inputs_stay_short_and_without_samples_there_is_noise() {
        let mut long = Mutator::new(1, vec![vec![1; BYTES_MAX]]);
        assert!((0..500).all(|_| long.input().len() <= BYTES_MAX));
        let mut none = Mutator::new(1, Vec::new());
        assert!((0..50).any(|_| !none.input().is_empty()));
    }
}
