//! The quorum clock: whose answers count, from when, and what it promises to followers.

use std::sync::atomic::{AtomicU64, Ordering};

use openraft::async_runtime::watch::WatchSender;
use openraft::type_config::TypeConfigExt;
use openraft::type_config::alias::WatchSenderOf;

use super::*;
use crate::types::{StoredMembership, Vote, log_id};

const LEASE: Duration = Duration::from_millis(500);

/// A clock whose two hands are moved by hand.
#[derive(Debug, Default)]
struct Hands {
    wall_ms: AtomicU64,
    monotonic_ms: AtomicU64,
}

impl Hands {
    fn pass(&self, wall_ms: u64, monotonic_ms: u64) {
        self.wall_ms.fetch_add(wall_ms, Ordering::Relaxed);
        self.monotonic_ms.fetch_add(monotonic_ms, Ordering::Relaxed);
    }
}

impl Clock for Hands {
    fn now_ms(&self) -> u64 {
        self.wall_ms.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic_ms.load(Ordering::Relaxed))
    }
}

struct Bench {
    hands: Arc<Hands>,
    quorum: Arc<QuorumClock>,
    metrics: RaftMetrics,
    metrics_tx: WatchSenderOf<TypeConfig, RaftMetrics>,
}

fn leader(term: u64) -> LeaderId {
    LeaderId { term, node_id: 1 }
}

impl Bench {
    /// Replica 1 leads term 1; `configs` are the voters.
    fn new(configs: &[&[u64]]) -> Self {
        let hands = Arc::new(Hands::default());
        hands.pass(1_000_000, 0);
        let quorum = QuorumClock::new(1, Arc::clone(&hands) as Arc<dyn Clock>, 200);
        let configs: Vec<BTreeSet<u64>> = configs.iter().map(|voters| voters.iter().copied().collect()).collect();
        let nodes: BTreeMap<u64, crate::types::PeerNode> =
            configs.iter().flatten().map(|id| (*id, crate::types::PeerNode::default())).collect();
        let membership = Membership::new(configs, nodes).expect("a membership");
        let mut metrics = RaftMetrics::new_initial(1);
        metrics.membership_config = Arc::new(StoredMembership::new(Some(log_id(1, 1, 1)), membership));
        metrics.vote = Vote::new_committed(1, 1);
        metrics.last_applied = Some(log_id(1, 1, 1));
        let (metrics_tx, metrics_rx) = TypeConfig::watch_channel(metrics.clone());
        quorum.set(metrics_rx);
        Self { hands, quorum, metrics, metrics_tx }
    }

