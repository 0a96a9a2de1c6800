//! Driving timelines: posts one after another in closed loops, and pages at a fixed rate while posts go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keevo_core::{Error, ErrorKind, Random, Result, SeededRandom};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::{Timelines, full};
use crate::figures::per_second;
use crate::load::arrivals::Arrivals;
use crate::load::{DRAIN_WITHIN, Measured, Tally, ended_badly};
use crate::usage;
use crate::window::Window;

/// Longer than any run takes.
const FOREVER: Duration = Duration::from_hours(24);

/// Pages that are read at a fixed rate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pages {
    /// Pages a second that are due, all readers together.
    pub(crate) per_s: u32,
    /// How many are under way at most.
    pub(crate) readers: u32,
    /// Posts a second that are due meanwhile.
    pub(crate) posts_per_s: u32,
    /// How many timelines there are.
    pub(crate) followers: u32,
    pub(crate) warm_up: Duration,
    pub(crate) measure: Duration,
    /// Which of several runs: each reads timelines of its own.
    pub(crate) round: u32,
}

/// What a run of pages gave.
#[derive(Debug)]
pub(crate) struct Paced {
    pub(crate) pages: Measured,
    /// Posts a second that were done meanwhile.
    pub(crate) posts_per_s: f64,
}

/// Posts `count` activities, `in_flight` at once.
pub(crate) async fn preload<T: Timelines>(timelines: &T, count: u64, in_flight: u32) -> Result<()> {
    let left = Arc::new(AtomicU64::new(count));
    let mut posters = JoinSet::new();
    for _ in 0..in_flight {
        let (timelines, left) = (timelines.clone(), Arc::clone(&left));
        posters.spawn(async move {
            let take = |left: u64| left.checked_sub(1);
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                timelines.post().await?;
            }
            Ok::<_, Error>(())
        });
    }
    while let Some(poster) = posters.join_next().await {
        poster.map_err(|error| ended_badly(&error))??;
    }
    Ok(())
}

/// Posts `posts` times, `in_flight` at once, and measures from the first to the last. One operation is one entry of a
/// timeline; a latency is that of a whole post.
pub(crate) async fn post_all<T: Timelines>(
    timelines: &T,
    (posts, followers, in_flight): (u64, u32, u32),
    pids: &[u32],
) -> Result<Measured> {
    // Behind the last post whenever that is.
    let window = Arc::new(Window::after(Duration::ZERO, FOREVER));
    let left = Arc::new(AtomicU64::new(posts));
    let mut posters = JoinSet::new();
    for _ in 0..in_flight {
        let (timelines, window, left) = (timelines.clone(), Arc::clone(&window), Arc::clone(&left));
        posters.spawn(async move {
            let mut tally = Tally::new()?;
            let take = |left: u64| left.checked_sub(1);
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                let began = window.now();
                timelines.post().await?;
                tally.note(&window, began, window.now(), Ok(()));
            }
            Ok(tally)
        });
    }
    let (usage, mut tally) = usage::until(pids, sum_of(posters)).await?;
    let elapsed = window.now().saturating_sub(window.began());
    tally.ops *= u64::from(followers);
    Ok(Measured { tally, elapsed, usage })
}

/// Posts for a while, `in_flight` at once. One operation is one entry of a timeline; a latency is that of a whole post.
pub(crate) async fn fan_outs<T: Timelines>(
    timelines: &T,
    (followers, in_flight): (u32, u32),
    (warm_up, measure): (Duration, Duration),
    pids: &[u32],
) -> Result<Measured> {
    let window = Arc::new(Window::after(warm_up, measure));
    let mut posters = JoinSet::new();
    for _ in 0..in_flight {
        let (timelines, window) = (timelines.clone(), Arc::clone(&window));
        posters.spawn(async move {
            let mut tally = Tally::new()?;
            loop {
                let began = window.now();
                if window.has_ended_at(began) {
                    return Ok(tally);
                }
                let done = timelines.post().await;
                tally.note(&window, began, window.now(), done);
            }
        });
    }
    let usage = usage::over(pids, &window).await?;
    let mut tally = sum(posters).await?;
    tally.ops *= u64::from(followers);
    Ok(Measured { tally, elapsed: window.measured(), usage })
}

