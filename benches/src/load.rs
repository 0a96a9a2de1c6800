//! The load: clients over random keys, the same for every target.
//!
//! Closed loop: a client's next request follows its last answer. Open loop: requests are due at a fixed rate, whatever the
//! system does; each is taken by the next free client, and its latency counts from when it was due ([`arrivals`]).
//!
//! Invariant: what the clients ask for is decided by the load alone. Two targets under the same load meet the same
//! keys and values, in the same order per client.

pub(crate) mod arrivals;
mod tally;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::ValueEnum;
use keevo_core::{Error, ErrorKind, Random, Result, SeededRandom};
use tokio::task::JoinSet;

use crate::target::{Target, key};
use crate::usage::{self, Usage};
use crate::window::Window;
use arrivals::Arrivals;

pub(crate) use tally::Tally;

/// How many clients write them at first.
const PRELOAD_CLIENTS: u64 = 64;
/// How long that may take, beside [`PRELOAD_PER_KEY`].
const PRELOAD_WITHIN: Duration = Duration::from_mins(2);
/// How long a key may take on average.
const PRELOAD_PER_KEY: Duration = Duration::from_millis(2);
/// How often one key is tried: a cluster that has just started may still elect.
const PRELOAD_ATTEMPTS: usize = 20;
/// How long a client waits after a failure.
const PAUSE: Duration = Duration::from_millis(10);
/// How long the last requests may take after the end; longer than the deadline of every client.
pub(crate) const DRAIN_WITHIN: Duration = Duration::from_secs(30);
/// The bytes that values are cut out of.
const POOL_BYTES: u64 = 1 << 20;

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    /// A durable put of one value.
    Put,
    /// A linearizable get of one value.
    Get,
}

impl Case {
    /// Its name, as on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
        }
    }
}

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) case: Case,
    pub(crate) clients: u32,
    /// How many different keys are written and read.
    pub(crate) keys: u64,
    pub(crate) value_bytes: usize,
    /// How long the load runs before it is measured.
    pub(crate) warm_up: Duration,
    pub(crate) measure: Duration,
    /// Which of several runs: each has keys and values of its own.
    pub(crate) round: u32,
    /// Requests a second that are due, all clients together; `None` = the loop is closed.
    pub(crate) open_per_s: Option<u32>,
}

/// What a run gave.
#[derive(Debug)]
pub(crate) struct Measured {
    /// What the clients met.
    pub(crate) tally: Tally,
    /// How long it was measured.
    pub(crate) elapsed: Duration,
    /// What the processes used meanwhile.
    pub(crate) usage: Usage,
}

/// Random bytes that values are cut out of, so that no system gains by compressing them.
#[derive(Debug, Clone)]
pub(crate) struct Values {
    pool: Bytes,
    bytes: usize,
}

impl Values {
    /// Values of `bytes` bytes.
    pub(crate) fn new(bytes: usize, seed: u64) -> Self {
        let random = SeededRandom::new(seed);
        let words = POOL_BYTES / 8 + u64::try_from(bytes).unwrap_or(0).div_ceil(8);
        let pool: Vec<u8> = (0..words).flat_map(|_| random.next_u64().to_be_bytes()).collect();
        Self { pool: pool.into(), bytes }
    }

    /// The next value.
    pub(crate) fn next(&self, random: &dyn Random) -> Bytes {
        let start = usize::try_from(random.next_u64() % POOL_BYTES).unwrap_or(0);
        self.pool.slice(start..start + self.bytes)
    }
}

/// Writes every key of the range once.
pub(crate) async fn preload<T: Target>(target: &T, keys: Range<u64>, value_bytes: usize) -> Result<()> {
    let values = Values::new(value_bytes, u64::MAX);
    let count = u32::try_from(keys.end.saturating_sub(keys.start)).unwrap_or(u32::MAX);
    let mut clients = JoinSet::new();
    for number in 0..PRELOAD_CLIENTS {
        let (target, values, keys) = (target.clone(), values.clone(), keys.start + number..keys.end);
        clients.spawn(async move {
            let random = SeededRandom::new(number);
            for key in keys.step_by(usize::try_from(PRELOAD_CLIENTS).unwrap_or(1)) {
                preload_one(&target, key, &values.next(&random)).await?;
            }
            Ok::<_, Error>(())
        });
    }
    let all = async {
        while let Some(client) = clients.join_next().await {
            client.map_err(|error| ended_badly(&error))??;
        }
        Ok(())
    };
    let within = PRELOAD_WITHIN + PRELOAD_PER_KEY * count;
    tokio::time::timeout(within, all).await.unwrap_or_else(|elapsed| {
        Err(Error::new(ErrorKind::DeadlineExceeded, "the keys could not be written in time").with_source(elapsed))
    })
}