    fn is_confirmed(&self, start: Stamp) -> bool {
        self.quorum.is_confirmed(leader(1), start, LEASE)
    }
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// The late answer to an early request says when that was followed, not what was sent since.
#[tokio::test]
async fn a_late_answer_counts_from_its_own_request() {
    let bench = Bench::new(&[&[1, 2, 3]]);
    let early = bench.quorum.sending();
    pass(LEASE + Duration::from_millis(20)).await;
    let _young = bench.quorum.sending();
    bench.quorum.followed(leader(1), 2, early);
    let start = bench.quorum.begin();
    assert!(!bench.is_confirmed(start), "the lease of the early request is over");
    let next = bench.quorum.sending();
    bench.quorum.followed(leader(1), 2, next);
    assert!(bench.is_confirmed(start));
    bench.quorum.followed(leader(1), 2, early);
    assert!(bench.is_confirmed(start), "an answer that comes later takes nothing back");
}

#[tokio::test]
async fn a_lease_holds_for_its_time_and_without_one_only_a_later_answer_counts() {
    let bench = Bench::new(&[&[1, 2, 3]]);
    bench.quorum.followed(leader(1), 3, bench.quorum.sending());
    let start = bench.quorum.begin();
    assert!(bench.is_confirmed(start));
    assert!(!bench.quorum.is_confirmed(leader(1), start, Duration::ZERO), "it was sent before the read began");
    bench.quorum.followed(leader(1), 3, bench.quorum.sending());
    assert!(bench.quorum.is_confirmed(leader(1), start, Duration::ZERO));
    pass(LEASE + Duration::from_millis(20)).await;
    assert!(!bench.is_confirmed(bench.quorum.begin()));
    assert!(bench.is_confirmed(start), "what was confirmed stays so");
}

#[tokio::test]
async fn it_takes_a_majority_of_every_configuration() {
    let bench = Bench::new(&[&[1, 2, 3, 4, 5], &[1, 6, 7]]);
    let start = bench.quorum.begin();
    for (replica, confirmed) in [(2, false), (9, false), (6, false), (3, true)] {
        bench.quorum.followed(leader(1), replica, bench.quorum.sending());
        assert_eq!(bench.is_confirmed(start), confirmed, "after replica {replica}");
    }
    let alone = Bench::new(&[&[1]]);
    assert!(alone.is_confirmed(alone.quorum.begin()), "nobody else votes");
    let elsewhere = Bench::new(&[&[2]]);
    assert!(!elsewhere.is_confirmed(elsewhere.quorum.begin()), "this replica has no vote");
}

#[tokio::test]
async fn who_followed_one_leadership_says_nothing_of_another() {
    let bench = Bench::new(&[&[1, 2, 3]]);
    bench.quorum.followed(leader(1), 2, bench.quorum.sending());
    let start = bench.quorum.begin();
    assert!(bench.is_confirmed(start));
    assert!(!bench.quorum.is_confirmed(leader(2), start, LEASE));
    bench.quorum.followed(leader(2), 3, bench.quorum.sending());
    assert!(!bench.is_confirmed(start), "term 2 has begun");
    bench.quorum.followed(leader(1), 2, bench.quorum.sending());
    assert!(!bench.is_confirmed(start), "an answer of term 1 that comes late");
    assert!(bench.quorum.is_confirmed(leader(2), start, LEASE));
}

/// While the machine is suspended its monotonic clock stands, so a lease looks younger than it is to its grantors.
#[tokio::test]
async fn after_a_suspension_old_answers_do_not_count() {
    let bench = Bench::new(&[&[1, 2, 3]]);
    bench.quorum.followed(leader(1), 2, bench.quorum.sending());
    assert!(bench.is_confirmed(bench.quorum.begin()));
    bench.hands.pass(150, 0);
    assert!(bench.is_confirmed(bench.quorum.begin()), "a clock that was set a little");
    bench.hands.pass(60_000, 60_000);
    assert!(bench.is_confirmed(bench.quorum.begin()), "time that passed for both");
    bench.hands.pass(60_000, 0);
    let start = bench.quorum.begin();
    assert!(!bench.is_confirmed(start));
    assert!(!bench.is_confirmed(bench.quorum.begin()), "nor for the reads after the first");
    bench.quorum.followed(leader(1), 2, bench.quorum.sending());
    assert!(bench.is_confirmed(start));
}

#[tokio::test]
async fn waiting_ends_when_a_quorum_follows() {
    let bench = Bench::new(&[&[1, 2, 3]]);
    let start = bench.quorum.begin();
    let waiting = {
        let quorum = Arc::clone(&bench.quorum);
        tokio::spawn(async move { quorum.confirmed(leader(1), start, Duration::ZERO).await })
    };
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    bench.quorum.followed(leader(1), 3, bench.quorum.sending());
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("it ends").expect("well");
}

#[tokio::test]
async fn a_promise_names_what_was_applied_after_the_quorum_followed() {
    let bench = Bench::new(&[&[1, 2, 3]]);
    assert_eq!(bench.quorum.promise(|| Revision(7)), None, "nobody has followed yet");
    bench.quorum.followed(leader(1), 2, bench.quorum.sending());
    pass(Duration::from_millis(30)).await;
    let told = bench.quorum.promise(|| Revision(7)).expect("a promise");
    assert_eq!(told.revision, Revision(7));
    assert!(told.age_ms >= 30, "{told:?}");
    assert_eq!(told.as_of_ms, 1_000_000 - told.age_ms);
}

/// A new leader may have entries in its log that its predecessor acknowledged and it has not applied. Until an entry of
/// its own is applied, "you have all that I have applied" would be told of a state that is older than it claims.
#[tokio::test]
async fn a_new_leader_promises_nothing_before_an_entry_of_its_own() {
    let mut bench = Bench::new(&[&[1, 2, 3]]);
    bench.metrics.vote = Vote::new_committed(2, 1);
    bench.metrics_tx.send(bench.metrics.clone()).expect("heard");
    bench.quorum.followed(leader(2), 2, bench.quorum.sending());
    assert_eq!(bench.quorum.promise(|| Revision(7)), None);
    bench.metrics.last_applied = Some(log_id(2, 1, 2));
    bench.metrics_tx.send(bench.metrics.clone()).expect("heard");
    assert!(bench.quorum.promise(|| Revision(7)).is_some());
    bench.metrics.vote = Vote::new_committed(2, 3);
    bench.metrics_tx.send(bench.metrics.clone()).expect("heard");
    assert_eq!(bench.quorum.promise(|| Revision(7)), None, "another replica leads");
}