/// Reads pages at a fixed rate while posts go on at a fixed rate.
pub(crate) async fn pages<T: Timelines>(timelines: &T, load: &Pages, pids: &[u32]) -> Result<Paced> {
    let window = Arc::new(Window::after(load.warm_up, load.measure));
    let arrivals = Arrivals::start(load.per_s, &window)?;
    let poster = tokio::spawn(post_paced(timelines.clone(), load.posts_per_s, Arc::clone(&window)));
    let mut readers = JoinSet::new();
    for number in 0..load.readers {
        let (timelines, window, arrivals) = (timelines.clone(), Arc::clone(&window), arrivals.clone());
        let random = SeededRandom::new((u64::from(load.round) << 32) | u64::from(number));
        let followers = u64::from(load.followers.max(1));
        readers.spawn(async move {
            let mut tally = Tally::new()?;
            loop {
                let due = arrivals.next().await;
                if window.has_ended_at(due) {
                    return Ok(tally);
                }
                let follower = u32::try_from(random.next_u64() % followers).unwrap_or_default();
                let done = timelines.page(follower).await.and_then(full);
                tally.note(&window, due, window.now(), done);
            }
        });
    }
    let usage = usage::over(pids, &window).await?;
    let mut tally = sum(readers).await?;
    let left = arrivals.left();
    if left > 0 {
        tally.failed += left;
        let never = || Error::new(ErrorKind::DeadlineExceeded, "no reader came free for a page that was due");
        tally.first_failure.get_or_insert_with(never);
    }
    let posts = poster.await.map_err(|error| ended_badly(&error))??;
    let elapsed = window.measured();
    Ok(Paced { pages: Measured { tally, elapsed, usage }, posts_per_s: per_second(posts, elapsed) })
}

/// Posts at a fixed rate until the window ends, one at a time: a system that cannot keep up posts less. Returns how many
/// were done within the measured time.
async fn post_paced<T: Timelines>(timelines: T, per_s: u32, window: Arc<Window>) -> Result<u64> {
    if per_s == 0 {
        return Ok(0);
    }
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_s);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut posts = 0;
    loop {
        ticks.tick().await;
        if window.has_ended_at(window.now()) {
            return Ok(posts);
        }
        timelines.post().await?;
        let now = window.now();
        posts += u64::from(window.has_started_at(now) && !window.has_ended_at(now));
    }
}

/// What all clients met, once they have ended, which they do soon.
async fn sum(clients: JoinSet<Result<Tally>>) -> Result<Tally> {
    tokio::time::timeout(DRAIN_WITHIN, sum_of(clients)).await.unwrap_or_else(|elapsed| {
        Err(Error::new(ErrorKind::DeadlineExceeded, "the last requests were not answered").with_source(elapsed))
    })
}

async fn sum_of(mut clients: JoinSet<Result<Tally>>) -> Result<Tally> {
    let mut tally = Tally::new()?;
    while let Some(client) = clients.join_next().await {
        tally.add(&client.map_err(|error| ended_badly(&error))??)?;
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Timelines in memory that count.
    #[derive(Debug, Clone, Default)]
    struct Counting {
        posts: Arc<AtomicU64>,
        whole: usize,
    }

    impl Timelines for Counting {
        async fn post(&self) -> Result<()> {
            self.posts.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(())
        }

        async fn page(&self, _follower: u32) -> Result<usize> {
            Ok(self.whole)
        }

        async fn entries(&self) -> Result<u64> {
            Ok(self.posts.load(Ordering::Relaxed))
        }
    }

    fn load(posts_per_s: u32) -> Pages {
        Pages {
            per_s: 1_000,
            readers: 4,
            posts_per_s,
            followers: 10,
            warm_up: Duration::ZERO,
            measure: Duration::from_millis(300),
            round: 0,
        }
    }

    #[tokio::test]
    async fn an_entry_counts_for_every_follower_and_a_preload_posts_what_it_is_told() {
        let timelines = Counting::default();
        preload(&timelines, 37, 4).await.expect("posted");
        assert_eq!(timelines.entries().await.expect("counted"), 37);
        let window = (Duration::ZERO, Duration::from_millis(200));
        let pids = [std::process::id()];
        let measured = fan_outs(&timelines, (1_000, 2), window, &pids).await.expect("measured");
        let posts = timelines.posts.load(Ordering::Relaxed) - 37;
        assert!(measured.tally.ops.is_multiple_of(1_000) && measured.tally.ops > 0, "{}", measured.tally.ops);
        assert!(measured.tally.ops <= posts * 1_000);
        let measured = post_all(&timelines, (21, 10, 4), &pids).await.expect("measured");
        assert_eq!((measured.tally.ops, measured.tally.latency_us.len()), (210, 21));
        assert_eq!(timelines.posts.load(Ordering::Relaxed), 37 + posts + 21);
    }

    #[tokio::test]
    async fn pages_are_read_at_their_rate_while_posts_go_on_and_a_short_page_has_failed() {
        let pids = [std::process::id()];
        let full = Counting { whole: super::super::PAGE, ..Counting::default() };
        let paced = pages(&full, &load(50), &pids).await.expect("measured");
        assert!((290..=300).contains(&paced.pages.tally.latency_us.len()), "{}", paced.pages.tally.latency_us.len());
        assert_eq!(paced.pages.tally.failed, 0);
        assert!(paced.posts_per_s > 10.0 && paced.posts_per_s < 70.0, "{}", paced.posts_per_s);
        let short = Counting { whole: super::super::PAGE - 1, ..Counting::default() };
        let paced = pages(&short, &load(0), &pids).await.expect("measured");
        assert_eq!((paced.pages.tally.ops, paced.posts_per_s.to_string()), (0, "0".to_owned()));
        assert!(paced.pages.tally.failed > 200, "{}", paced.pages.tally.failed);
    }
}
