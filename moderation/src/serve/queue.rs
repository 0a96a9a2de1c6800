//! The queue in front of the model: bounded, two lanes, and the choice of what goes into the next batch.
//!
//! ```text
//! realtime  ▢▢▢▢▢▢ ─┐   bulk's due share first (one token in nine while realtime waits),
//! bulk      ▢▢▢    ─┴─> then realtime, then bulk with what is left, up to the batch's tokens and texts
//! ```
//!
//! Invariant: nothing starves. Bulk earns credit by every token that realtime gets before it; the head of a lane may
//! be passed by shorter pieces behind it, but is the first choice of the next batch.
//! Pure: it knows neither clocks nor threads.

use std::collections::VecDeque;
use std::time::Duration;

/// How urgent a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Priority {
    /// Somebody waits for the answer.
    #[default]
    Realtime,
    /// Nobody waits: imports, backlogs.
    Bulk,
}

/// For every so many tokens of realtime that pass it, bulk gets one.
const BULK_SHARE: usize = 8;
/// How many pieces that do not fit are passed over in search of ones that do.
const LOOK_AHEAD: usize = 64;

/// What bounds a queue and the batches that are cut from it.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_field_names, reason = "all are bounds, and are named as bounds are")]
pub(crate) struct Limits {
    pub(crate) queue_pieces_max: usize,
    pub(crate) queue_tokens_max: usize,
    pub(crate) batch_pieces_max: usize,
    pub(crate) batch_tokens_max: usize,
}

/// A piece of text, tokenised, that waits: a whole text or one window of a long one.
#[derive(Debug)]
pub(crate) struct Piece<T> {
    pub(crate) tokens: usize,
    /// When it was queued, by the monotonic clock.
    pub(crate) queued: Duration,
    pub(crate) payload: T,
}

/// The queue has no room for the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

/// The queue.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    limits: Limits,
    realtime: VecDeque<Piece<T>>,
    bulk: VecDeque<Piece<T>>,
    tokens: usize,
    bulk_tokens: usize,
    /// Tokens that bulk may take before realtime.
    credit: usize,
}

impl<T> Queue<T> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, realtime: VecDeque::new(), bulk: VecDeque::new(), tokens: 0, bulk_tokens: 0, credit: 0 }
    }

    /// Queues all pieces of a request, or none. Bulk may fill half of the queue; where none waits a request of it is taken
    /// however large it is, since it would be too large at any time.
    pub(crate) fn push(&mut self, priority: Priority, pieces: Vec<Piece<T>>) -> Result<(), Full> {
        let tokens: usize = pieces.iter().map(|piece| piece.tokens).sum();
        let Limits { queue_pieces_max, queue_tokens_max, .. } = self.limits;
        if priority == Priority::Bulk && self.bulk.is_empty() {
            self.extend(priority, pieces, tokens);
            return Ok(());
        }
        if self.len() + pieces.len() > queue_pieces_max || self.tokens + tokens > queue_tokens_max {
            return Err(Full);
        }
        if priority == Priority::Bulk {
            let too_many = self.bulk.len() + pieces.len() > queue_pieces_max.div_ceil(2);
            if too_many || self.bulk_tokens + tokens > queue_tokens_max.div_ceil(2) {
                return Err(Full);
            }
        }
        self.extend(priority, pieces, tokens);
        Ok(())
    }

    fn extend(&mut self, priority: Priority, pieces: Vec<Piece<T>>, tokens: usize) {
        self.tokens += tokens;
        match priority {
            Priority::Realtime => self.realtime.extend(pieces),
            Priority::Bulk => {
                self.bulk_tokens += tokens;
                self.bulk.extend(pieces);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.realtime.len() + self.bulk.len()
    }

    /// Pieces that wait, of each priority.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (self.realtime.len(), self.bulk.len())
    }

    /// Tokens that wait.
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Whether what waits fills a batch, so that waiting for more gains nothing.
    pub(crate) fn fills_batch(&self) -> bool {
        self.tokens >= self.limits.batch_tokens_max || self.len() >= self.limits.batch_pieces_max
    }

    /// Since when the piece that has waited longest waits.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        let heads = self.realtime.front().into_iter().chain(self.bulk.front());
        heads.map(|piece| piece.queued).min()
    }

    /// Takes the next batch: empty only if nothing waits. A single piece beyond the batch's tokens is a batch alone.
    pub(crate) fn take(&mut self) -> Vec<Piece<T>> {
        let tokens_max = self.limits.batch_tokens_max;
        let mut batch = Vec::new();
        let mut room = Room { tokens: tokens_max, pieces: self.limits.batch_pieces_max, is_empty: true };
        let mut bulk = 0;
        if !self.realtime.is_empty() {
            while let Some(head) = self.bulk.front()
                && head.tokens.min(tokens_max) <= self.credit
                && room.take(head.tokens)
            {
                self.credit -= head.tokens.min(tokens_max);
                bulk += head.tokens;
                batch.extend(self.bulk.pop_front());
            }
        }
        let realtime = fill(&mut self.realtime, &mut room, &mut batch);
        // A batch's worth of credit is enough for any piece; more would pay back an idle hour at once.
        self.credit =
            if self.bulk.is_empty() { 0 } else { (self.credit + realtime.div_ceil(BULK_SHARE)).min(tokens_max) };
        if self.realtime.is_empty() {
            bulk += fill(&mut self.bulk, &mut room, &mut batch);
        }
        self.tokens -= realtime + bulk;
        self.bulk_tokens -= bulk;
        batch
    }
}