async fn preload_one<T: Target>(target: &T, number: u64, value: &Bytes) -> Result<()> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match target.put(key(number), value.clone()).await {
            Ok(()) => return Ok(()),
            Err(error) if attempts == PRELOAD_ATTEMPTS => return Err(error),
            Err(_) => tokio::time::sleep(PAUSE * 10).await,
        }
    }
}

/// Drives the target and measures it, together with the processes `pids` that it consists of.
pub(crate) async fn drive<T: Target>(target: &T, load: &Load, pids: &[u32]) -> Result<Measured> {
    let values = Values::new(load.value_bytes, u64::from(load.round));
    let window = Arc::new(Window::after(load.warm_up, load.measure));
    let arrivals = load.open_per_s.map(|per_s| Arrivals::start(per_s, &window)).transpose()?;
    let mut clients = JoinSet::new();
    for number in 0..load.clients {
        let seed = (u64::from(load.round) << 32) | u64::from(number);
        let client = Client {
            target: target.clone(),
            case: load.case,
            keys: load.keys.max(1),
            values: values.clone(),
            random: SeededRandom::new(seed),
            window: Arc::clone(&window),
            arrivals: arrivals.clone(),
        };
        clients.spawn(client.run());
    }
    gather(clients, arrivals, &window, pids).await
}

/// Watches the processes `pids` over the window, and adds up what clients met that drive them.
pub(crate) async fn gather(
    mut clients: JoinSet<Result<Tally>>,
    arrivals: Option<Arrivals>,
    window: &Window,
    pids: &[u32],
) -> Result<Measured> {
    let usage = usage::over(pids, window).await?;
    let mut tally = Tally::new()?;
    let all = async {
        while let Some(client) = clients.join_next().await {
            tally.add(&client.map_err(|error| ended_badly(&error))??)?;
        }
        Ok::<_, Error>(())
    };
    tokio::time::timeout(DRAIN_WITHIN, all).await.unwrap_or_else(|elapsed| {
        Err(Error::new(ErrorKind::DeadlineExceeded, "the last requests were not answered").with_source(elapsed))
    })?;
    let left = arrivals.map_or(0, |arrivals| arrivals.left());
    if left > 0 {
        tally.failed += left;
        let never = || Error::new(ErrorKind::DeadlineExceeded, "no client came free for a request that was due");
        tally.first_failure.get_or_insert_with(never);
    }
    Ok(Measured { tally, elapsed: window.measured(), usage })
}

pub(crate) fn ended_badly(error: &tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Closed, format!("a client ended badly: {error}"))
}

/// One client: its next request follows the answer to the one before, and waits until one is due where the loop is open.
struct Client<T> {
    target: T,
    case: Case,
    keys: u64,
    values: Values,
    random: SeededRandom,
    window: Arc<Window>,
    arrivals: Option<Arrivals>,
}

impl<T: Target> Client<T> {
    async fn run(self) -> Result<Tally> {
        let mut tally = Tally::new()?;
        loop {
            let began = match &self.arrivals {
                Some(arrivals) => arrivals.next().await,
                None => self.window.now(),
            };
            // What was due within the window is asked for, however late.
            if self.window.has_ended_at(began) {
                return Ok(tally);
            }
            let done = self.request().await;
            let failed = done.is_err();
            tally.note(&self.window, began, self.window.now(), done);
            if failed {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn request(&self) -> Result<()> {
        let key = key(self.random.next_u64() % self.keys);
        match self.case {
            Case::Put => self.target.put(key, self.values.next(&self.random)).await,
            Case::Get => match self.target.get(key).await? {
                Some(value) if value.len() == self.values.bytes => Ok(()),
                Some(value) => Err(Error::corrupt(format!("a value has {} bytes", value.len()))),
                None => Err(Error::new(ErrorKind::NotFound, "a key that was written is not there")),
            },
        }
    }
}

#[cfg(test)]
mod tests;
