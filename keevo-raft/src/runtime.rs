//! What openraft runs on: tokio, with randomness that a simulation can seed.
//!
//! Openraft draws its election timeouts from a generator that it asks its runtime for, by a function without
//! arguments; so the seed belongs to the thread. A simulation runs all of its nodes on one thread, which it seeds
//! once; anywhere else the operating system's randomness is used.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use openraft::{AsyncRuntime, OptionalSend};
use rand::TryRng;

type Tokio = openraft::impls::TokioRuntime;

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Makes the randomness of all groups that run on the calling thread follow from `seed`.
pub fn seed_this_thread(seed: u64) {
    SEED.set(Some(seed));
}

/// Tokio as openraft's runtime.
#[derive(Debug)]
pub struct KeevoRuntime(Tokio);

/// A source of random numbers for openraft: the seeded one of the thread, or the operating system's.
#[derive(Debug)]
pub struct ThreadRandom {
    system: Option<<Tokio as AsyncRuntime>::ThreadLocalRng>,
}

impl ThreadRandom {
    fn next(&mut self) -> u64 {
        if let Some(system) = &mut self.system {
            return system.try_next_u64().unwrap_or_else(|never| match never {});
        }
        // SplitMix64, as in keevo-core's `SeededRandom`.
        let state = SEED.get().unwrap_or_default().wrapping_add(0x9e37_79b9_7f4a_7c15);
        SEED.set(Some(state));
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl TryRng for ThreadRandom {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::try_from(self.next() >> 32).unwrap_or_default())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.next())
    }

    fn try_fill_bytes(&mut self, target: &mut [u8]) -> Result<(), Infallible> {
        for chunk in target.chunks_mut(8) {
            for (to, from) in chunk.iter_mut().zip(self.next().to_le_bytes()) {
                *to = from;
            }
        }
        Ok(())
    }
}

impl AsyncRuntime for KeevoRuntime {
    type JoinError = <Tokio as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <Tokio as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <Tokio as AsyncRuntime>::Sleep;
    type Instant = <Tokio as AsyncRuntime>::Instant;
    type TimeoutError = <Tokio as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <Tokio as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = ThreadRandom;
    type Mpsc = <Tokio as AsyncRuntime>::Mpsc;
    type Watch = <Tokio as AsyncRuntime>::Watch;
    type Oneshot = <Tokio as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <Tokio as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        Tokio::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        Tokio::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        Tokio::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        Tokio::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        Tokio::timeout_at(deadline, future)
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        Tokio::is_panic(error)
    }

    fn thread_rng() -> ThreadRandom {
        ThreadRandom { system: SEED.get().is_none().then(Tokio::thread_rng) }
    }

    fn new(threads: usize) -> Self {
        Self(Tokio::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw() -> Vec<u64> {
        let mut numbers: Vec<u64> = (0..4).map(|_| KeevoRuntime::thread_rng().next()).collect();
        let mut bytes = [0; 12];
        KeevoRuntime::thread_rng().try_fill_bytes(&mut bytes).unwrap_or_else(|never| match never {});
        numbers.extend(bytes.map(u64::from));
        numbers
    }

    fn seeded(seed: u64) -> Vec<u64> {
        std::thread::spawn(move || {
            seed_this_thread(seed);
            draw()
        })
        .join()
        .expect("the thread ends")
    }

    #[test]
    fn a_seeded_thread_repeats_itself_and_another_is_random() {
        assert_eq!(seeded(7), seeded(7));
        assert_ne!(seeded(7), seeded(8));
        let unseeded = || std::thread::spawn(draw).join().expect("the thread ends");
        assert_ne!(unseeded(), unseeded());
    }

    #[test]
    fn it_is_a_runtime_as_openraft_wants_it() {
        openraft::rt::testing::Suite::<KeevoRuntime>::test_all();
    }
}