/// What a batch has room for yet.
struct Room {
    tokens: usize,
    pieces: usize,
    is_empty: bool,
}

impl Room {
    /// Takes a piece in, if there is room; the first piece always has it.
    fn take(&mut self, tokens: usize) -> bool {
        if self.pieces == 0 || (tokens > self.tokens && !self.is_empty) {
            return false;
        }
        self.tokens = self.tokens.saturating_sub(tokens);
        self.pieces -= 1;
        self.is_empty = false;
        true
    }
}

/// Moves from `lane` what there is room for, and says how many tokens that was.
fn fill<T>(lane: &mut VecDeque<Piece<T>>, room: &mut Room, batch: &mut Vec<Piece<T>>) -> usize {
    let (mut at, mut taken) = (0, 0);
    while at < LOOK_AHEAD
        && room.pieces > 0
        && let Some(piece) = lane.get(at)
    {
        let tokens = piece.tokens;
        if room.take(tokens) {
            taken += tokens;
            batch.extend(lane.remove(at));
        } else {
            at += 1;
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { queue_pieces_max: 100, queue_tokens_max: 10_000, batch_pieces_max: 8, batch_tokens_max: 100 };

    fn pieces(tokens: &[usize]) -> Vec<Piece<usize>> {
        tokens.iter().map(|&tokens| Piece { tokens, queued: Duration::ZERO, payload: tokens }).collect()
    }

    fn taken(queue: &mut Queue<usize>) -> Vec<usize> {
        queue.take().into_iter().map(|piece| piece.payload).collect()
    }

    #[test]
    fn a_batch_keeps_to_its_tokens_and_texts() {
        let mut queue = Queue::new(LIMITS);
        queue.push(Priority::Realtime, pieces(&[40, 40, 40, 20])).unwrap();
        assert_eq!(taken(&mut queue), [40, 40, 20], "a short one fits in behind the one that does not");
        assert_eq!(taken(&mut queue), [40]);
        assert!(queue.take().is_empty() && queue.len() == 0 && queue.tokens() == 0);
        queue.push(Priority::Realtime, pieces(&[1; 20])).unwrap();
        assert_eq!(taken(&mut queue).len(), 8);
    }

    #[test]
    fn a_piece_longer_than_a_batch_goes_alone() {
        let mut queue = Queue::new(LIMITS);
        queue.push(Priority::Realtime, pieces(&[500, 10])).unwrap();
        assert_eq!(taken(&mut queue), [500]);
        assert_eq!(taken(&mut queue), [10]);
    }

    #[test]
    fn a_long_one_is_passed_once_and_not_for_ever() {
        let mut queue = Queue::new(LIMITS);
        queue.push(Priority::Realtime, pieces(&[60, 90])).unwrap();
        for _ in 0..3 {
            queue.push(Priority::Realtime, pieces(&[30])).unwrap();
        }
        assert_eq!(taken(&mut queue), [60, 30]);
        assert_eq!(taken(&mut queue), [90]);
    }

    #[test]
    fn realtime_passes_bulk_and_bulk_gets_its_ninth() {
        let mut queue = Queue::new(LIMITS);
        queue.push(Priority::Bulk, pieces(&[10; 50])).unwrap();
        let (mut realtime, mut bulk) = (0, 0);
        for _ in 0..30 {
            while queue.waiting().0 < 8 {
                queue.push(Priority::Realtime, pieces(&[25])).unwrap();
            }
            for piece in queue.take() {
                if piece.tokens == 10 { bulk += 10 } else { realtime += 25 }
            }
        }
        assert!(6 * bulk <= realtime && realtime <= 10 * bulk, "{bulk} tokens of bulk beside {realtime}");
        assert!(realtime >= 2_000, "{realtime}");
    }

    #[test]
    fn bulk_of_any_length_moves_on_under_endless_realtime() {
        let mut queue = Queue::new(LIMITS);
        queue.push(Priority::Bulk, pieces(&[300])).unwrap();
        let turns = (0..40).position(|_| {
            queue.push(Priority::Realtime, pieces(&[50, 50])).unwrap();
            taken(&mut queue).contains(&300)
        });
        assert!(turns.is_some_and(|turns| turns >= 4), "{turns:?}");
    }

    #[test]
    fn a_full_queue_refuses_whole_requests() {
        let mut queue = Queue::new(LIMITS);
        queue.push(Priority::Realtime, pieces(&[1; 99])).unwrap();
        assert_eq!(queue.push(Priority::Realtime, pieces(&[1; 2])), Err(Full));
        assert_eq!(queue.len(), 99, "nothing of the refused request stays");
        let mut queue = Queue::new(LIMITS);
        assert_eq!(queue.push(Priority::Realtime, pieces(&[5_000, 5_001])), Err(Full));
        queue.push(Priority::Bulk, pieces(&[1; 50])).unwrap();
        assert_eq!(queue.push(Priority::Bulk, pieces(&[1])), Err(Full), "half of it is realtime's");
        queue.push(Priority::Realtime, pieces(&[1])).unwrap();
    }

    /// A question of 64 long mails had more tokens than bulk's half of the queue, and was told to come back for ever.
    #[test]
    fn bulk_that_is_larger_than_its_half_is_taken_when_none_waits() {
        let mut queue = Queue::new(LIMITS);
        queue.push(Priority::Realtime, pieces(&[1; 60])).unwrap();
        queue.push(Priority::Bulk, pieces(&[100; 200])).unwrap();
        assert_eq!((queue.waiting(), queue.tokens()), ((60, 200), 20_060));
        assert_eq!(queue.push(Priority::Bulk, pieces(&[1])), Err(Full), "but nothing comes behind it");
        while queue.len() > 0 {
            assert!(!queue.take().is_empty());
        }
        queue.push(Priority::Bulk, pieces(&[1])).unwrap();
    }

    #[test]
    fn a_batch_is_full_by_tokens_or_by_texts() {
        let mut queue = Queue::new(LIMITS);
        queue.push(Priority::Realtime, pieces(&[10; 7])).unwrap();
        assert!(!queue.fills_batch());
        queue.push(Priority::Realtime, pieces(&[1])).unwrap();
        assert!(queue.fills_batch());
    }
}
